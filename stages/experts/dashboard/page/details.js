// One expert: its tokens, the contexts that activate it most, and the model without it.

import { by, el, replace } from "../../../../pipeline/dashboard/page/dom.js";
import { change, count, fixed, numberTable, share, visible } from "./tables.js";

/** Shows an expert of the joined findings; `choose` is told of another one to go to. */
export function showDetail(expert, found, choose) {
  if (expert === undefined) {
    by("detail-title").textContent = "Contexts of an expert";
    return replace(
      by("detail-body"),
      el("p", { class: "note" }, "Choose an expert in the list or on the map."),
    );
  }
  by("detail-title").textContent = `Expert ${expert.name}`;
  replace(
    by("detail-body"),
    facts(expert),
    ...tokens(expert),
    ...contexts(expert),
    ...ablation(expert, found),
    ...paths(expert, found, choose),
  );
}

function facts({ uses, weight, specificity, cluster, excess, z }) {
  const parts = [
    uses !== undefined && `${count(uses)} uses`,
    weight !== undefined && `mean weight ${fixed(weight, 3)}`,
    typeof specificity === "number" && `specificity ${fixed(specificity, 2)} nats`,
    cluster !== undefined && `cluster c${cluster}`,
    z !== undefined && `excess loss ${fixed(excess, 3)} nats (z ${fixed(z, 1)})`,
  ];
  return el("p", {}, parts.filter((part) => part !== false).join(", "));
}

function tokens({ tokens }) {
  if (tokens.length === 0) return [];
  return [
    el("h3", {}, "Tokens"),
    el(
      "ul",
      { class: "bars" },
      tokens.map(({ token, share: part }) =>
        el(
          "li",
          {},
          el("bdi", {}, visible(token)),
          el("meter", { min: 0, max: 1, value: part, "aria-hidden": "true" }),
          share(part),
        )
      ),
    ),
  ];
}

function contexts({ contexts }) {
  const head = el("h3", {}, "Contexts, by weight");
  if (contexts.length === 0) {
    return [
      head,
      el(
        "p",
        { class: "note" },
        "The findings hold contexts of the most used and most special experts alone; experts --experts N has more.",
      ),
    ];
  }
  return [
    head,
    el(
      "ol",
      { class: "contexts" },
      contexts.map(({ before, token, after, weight }) =>
        el(
          "li",
          {},
          el(
            "span",
            { class: "context", dir: "auto" },
            shown(before),
            el("mark", {}, shown(token)),
            shown(after),
          ),
          el("span", { class: "weight" }, ` ${fixed(weight, 3)}`),
        )
      ),
    ),
  ];
}

function ablation({ edit }, { ablation: { nats }, token_texts }) {
  if (edit === undefined) return [];
  const { controls, keepers, by_token } = edit;
  const beside = controls.summary === undefined
    ? ""
    : `; random experts of equal use ${change(controls.summary.mean)} ± ${
      fixed(controls.summary.deviation, 5)
    }`;
  const rows = by_token.slice(0, 5).map((each) => [
    token_texts[each.token] === undefined ? String(each.token) : visible(token_texts[each.token]),
    count(each.count),
    fixed(each.nats, 3),
    change(each.change),
  ]);
  return [
    el("h3", {}, "Without it"),
    el(
      "p",
      {},
      `The loss of ${nats.toFixed(4)} nats changes by ${change(edit.change)}` +
        (keepers.change === null ? "" : `, that of its own tokens by ${change(keepers.change)}`) +
        `${beside}.`,
    ),
    rows.length === 0 ? undefined : region(
      "Next tokens whose loss changes most",
      ["Next token", "Predictions", "Loss", "Change"],
      rows,
    ),
  ].filter((part) => part !== undefined);
}

function paths({ layer, expert }, found, choose) {
  const own = found.paths.filter(({ path }) => path.layer === layer && path.from === expert);
  if (own.length === 0) return [];
  const best = (point) =>
    point.best.slice(0, 2).map(({ token, probability }) => {
      const text = found.token_texts[token];
      return `${text === undefined ? token : visible(text)} ${share(probability)}`;
    }).join(", ");
  return [
    el("h3", {}, "With another's code in its place"),
    region(
      "Paths between codes",
      ["To", "Kind", "Divergence at the end", "Next token at the end"],
      own.map(({ end, path }) => [
        el(
          "button",
          { type: "button", class: "plain", onclick: () => choose(`${layer}:${path.to}`) },
          `${layer}:${path.to}`,
        ),
        end === "near" ? "near" : "random",
        path.points.at(-1).divergence.toExponential(1),
        best(path.points.at(-1)),
      ]),
      { texts: [1, 3] },
    ),
    el(
      "p",
      { class: "note" },
      `Without the expert the divergence is ${
        own[0].path.without.divergence.toExponential(1)
      } nats.`,
    ),
  ];
}

/** A table that scrolls by itself where it is too wide. */
function region(title, ...parts) {
  const attributes = { class: "scroll", tabindex: "0", role: "region", "aria-label": title };
  return el("div", attributes, numberTable(title, ...parts));
}

/** Text of a context: line breaks as signs. */
function shown(text) {
  return text.replaceAll("\n", "↵").replaceAll("\t", "⇥");
}
