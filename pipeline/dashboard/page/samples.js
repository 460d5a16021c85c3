// Texts that models in training wrote: a row a step and a prompt, a column a drawn node.

import { by, el, get, oneAtATime, replace } from "./dom.js";

/** Steps of a node that are asked for, at first and with each press of the button. */
const STEPS = 10;
/** The server gives no more at once. */
const MOST = 50;
const ENDS = {
  endoftext: "the document ends",
  context: "the context is full",
  not_finite: "logits are not finite",
};

/** The panel of samples. */
export class Samples {
  #nodes = [];
  /** By key: the steps that were read last, and of which state. */
  #read = new Map();
  #wanted = STEPS;

  constructor() {
    by("sample-controls").addEventListener("submit", (event) => event.preventDefault());
    by("sample-prompt").addEventListener("input", () => this.#render());
    by("sample-more").addEventListener("click", () => {
      this.#wanted += STEPS;
      this.#look();
    });
  }

  /** Shows the texts of drawn nodes, `{ key, label, colour, samples }`. */
  show(nodes) {
    const keys = (list) => list.map(({ key, label }) => `${key} ${label}`).join();
    const own = nodes.filter(({ samples }) => samples !== undefined && samples.steps > 0);
    if (keys(own) !== keys(this.#nodes)) this.#wanted = STEPS;
    this.#nodes = own;
    this.#look();
  }

  #look = oneAtATime(async () => {
    by("samples-note").textContent = "";
    try {
      await Promise.all(this.#nodes.map((node) => this.#readNode(node)));
    } catch (error) {
      by("samples-note").textContent = `The samples can't be read: ${error.message}`;
    }
    this.#render();
  });

  async #readNode({ key, samples }) {
    const state = `${samples.steps} ${samples.step} ${this.#wanted}`;
    if (this.#read.get(key)?.state === state) return;
    const steps = [];
    let more = true;
    while (more && steps.length < this.#wanted) {
      const limit = Math.min(MOST, this.#wanted - steps.length);
      const query = [["key", key], ["limit", limit]];
      if (steps.length > 0) query.push(["before", steps.at(-1).step]);
      const answer = await get("/api/samples", query);
      steps.push(...answer.steps);
      more = answer.more;
    }
    this.#read.set(key, { state, steps, more });
  }

  #render() {
    const columns = this.#nodes.map((node) => ({ ...node, ...this.#read.get(node.key) }))
      .filter(({ steps }) => steps !== undefined);
    by("samples").hidden = columns.length === 0;
    if (columns.length === 0) return replace(by("sample-steps"));
    const prompts = new Set(
      columns.flatMap(({ steps }) => steps.flatMap((one) => one.samples.map((s) => s.prompt))),
    );
    const chosen = this.#choosePrompt([...prompts]);
    // Where one node has more steps than were read, others show none that are older either.
    const oldest = Math.max(...columns.map(({ steps, more }) => more ? steps.at(-1).step : -1));
    const steps = [...new Set(columns.flatMap((node) => node.steps.map(({ step }) => step)))]
      .filter((step) => step >= oldest).sort((a, b) => b - a);
    const rows = steps.flatMap((step) =>
      [...prompts].filter((prompt) => chosen === undefined || prompt === chosen)
        .flatMap((prompt) => row(step, prompt, columns))
    );
    replace(
      by("sample-steps"),
      el(
        "table",
        { class: "samples" },
        el("caption", { class: "hidden" }, "Samples by update and model"),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            el("th", { scope: "col" }, "Step"),
            columns.map(({ label, colour }) =>
              el(
                "th",
                { scope: "col" },
                el("span", { class: `swatch c${colour}`, "aria-hidden": "true" }),
                label,
              )
            ),
          ),
        ),
        el("tbody", {}, rows),
      ),
    );
    by("sample-more").hidden = !columns.some(({ more }) => more);
  }

  /** Fills the list of prompts; says which one is chosen, or nothing for all. */
  #choosePrompt(prompts) {
    const select = by("sample-prompt");
    const before = select.selectedIndex > 0 ? this.prompts?.[select.selectedIndex - 1] : undefined;
    if (JSON.stringify(this.prompts) !== JSON.stringify(prompts)) {
      this.prompts = prompts;
      const name = (prompt) => prompt === "" ? "(none)" : prompt.slice(0, 60);
      replace(
        select,
        el("option", {}, "all"),
        ...prompts.map((prompt) => el("option", {}, name(prompt))),
      );
      select.selectedIndex = prompts.indexOf(before) + 1;
    }
    return prompts.includes(before) ? before : undefined;
  }
}

/** The texts of a step after one prompt, or nothing where no node has one. */
function row(step, prompt, columns) {
  const found = columns.map(({ steps }) =>
    steps.find((one) => one.step === step)?.samples.filter((one) => one.prompt === prompt) ?? []
  );
  if (found.every((samples) => samples.length === 0)) return [];
  return [el(
    "tr",
    {},
    el("th", { scope: "row" }, String(step)),
    found.map((samples) => el("td", {}, samples.map(text))),
  )];
}

function text({ prompt, text, finish }) {
  return el(
    "p",
    { class: "sample", dir: "auto" },
    prompt === "" ? undefined : el("b", {}, prompt),
    text,
    finish in ENDS ? el("i", {}, ` (${ENDS[finish]})`) : undefined,
  );
}
