// The experts of a layer by token, as a table whose cells have both a number and a colour: one is the other's alternative.

import { by, el, replace } from "../../../../pipeline/dashboard/page/dom.js";

/** Steps of the colours, `h1` … `h7` in the style. */
const STEPS = 7;
/** Tokens that are drawn at most, the last ones. */
const ROWS = 400;

/** Spaces and ends of lines as signs: a token often is nothing else. */
const shown = (text) => text.replaceAll(" ", "·").replaceAll("\n", "⏎").replaceAll("\t", "⇥");

/** A weight in as few characters as tell it from others. */
export function short(weight) {
  if (weight === 0) return "";
  if (Math.abs(weight) < .005) return "<.01";
  return weight >= 10 ? weight.toFixed(1) : weight.toFixed(2).replace(/^0/, "");
}

const percent = (share) => `${(100 * share).toFixed(share < .0995 ? 1 : 0)} %`;

/** The step of a weight: its place between none and the largest. */
const step = (weight, largest) => Math.max(1, Math.min(STEPS, Math.ceil(STEPS * weight / largest)));

/** Shows the layers of a model, for the user to choose one. */
export function offerLayers(layers) {
  by("layer").replaceChildren(
    ...layers.map(({ layer, kind }) => el("option", { value: layer }, `${layer} (${kind})`)),
  );
}

/** Draws the chosen layer of a session's last text. */
export function drawHeatMap(session) {
  const number = Number(by("layer").value);
  const layer = session.layers.find((each) => each.layer === number);
  const { trace } = session;
  if (layer === undefined || trace.length === 0) {
    by("summary").textContent = "";
    by("legend").replaceChildren();
    return by("heat").replaceChildren();
  }
  const map = trace.heatMap(number, { experts: Number(by("columns").value), rows: ROWS });
  by("summary").textContent = summary(layer, map, trace.length);
  by("legend").replaceChildren(...legend(map.largest));
  replace(by("heat"), table(map, (token) => session.textOf(token)));
}

function summary({ layer, experts, kept }, { used, experts: hottest, rows }, tokens) {
  const [first] = hottest;
  const all = experts > 1e9 ? experts.toExponential(1) : experts.toLocaleString("en");
  const text = `Layer ${layer}: ${tokens} token${tokens === 1 ? "" : "s"} used ${used} of ${all} ` +
    `experts, at most ${kept} each. `;
  const hot = first === undefined
    ? ""
    : `The hottest is ${first.name}: ${first.tokens} token${
      first.tokens === 1 ? "" : "s"
    } kept it, with ${percent(first.share)} of the weight. `;
  const cut = rows.length < tokens ? `The last ${rows.length} tokens are shown. ` : "";
  return `${text}${hot}${cut}Numbers are weights in the layer's output; tokens in bold are the model's.`;
}

function legend(largest) {
  const colours = Array.from({ length: STEPS }, (_, i) => el("span", { class: `h${i + 1}` }));
  return ["0", el("span", { class: "swatches" }, colours), short(largest)];
}

function table({ experts, rows, largest }, textOf) {
  const some = rows.some(({ others }) => others !== 0);
  const head = experts.map(({ name, share }) =>
    el("th", { scope: "col" }, name, el("small", {}, percent(share)))
  );
  let before = false;
  const body = rows.map(({ place, token, made, weights, others }) => {
    const first = made && !before;
    before = made;
    const text = shown(textOf(token));
    return el(
      "tr",
      { class: `${made ? "made" : "given"}${first ? " first-made" : ""}` },
      el("th", { scope: "row", title: `${text} (token ${token})` }, el("small", {}, place), text),
      weights.map((weight) =>
        el("td", { class: weight === 0 ? false : `h${step(weight, largest)}` }, short(weight))
      ),
      some ? el("td", { class: "others" }, short(others)) : undefined,
    );
  });
  return el(
    "table",
    {},
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col" }, "Token"),
        head,
        some ? el("th", { scope: "col" }, "others") : undefined,
      ),
    ),
    el("tbody", {}, body),
  );
}
