// The graph, the tables of runs, nodes and parameters, and the results.

import { by, duration, el, format, get, replace, svg, table } from "./dom.js";

/** Rows of one table; the rest is found with the filter. */
const ROWS = 300;
const SIGNS = {
  waiting: "·",
  running: "▶",
  cached: "=",
  done: "✓",
  failed: "✗",
  blocked: "⊘",
  interrupted: "‖",
  killed: "✗",
  submitted: "⇢",
};

function stateCell(state) {
  const sign = el("span", { "aria-hidden": "true", class: "sign" }, SIGNS[state] ?? "");
  return el("span", { class: `state ${state}` }, sign, ` ${state}`);
}

function took(seconds) {
  return el("span", { class: "took" }, duration(seconds));
}

/** Draws the list of runs; `choose` is told which are to be seen. */
export function showRuns(runs, { chosen, letterOf }, choose) {
  const rows = runs.slice(0, ROWS).map(({ run, state, command, started_at, finished_at }) => {
    const box = el("input", {
      type: "checkbox",
      id: `run-${run}`,
      checked: chosen.includes(run),
      onchange: ({ target }) => choose(run, target.checked),
    });
    const seconds = finished_at === null
      ? undefined
      : (Date.parse(finished_at) - Date.parse(started_at)) / 1000;
    const name = el("label", { for: `run-${run}`, class: "name" }, box, ` ${run}`);
    const letter = chosen.includes(run) && chosen.length > 1 ? letterOf(run) : "";
    return [name, letter, stateCell(state), took(seconds), el("code", {}, command)];
  });
  replace(
    by("runs"),
    rows.length === 0
      ? el("p", {}, "There are no runs yet; they appear here when they begin.")
      : table(["Run", "Letter", "State", "Took", "Command"], rows),
  );
}

/** Draws a layout of the server. */
export function drawGraph({ width, height, nodes, edges }, run) {
  if (nodes.length === 0) {
    by("graph-note").textContent = run.nodes.size > 0
      ? `${run.nodes.size} nodes are too many to draw; the table of nodes has them.`
      : "The run has no nodes yet.";
    return replace(by("graph"));
  }
  by("graph-note").textContent = "";
  const arrow = svg(
    "marker",
    {
      id: "arrow",
      viewBox: "0 0 8 8",
      refX: 8,
      refY: 4,
      markerWidth: 7,
      markerHeight: 7,
      orient: "auto",
    },
    svg("path", { d: "M0 0L8 4L0 8z" }),
  );
  replace(
    by("graph"),
    svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Graph" },
      svg("defs", {}, arrow),
      edges.map((points) =>
        svg("path", {
          class: "edge",
          d: points.map(({ x, y }, i) => `${i === 0 ? "M" : "L"}${x} ${y}`).join(" "),
          "marker-end": "url(#arrow)",
        })
      ),
      nodes.map(({ name, x, y, width, height }) =>
        svg(
          "g",
          { class: "node waiting", "data-node": name },
          svg("title", {}, name),
          svg("rect", { x: x - width / 2, y: y - height / 2, width, height, rx: 6 }),
          svg("text", { x, y: y + 4, "text-anchor": "middle" }, name),
          svg("text", { class: "sign", x: x - width / 2 + 4, y: y - height / 2 + 3 }, "·"),
        )
      ),
    ),
  );
}

/** Colours the graph. */
export function colourGraph(run) {
  const drawing = by("graph").querySelector("svg");
  if (drawing === null) return;
  drawing.setAttribute("aria-label", `Graph of ${run.nodes.size} nodes: ${run.summary()}`);
  for (const group of drawing.querySelectorAll("g[data-node]")) {
    const { state = "waiting", reason = "" } = run.nodes.get(group.dataset.node) ?? {};
    group.setAttribute("class", `node ${state}`);
    group.querySelector(".sign").textContent = SIGNS[state] ?? "";
    group.querySelector("title").textContent = `${group.dataset.node}: ${state} ${reason}`;
  }
}

/** Lists nodes; `drawn` says whether a key's curves are drawn, `draw` changes it. */
export function showNodes(runs, { filter, drawn, draw, letterOf }) {
  const several = runs.length > 1;
  const all = runs.flatMap((run) => [...run.nodes.values()].map((node) => ({ run, node })))
    .filter(({ node }) => node.node.includes(filter));
  const rows = all.slice(0, ROWS).map(({ run, node }) => {
    const { key, state, progress, since, seconds } = node;
    const box = el("input", {
      type: "checkbox",
      id: `node-${run.run}-${node.node}`,
      checked: key !== undefined && drawn(key),
      disabled: key === undefined,
      onchange: ({ target }) => draw(run, node, target.checked),
    });
    const name = el(
      "label",
      { for: `node-${run.run}-${node.node}`, class: "name" },
      box,
      ` ${node.node}`,
    );
    const bar = progress === undefined ? "" : el(
      "span",
      { class: "progress" },
      el("progress", {
        max: Math.max(progress.total, 1),
        value: progress.done,
        "aria-label": `Progress of ${node.node}`,
      }),
      ` ${progress.done}/${progress.total} ${progress.unit} ${progress.remark}`,
    );
    const sofar = since !== undefined && state === "running"
      ? (Date.now() - since) / 1000
      : undefined;
    const note = node.error ?? (state === "done" ? "" : node.reason ?? "");
    return [
      name,
      several ? letterOf(run.run) : undefined,
      stateCell(state),
      bar,
      took(seconds ?? sofar),
      note,
    ]
      .filter((cell) => cell !== undefined);
  });
  const head = ["Node", ...several ? ["Run"] : [], "State", "Progress", "Took", "Note"];
  replace(by("nodes"), table(head, rows));
  by("nodes-note").textContent = all.length > ROWS
    ? `${all.length - ROWS} more; the filter finds them.`
    : "";
}

/** Lists the parameters in which the drawn nodes differ. */
export function showParameters(drawn) {
  const flat = drawn.map(({ params }) => flatten(params));
  const paths = [...new Set(flat.flatMap((values) => [...values.keys()]))].sort();
  const rows = paths.flatMap((path) => {
    const values = flat.map((of) => of.has(path) ? JSON.stringify(of.get(path)) : "–");
    return new Set(values).size > 1 ? [[el("code", {}, path), ...values]] : [];
  });
  replace(
    by("parameters"),
    rows.length > 0
      ? table(["Parameter", ...drawn.map(({ label }) => label)], rows)
      : el("p", {}, drawn.length < 2 ? "Draw two nodes to compare them." : "They are the same."),
  );
}

function flatten(value, path = "", to = new Map()) {
  if (typeof value !== "object" || value === null) return to.set(path, value);
  for (const [name, item] of Object.entries(value)) {
    flatten(item, path === "" ? name : `${path}.${name}`, to);
  }
  return to;
}

/** Last values of the drawn nodes by metric. */
export function showValues(drawn) {
  const names = [...new Set(drawn.flatMap(({ metrics }) => metrics.map(({ name }) => name)))];
  const rows = names.sort().map((name) => [
    el("code", {}, name),
    ...drawn.map(({ metrics }) => {
      const found = metrics.find((metric) => metric.name === name);
      return found === undefined ? "–" : `${format(found.value)} at ${found.step}`;
    }),
  ]);
  replace(
    by("values"),
    rows.length > 0
      ? table(["Metric", ...drawn.map(({ label }) => label)], rows)
      : el("p", {}, "There are none."),
  );
}

const fileUrl = (key, output, path) =>
  ["/files", key, output, ...path === "" ? [] : path.split("/")]
    .map((part, i) => i === 0 ? part : encodeURIComponent(part)).join("/");

/** Links pages and figures that the nodes of runs published, pages first. */
export async function showResults(runs) {
  const parts = [];
  const seen = new Set();
  for (const run of runs) {
    for (const { node, key, state } of run.nodes.values()) {
      if (key === undefined || seen.has(key) || !["done", "cached"].includes(state)) continue;
      // Figures come last in a graph; what thousands of nodes publish is not looked through.
      seen.add(key);
      if (seen.size > ROWS) break;
      const { outputs } = await get("/api/node", [["key", key]]);
      const files = outputs.flatMap(({ name, files }) =>
        files.map(({ path }) => ({ path: path || name, url: fileUrl(key, name, path) }))
      );
      const pages = files.filter(({ path }) => /\.(html|md)$/.test(path));
      if (pages.length === 0) continue;
      const figures = files.filter(({ path }) => path.endsWith(".svg"));
      parts.push(
        el("h3", {}, `${node} of run ${run.run}`),
        el("ul", {}, pages.map(({ path, url }) => el("li", {}, el("a", { href: url }, path)))),
        el(
          "ul",
          { class: "figures", "aria-label": "Figures" },
          figures.map(({ path, url }) => {
            const name = path.split("/").at(-1).replace(/\.svg$/, "");
            const picture = el("img", { src: url, alt: "", loading: "lazy" });
            return el("li", {}, el("a", { href: url }, picture, el("span", {}, name)));
          }),
        ),
      );
    }
  }
  replace(by("results"), ...parts.length > 0 ? parts : [el("p", {}, "No report yet.")]);
}
