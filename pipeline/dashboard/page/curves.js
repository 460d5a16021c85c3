// All panels: which nodes are drawn, how, and from which part of the server's numbers.

import { by, el, get, oneAtATime, replace } from "./dom.js";
import { familyOf, Panel } from "./panel.js";

const COLOURS = 8;
/** Between two looks at numbers that grow, milliseconds. */
const PAUSE = 1000;

/** The curves of the chosen nodes. */
export class Curves {
  #panels = new Map();
  /** Drawn nodes by key: `{ key, label, params, colour, metrics, axes }`. */
  #drawn = new Map();
  #range;
  #hints = {};

  /** `shown` is called with the drawn nodes after each look. */
  constructor(shown) {
    this.shown = shown;
    for (const id of ["axis", "log-x", "log-y", "smoothing", "metric-filter"]) {
      by(id).addEventListener("input", () => {
        if (id === "axis" || id === "log-x") this.#range = undefined;
        by("smoothing-value").textContent = by("smoothing").value;
        this.update();
      });
    }
    by("controls").addEventListener("submit", (event) => event.preventDefault());
    by("whole").addEventListener("click", () => this.#zoom(undefined));
    addEventListener("resize", () => this.update());
  }

  set hints(hints) {
    this.#hints = hints;
  }

  has(key) {
    return this.#drawn.has(key);
  }

  get size() {
    return this.#drawn.size;
  }

  /** Draws a node, or no longer. */
  draw(node, wanted) {
    if (!wanted) this.#drawn.delete(node.key);
    else if (!this.#drawn.has(node.key)) {
      const taken = new Set([...this.#drawn.values()].map(({ colour }) => colour));
      let colour = 0;
      while (taken.has(colour) && colour < COLOURS - 1) colour++;
      this.#drawn.set(node.key, { ...node, colour, metrics: [], axes: [] });
    }
    this.update();
  }

  clear() {
    this.#drawn.clear();
    this.#range = undefined;
    this.update();
  }

  repaint() {
    for (const panel of this.#panels.values()) panel.repaint();
    this.update();
  }

  #zoom(range) {
    this.#range = range;
    this.update();
  }

  /** Looks at the server's numbers, once more when something changed meanwhile. */
  update = oneAtATime(async () => {
    try {
      await this.#look();
    } catch (error) {
      by("curves-note").textContent = `The curves can't be read: ${error.message}`;
    }
  });

  /** Looks soon: numbers have come. */
  grow() {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.update();
    }, PAUSE);
  }

  async #look() {
    const nodes = [...this.#drawn.values()];
    await Promise.all(nodes.map(async (node) => {
      Object.assign(node, await get("/api/node", [["key", node.key]]));
    }));
    const families = this.#families(nodes);
    this.#arrange(families);
    const axis = by("axis").value;
    const settings = {
      logX: by("log-x").checked,
      logY: by("log-y").checked,
      range: this.#range,
    };
    const columns = Math.min(2000, [...this.#panels.values()][0]?.columns ?? 500);
    const names = [...families.values()].flat();
    const query = [
      ["axis", axis],
      ["columns", columns],
      ["smoothing", by("smoothing").value],
      ["log", settings.logX ? "1" : "0"],
      ...this.#range === undefined ? [] : [["from", this.#range[0]], ["to", this.#range[1]]],
    ];
    const numbers = new Map(
      await Promise.all(nodes.map(async ({ key, metrics }) => {
        const own = new Set(metrics.map(({ name }) => name));
        const asked = names.filter((name) => own.has(name)).slice(0, 200);
        const more = asked.map((name) => ["name", name]);
        return [key, await get("/api/curves", [["key", key], ...query, ...more])];
      })),
    );
    for (const [family, members] of families) {
      const curves = nodes.flatMap((node) =>
        members.flatMap((name, i) => {
          const points = numbers.get(node.key)[name];
          if (points === undefined || points.x.length === 0) return [];
          const { member } = familyOf(name);
          const label = member === "" ? node.label : `${node.label} ${member}`;
          // One node: a colour for each layer. Several: a colour for each node.
          const colour = nodes.length === 1 ? i % COLOURS : node.colour;
          return [{ label, colour: `--c${colour}`, dash: nodes.length === 1 ? 0 : i, ...points }];
        })
      );
      this.#panels.get(family)?.show(curves, settings);
    }
    this.#describe(nodes, axis);
    this.shown(nodes);
  }

  /** Names of metrics that make curves, by family, in the order of panels. */
  #families(nodes) {
    const filter = by("metric-filter").value.trim();
    const names = new Set(
      nodes.flatMap(({ metrics }) =>
        metrics.flatMap(({ name, points }) => points > 1 && name.includes(filter) ? [name] : [])
      ),
    );
    const families = new Map();
    for (const name of [...names].sort(new Intl.Collator("en", { numeric: true }).compare)) {
      const { family } = familyOf(name);
      families.set(family, [...families.get(family) ?? [], name]);
    }
    const first = this.#hints.first ?? [];
    const place = (family) => {
      const at = first.indexOf(family);
      return at < 0 ? first.length : at;
    };
    return new Map([...families].sort(([a], [b]) => place(a) - place(b)));
  }

  #arrange(families) {
    for (const [family, panel] of this.#panels) {
      if (families.has(family)) continue;
      panel.remove();
      this.#panels.delete(family);
    }
    const box = by("panels");
    for (const [i, family] of [...families.keys()].entries()) {
      let panel = this.#panels.get(family);
      if (panel === undefined) {
        panel = new Panel(family, (range) => this.#zoom(range));
        this.#panels.set(family, panel);
      }
      if (box.children[i] !== panel.element) box.insertBefore(panel.element, box.children[i]);
    }
  }

  #describe(nodes, axis) {
    replace(
      by("key"),
      ...nodes.map(({ label, colour }) =>
        el("li", {}, el("span", { class: `swatch c${colour}`, "aria-hidden": "true" }), label)
      ),
    );
    const missing = nodes.filter(({ axes }) => !axes.includes(axis)).map(({ label }) => label);
    by("curves-note").textContent = nodes.length === 0
      ? "No node is drawn; choose some in the table of nodes."
      : missing.length > 0
      ? `Not known over ${axis}: ${missing.join(", ")}.`
      : "";
  }
}
