// The list of experts: joined from what was found of each, searched by name and by token.

import { by, el, replace } from "../../../../pipeline/dashboard/page/dom.js";
import { change, count, fixed, numberTable, share, visible } from "./tables.js";

/** Rows of the list; the search finds the rest. */
const ROWS = 200;

/** Everything that was found of each expert, by `LAYER:NAME`, in the order of the findings. */
export function joinExperts(found) {
  const experts = new Map();
  const at = (layer, expert) => {
    const name = `${layer}:${expert}`;
    if (!experts.has(name)) experts.set(name, { name, layer, expert, tokens: [], contexts: [] });
    return experts.get(name);
  };
  for (const { layer, experts: list } of found.used) {
    for (const { expert, uses, mean_weight, tokens } of list) {
      Object.assign(at(layer, expert), { uses, weight: mean_weight, tokens });
    }
  }
  for (const each of found.contexts) {
    const { layer, expert, uses, mean_weight, specificity, contexts, tokens } = each;
    Object.assign(at(layer, expert), { uses, weight: mean_weight, specificity, contexts, tokens });
  }
  for (const { layer, map } of found.clusters) {
    map.experts.forEach((expert, i) => at(layer, expert).cluster = map.labels[i]);
  }
  for (const edit of found.ablation.edits) {
    const expert = experts.get(edit.name);
    if (expert !== undefined) Object.assign(expert, { edit, change: edit.change });
  }
  for (const { layer, expert, change } of found.strongest) at(layer, expert).change ??= change;
  for (const { layer, worst } of found.errors) {
    for (const { expert, excess, z } of worst) Object.assign(at(layer, expert), { excess, z });
  }
  return experts;
}

/** Whether an expert is what a search is for: the start of its name, or a part of one of its tokens. */
function matches({ name, expert, tokens, contexts }, query) {
  if (query === "") return true;
  if (name.startsWith(query) || expert === query) return true;
  const small = query.toLowerCase();
  return tokens.some(({ token }) => token.toLowerCase().includes(small)) ||
    contexts.some(({ token }) => token.toLowerCase().includes(small));
}

/** The list. */
export class ExpertList {
  #experts = [];
  #several = true;
  #marked = "";

  /** `choose` is told the name of an expert, `searched` the names that a search leaves. */
  constructor({ choose, searched }) {
    this.choose = choose;
    this.searched = searched;
    for (const id of ["search", "layer", "order"]) {
      by(id).addEventListener("input", () => this.#render());
    }
    by("search").addEventListener("keydown", (event) => {
      // Enter shows the first that was found.
      if (event.key !== "Enter") return;
      const [first] = this.#found();
      if (first !== undefined) this.choose(first.name);
    });
  }

  show(found, experts) {
    this.#experts = [...experts.values()];
    this.#several = found.use.length > 1;
    replace(
      by("layer"),
      el("option", { value: "" }, "all"),
      ...found.use.map(({ layer }) => el("option", { value: layer }, String(layer))),
    );
    this.#render();
  }

  /** Marks the expert that is shown. */
  mark(name) {
    this.#marked = name;
    for (const button of by("list").querySelectorAll("button")) {
      if (button.textContent === name) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  #found() {
    const query = by("search").value;
    const layer = by("layer").value;
    const order = by("order").value;
    // Losses matter whichever way they change.
    const by_value = (expert) => {
      const value = expert[order];
      return value === undefined || value === null
        ? -Infinity
        : order === "change"
        ? Math.abs(value)
        : value;
    };
    return this.#experts
      .filter((expert) => layer === "" || String(expert.layer) === layer)
      .filter((expert) => matches(expert, query.trim() === "" ? query : query.trim()))
      .sort((a, b) => {
        const [x, y] = [by_value(a), by_value(b)];
        return x === y ? 0 : y - x;
      });
  }

  #render() {
    const found = this.#found();
    const rows = found.slice(0, ROWS).map((each) => [
      el(
        "button",
        {
          type: "button",
          class: "plain",
          "aria-current": each.name === this.#marked ? "true" : undefined,
          onclick: () => this.choose(each.name),
        },
        each.name,
      ),
      count(each.uses),
      fixed(each.weight, 3),
      fixed(each.specificity, 2),
      change(each.change),
      fixed(each.z, 1),
      each.cluster === undefined ? "–" : `c${each.cluster}`,
      each.tokens.slice(0, 3).map(({ token, share: part }) => `${visible(token)} ${share(part)}`)
        .join(", "),
    ]);
    const head = [
      ...["Expert", "Uses", "Weight", "Specificity", "Loss without it", "Errors, z", "Cluster"],
      "Tokens",
    ];
    replace(by("list"), numberTable("Experts", head, rows, { texts: [6, 7] }));
    const searching = by("search").value.trim() !== "" || by("layer").value !== "";
    by("list-note").textContent = found.length === 0
      ? "No expert of these findings has that name or such a token."
      : found.length > ROWS
      ? `${count(found.length)} experts; the first ${ROWS} are listed.`
      : `${count(found.length)} ${found.length === 1 ? "expert" : "experts"}.`;
    this.searched(searching ? new Set(found.map(({ name }) => name)) : undefined);
  }
}
