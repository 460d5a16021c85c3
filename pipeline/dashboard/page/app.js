// The page: which runs are seen, and what is drawn when something has happened.

import { Curves } from "./curves.js";
import { by, el, get, replace, themeButton } from "./dom.js";
import {
  colourGraph,
  drawGraph,
  showNodes,
  showParameters,
  showResults,
  showRuns,
  showValues,
} from "./nodes.js";
import { Connection, RunState } from "./runs.js";
import { Samples } from "./samples.js";

/** Between two looks at the list of runs, milliseconds. */
const RUNS_PAUSE = 5000;
/** Nodes that are drawn until the user chooses. */
const DRAWN = 6;
const RUNS_AT_ONCE = 8;

let listed = [];
let seen = [];
let connection;
/** Whether a run was chosen, by the address or as the newest. */
let begun = false;
/** Whether the user chose nodes: then none are chosen for them. */
let choosing = false;
let looked = new Set();
let drawingOf = "";

const samples = new Samples();
const curves = new Curves((nodes) => {
  showParameters(nodes);
  showValues(nodes);
  samples.show(nodes);
});

/** A name that fits beside others: runs of one list are told apart by letters. */
const label = (run, node) => seen.length > 1 ? `${letterOf(run.run)} ${node.node}` : node.node;
const letterOf = (run) => String.fromCharCode(65 + seen.findIndex((one) => one.run === run));

function draw(run, node, wanted) {
  const { key, params } = node;
  curves.draw({ key, params, label: label(run, node) }, wanted);
}

// Parts that are due to be drawn anew; at most four times a second.
const due = new Set();
let timer;
function later(...parts) {
  for (const part of parts) due.add(part);
  timer ??= setTimeout(() => {
    timer = undefined;
    const now = new Set(due);
    due.clear();
    if (now.has("nodes")) renderNodes();
    if (now.has("log")) renderLog();
    if (now.has("results")) showResults(seen).catch(complain);
    if (now.has("choice")) choose().catch(complain);
  }, 250);
}

function complain(error) {
  by("connection").textContent = error.message;
}

function renderNodes() {
  const [first] = seen;
  if (first !== undefined) {
    if (drawingOf !== `${first.run} ${first.nodes.size}`) {
      drawingOf = `${first.run} ${first.nodes.size}`;
      get("/api/layout", [["run", first.run]]).then((layout) => {
        drawGraph(layout, first);
        colourGraph(first);
      }).catch(complain);
    } else colourGraph(first);
  }
  showNodes(seen, {
    letterOf,
    filter: by("node-filter").value.trim(),
    drawn: (key) => curves.has(key),
    draw: (run, node, wanted) => {
      choosing = true;
      draw(run, node, wanted);
    },
  });
}

function renderLog() {
  const lines = seen.flatMap((run) => run.lines).sort((a, b) => a.at - b.at).slice(-200);
  const log = by("log");
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  const problems = seen.flatMap((run) => run.problems.map((text) => ({ at: Infinity, text })));
  replace(
    log,
    ...[...lines, ...problems].map(({ at, text }) => {
      const time = Number.isFinite(at) ? new Date(at) : undefined;
      return el(
        "li",
        {},
        time && el("time", { datetime: time.toISOString() }, time.toLocaleTimeString()),
        ` ${text}`,
      );
    }),
  );
  if (atEnd) log.scrollTop = log.scrollHeight;
}

/** Draws the first nodes that have curves. */
async function choose() {
  if (choosing) return;
  for (const run of seen) {
    for (const node of run.nodes.values()) {
      const { key, state } = node;
      if (curves.size >= DRAWN || looked.size > 300) return;
      if (key === undefined || looked.has(key) || curves.has(key)) continue;
      if (state !== "running") looked.add(key);
      const { metrics } = await get("/api/node", [["key", key]]);
      if (metrics.some(({ points }) => points > 1)) draw(run, node, true);
    }
  }
  later("nodes");
}

function see(runs) {
  connection?.close();
  seen = runs.map((run) => new RunState(run));
  choosing = false;
  looked = new Set();
  drawingOf = "";
  curves.clear();
  const byName = new Map(seen.map((run) => [run.run, run]));
  history.replaceState(null, "", `#${new URLSearchParams(runs.map((run) => ["run", run]))}`);
  if (runs.length === 0) return later("nodes", "log", "results");
  connection = new Connection(runs, (kind, data) => hear(kind, data, byName));
}

function hear(kind, data, runs) {
  const run = runs.get(data.run);
  switch (kind) {
    case "open":
      by("connection").textContent = "Live";
      return;
    case "lost":
      by("connection").textContent = "Connection lost; trying again";
      return;
    case "over":
      by("connection").textContent = "Ended";
      return later("nodes", "log", "results", "choice");
    case "reset":
      for (const one of runs.values()) if (run === undefined || one === run) one.clear();
      return;
    case "metrics":
      if (curves.has(data.key)) curves.grow();
      else later("choice");
      return;
    case "state":
      run.state = data.state;
      refresh();
      return;
    case "event": {
      const news = run.apply(data);
      if (news !== undefined && by("connection").textContent === "Live") {
        by("news").textContent = news;
      }
      if (data.type === "sample") return curves.grow();
      if (data.type === "node") later("choice", ...data.state === "running" ? [] : ["results"]);
      later(data.type === "line" ? "log" : "nodes");
    }
  }
}

async function refresh() {
  const answer = await get("/api/runs");
  by("title").textContent = answer.title;
  document.title = answer.title;
  curves.hints = answer.hints;
  by("pages").hidden = answer.pages.length === 0;
  if (by("pages").childElementCount === 0) {
    replace(by("pages"), ...answer.pages.map(({ path, title }) => el("a", { href: path }, title)));
  }
  const changed = JSON.stringify(listed) !== JSON.stringify(answer.runs);
  listed = answer.runs;
  if (!begun && listed.length > 0) {
    begun = true;
    const asked = new URLSearchParams(location.hash.slice(1)).getAll("run")
      .filter((run) => listed.some((one) => one.run === run));
    see(asked.length > 0 ? asked.slice(0, RUNS_AT_ONCE) : [listed[0].run]);
  }
  if (changed) renderRuns();
}

function renderRuns() {
  const chosen = seen.map(({ run }) => run);
  showRuns(listed, { chosen, letterOf }, (run, wanted) => {
    const others = chosen.filter((one) => one !== run);
    see(wanted ? [...others, run].slice(-RUNS_AT_ONCE) : others);
    renderRuns();
  });
}

themeButton(() => curves.repaint());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => curves.repaint());
by("node-controls").addEventListener("submit", (event) => event.preventDefault());
by("node-filter").addEventListener("input", () => later("nodes"));
// Times of running nodes.
setInterval(() => {
  if (seen.some(({ state }) => state === "running")) later("nodes");
}, 1000);
setInterval(() => refresh().catch(complain), RUNS_PAUSE);
refresh().catch(complain);
