// The page: takes the model from its scripts, and makes text of what the form says.

import "./runtime.ts";
import { by, el } from "../../../../pipeline/dashboard/page/dom.js";
import { PAGE_GLOBAL } from "../page_model.ts";
import { drawHeatMap, offerLayers } from "./heat_map.js";
import { Received } from "./received.ts";
import { Session } from "./session.ts";

/** Between two drawings of the heat map while text comes, milliseconds. */
const PAUSE = 250;
const SAMPLING = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"];

let session;
/** Ends the text that is being made. */
let running;

const tell = (text) => by("status").textContent = text;

/** Says what went wrong, in one line. */
function complain(error) {
  by("error").textContent = error instanceof Error ? error.message : String(error);
  tell("");
}

/** The number in a field; NaN where it is empty. */
const numberIn = (id) => by(id).value.trim() === "" ? NaN : Number(by(id).value);

const received = new Received(() => tell(`Loading ${Math.round(100 * received.progress)} % …`));
globalThis[PAGE_GLOBAL] = received;

// A script that is not there: errors of elements don't bubble.
addEventListener("error", ({ target }) => {
  if (target instanceof HTMLScriptElement) {
    complain(`${target.getAttribute("src")} could not be loaded; the page needs all of its files.`);
  }
}, true);

/** Scripts that are deferred have run when this is called. */
async function begin() {
  const { model, weights } = received.take();
  by("title").textContent = model.name;
  document.title = `${model.name} – playground`;
  tell("Preparing the GPU …");
  session = await Session.open(model, weights);
  by("device").textContent = session.software
    ? `${session.device}, on the processor`
    : session.device;
  if (Number.isFinite(session.longest)) {
    by("context").max = session.longest;
    by("context").value = Math.min(session.longest, Number(by("context").value));
  }
  offerLayers(session.layers);
  by("experts").hidden = session.layers.length === 0;
  by("generate").disabled = false;
  tell("Ready");
}

/** Draws the heat map soon, and not more often than it can be read. */
let due;
function drawSoon() {
  due ??= setTimeout(() => {
    due = undefined;
    drawHeatMap(session);
  }, PAUSE);
}

function finish({ tokens, finish, prompt_tokens, decode_passes, decode_seconds }) {
  const why = { endoftext: ", where the document ends", max_tokens: "", context: ", context full" };
  const speed = decode_passes > 0
    ? `, ${(decode_passes / decode_seconds).toPrecision(3)} tokens/s`
    : "";
  tell(`${tokens} tokens after a prompt of ${prompt_tokens}${why[finish]}${speed}`);
}

async function generate() {
  by("error").textContent = "";
  running = new AbortController();
  by("generate").disabled = true;
  by("stop").disabled = false;
  tell("Reading the prompt …");
  const prompt = by("prompt").value;
  const made = document.createTextNode("");
  const text = by("text");
  text.replaceChildren(el("span", { class: "given" }, prompt), made);
  let pieces = 0;
  try {
    const run = session.generate({
      prompt,
      max_tokens: numberIn("max_tokens"),
      context: numberIn("context"),
      seed: numberIn("seed"),
      sampling: Object.fromEntries(SAMPLING.map((id) => [id, numberIn(id)])),
      signal: running.signal,
    });
    for (;;) {
      const { done, value } = await run.next();
      if (done) {
        finish(value);
        break;
      }
      const last = text.scrollTop + text.clientHeight >= text.scrollHeight - 4;
      made.appendData(value);
      if (last) text.scrollTop = text.scrollHeight;
      tell(`${++pieces} …`);
      drawSoon();
    }
  } catch (error) {
    if (running.signal.aborted) tell(`Stopped after ${pieces}`);
    else complain(error);
  } finally {
    running = undefined;
    by("generate").disabled = false;
    by("stop").disabled = true;
    drawSoon();
  }
}

by("form").noValidate = true;
by("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (session !== undefined && running === undefined) generate();
});
by("stop").addEventListener("click", () => running?.abort());
by("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) by("form").requestSubmit();
});
for (const id of ["layer", "columns"]) by(id).addEventListener("input", () => drawHeatMap(session));
document.addEventListener("DOMContentLoaded", () => {
  if (by("error").textContent === "") begin().catch(complain);
});
