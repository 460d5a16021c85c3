// Tables of the findings, and numbers as text.

import { by, el, replace } from "../../../../pipeline/dashboard/page/dom.js";

/** A whole number with its thousands; those of experts behind beams are too long for digits. */
export function count(number) {
  if (number === undefined || number === null) return "–";
  return number < 1e9 ? Math.round(number).toLocaleString("en") : number.toExponential(2);
}

/** A number with so many digits behind the point. */
export function fixed(number, digits) {
  return number === undefined || number === null ? "–" : number.toFixed(digits);
}

/** A change with its sign. */
export function change(number, digits = 5) {
  if (number === undefined || number === null) return "–";
  return `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(digits)}`;
}

/** Per cent. */
export function share(part) {
  // The sign stays beside its number.
  return `${(100 * part).toFixed(part < 0.1 ? 1 : 0)}\u00a0%`;
}

/** A token's text with white space that can be seen. */
export function visible(text) {
  return `“${text.replaceAll("\n", "↵").replaceAll("\t", "⇥")}”`;
}

const around = ({ mean, deviation }, digits) =>
  `${fixed(mean, digits)} ± ${fixed(deviation, digits)}`;

/** A table whose columns are numbers, but for the first and those in `texts`. */
export function numberTable(title, head, rows, { texts = [] } = {}) {
  const kind = (i) => i === 0 || texts.includes(i) ? undefined : "number";
  return el(
    "table",
    {},
    el("caption", { class: "hidden" }, title),
    el(
      "thead",
      {},
      el("tr", {}, head.map((text, i) => el("th", { scope: "col", class: kind(i) }, text))),
    ),
    el(
      "tbody",
      {},
      rows.map(([first, ...cells]) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, first),
          cells.map((cell, i) => el("td", { class: kind(i + 1) }, cell)),
        )
      ),
    ),
  );
}

/** Fills the tables of a folder; `choose` is told the name of an expert that is `known`. */
export function showTables(found, { choose, known }) {
  replace(
    by("layers"),
    numberTable(
      "Use of the experts on this text",
      [
        ...["Layer", "Experts", "Kept by a token", "Used", "Used by chance", "Half of uses by"],
        "Unevenness, nats",
      ],
      found.use.map((use) => [
        String(use.layer),
        count(use.experts),
        count(use.kept),
        count(use.used),
        count(use.used_by_chance),
        count(use.half),
        fixed(use.unevenness, 3),
      ]),
    ),
  );
  const { ablation } = found;
  by("ablation-note").textContent =
    `Experts that are left out have the weight 0. Run over ${
      count(ablation.tokens)
    } predictions; ` +
    `the loss of the model as it is, ${
      ablation.nats.toFixed(4)
    } nats. Deviations are those of random ` +
    "experts of equal use; names with c are clusters.";
  const name = (text) =>
    known(text)
      ? el("button", { type: "button", class: "plain", onclick: () => choose(text) }, text)
      : text;
  const beyond = ({ change, controls: { summary } }) =>
    summary === undefined || summary.deviation === 0
      ? null
      : (change - summary.mean) / summary.deviation;
  replace(
    by("ablation"),
    numberTable(
      "Effects of leaving experts out",
      [
        ...["Group", "Uses", "Change, nats", "Of its tokens", "Random, nats", "Deviations beyond"],
        "Token that changes most",
      ],
      ablation.edits.toSorted((a, b) => Math.abs(b.change) - Math.abs(a.change)).map((edit) => [
        name(edit.name),
        count(edit.use),
        change(edit.change),
        change(edit.keepers.change),
        edit.controls.summary === undefined
          ? "–"
          : `${change(edit.controls.summary.mean)} ± ${fixed(edit.controls.summary.deviation, 5)}`,
        fixed(beyond(edit), 1),
        edit.by_token.slice(0, 1).map((each) => {
          const text = found.token_texts[each.token];
          return `${text === undefined ? each.token : visible(text)} ${change(each.change)}`;
        }).join(),
      ]),
      { texts: [6] },
    ),
  );
  replace(
    by("promises"),
    numberTable(
      "Promises, figures and controls",
      ["Promise", "Found", "Control", "Verdict"],
      found.promises.map((each) => [each.promise, each.found, each.control, each.verdict]),
      { texts: [1, 2, 3] },
    ),
  );
  replace(
    by("information"),
    numberTable(
      "Mutual information, nats",
      [
        ...["Layer", "Label", "As counted", "Corrected", "Shuffled", "Same token", "Random"],
        "Beyond shuffled",
      ],
      found.specialisation.map((each) => [
        String(each.layer),
        found.labels[each.label],
        fixed(each.plugin, 4),
        fixed(each.corrected, 4),
        around(each.shuffled, 4),
        around(each.same_token, 4),
        around(each.random, 4),
        fixed(each.beyond_shuffled, 4),
      ]),
      { texts: [1] },
    ),
  );
  replace(
    by("errors"),
    numberTable(
      "Experts and errors",
      ["Layer", "Experts", "Above", "Shuffled", "Same token", "Below", "Shuffled", "Same token"],
      found.errors.map((each) => [
        String(each.layer),
        count(each.experts),
        count(each.above),
        around(each.shuffled.above, 1),
        around(each.same_token.above, 1),
        count(each.below),
        around(each.shuffled.below, 1),
        around(each.same_token.below, 1),
      ]),
    ),
  );
}
