// The codes of a layer's most used experts in two dimensions.

import { by, el, replace, svg } from "../../../../pipeline/dashboard/page/dom.js";
import { count, share } from "./tables.js";

const SIZE = { height: 440, margin: 14 };
/** Units of the drawing's width, by that of the page: points stay as large as they are on narrow ones. */
const WIDTHS = { least: 330, most: 720 };
const COLOURS = 8;
/** Shapes of a radius of about 5, so that clusters differ without their colours. */
const SHAPES = [
  "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0z",
  "M-4,-4h8v8h-8z",
  "M0,-5.5l5,9h-10z",
  "M0,-6l5,6l-5,6l-5,-6z",
  "M0,5.5l5,-9h-10z",
  "M-1.7,-5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",
];

/** The map. */
export class CodeMap {
  #found;
  #experts;
  #points = [];
  #here = -1;
  #marked = "";
  #names;

  /** `choose` is told the name of an expert. */
  constructor({ choose }) {
    this.choose = choose;
    for (const id of ["map-layer", "projection"]) {
      by(id).addEventListener("input", () => this.#draw());
    }
  }

  show(found, experts) {
    this.#found = found;
    this.#experts = experts;
    by("maps").hidden = found.clusters.length === 0;
    replace(
      by("map-layer"),
      ...found.clusters.map(({ layer }) => el("option", { value: layer }, String(layer))),
    );
    if (found.clusters.length > 0) this.#draw();
  }

  /** Makes all points pale but those with names; of nothing, none. */
  emphasise(names) {
    this.#names = names;
    for (const { name, element } of this.#points) {
      element.classList.toggle("pale", names !== undefined && !names.has(name));
    }
  }

  /** Marks the expert that is shown. */
  mark(name) {
    this.#marked = name;
    for (const point of this.#points) point.element.classList.toggle("marked", point.name === name);
  }

  #draw() {
    const layer = Number(by("map-layer").value);
    const clusters = this.#found.clusters.find((each) => each.layer === layer);
    const projection = by("projection").value;
    const { map } = clusters;
    const { x, y } = map[projection];
    const width = Math.min(WIDTHS.most, Math.max(WIDTHS.least, by("map").clientWidth));
    const [left, top] = [scale(x, width), scale(y.map((v) => -v), SIZE.height)];
    this.#here = -1;
    this.#points = map.experts.map((expert, i) => {
      const name = `${layer}:${expert}`;
      const place = { x: left[i], y: top[i] };
      const label = map.labels[i];
      const element = svg("path", {
        class: `point c${label % COLOURS}`,
        d: SHAPES[label % SHAPES.length],
        transform: `translate(${place.x.toFixed(1)},${place.y.toFixed(1)})`,
        onclick: () => this.choose(name),
        onpointerenter: () => this.#say(i),
      });
      return { name, label, element, ...place };
    });
    const title = `Map of layer ${layer}: ${
      count(map.experts.length)
    } experts in ${clusters.clusters.length} clusters`;
    const drawing = svg(
      "svg",
      {
        viewBox: `0 0 ${width} ${SIZE.height}`,
        class: "map",
        tabindex: "0",
        role: "application",
        "aria-label": title,
        "aria-describedby": "map-here",
        onkeydown: (event) => this.#press(event),
      },
      this.#points.map(({ element }) => element),
      svg("circle", { class: "cursor", r: 9, visibility: "hidden" }),
    );
    replace(by("map"), drawing);
    by("map-here").textContent = "";
    replace(
      by("map-key"),
      ...clusters.clusters.map(({ cluster, experts }) =>
        el(
          "li",
          {},
          svg(
            "svg",
            { viewBox: "-7 -7 14 14", width: 14, height: 14, "aria-hidden": "true" },
            svg("path", {
              class: `point c${cluster % COLOURS}`,
              d: SHAPES[cluster % SHAPES.length],
            }),
          ),
          ` c${cluster}, ${count(experts)} experts`,
        )
      ),
    );
    const { neighbours, neighbours_shuffled: shuffled } = map;
    by("map-control").textContent =
      `Clusters hold ${share(clusters.explained)} of the variance of the codes, and ${
        share(clusters.explained_shuffled)
      } of shuffled ones. ${
        share(neighbours[projection])
      } of the experts have their nearest neighbour ` +
      `on this map in their own cluster, and ${share(shuffled[projection])} of shuffled codes.`;
    this.emphasise(this.#names);
    this.mark(this.#marked);
  }

  #say(i) {
    this.#here = i;
    const { name, label, x, y } = this.#points[i];
    const expert = this.#experts.get(name);
    const uses = expert?.uses === undefined ? "" : `, ${count(expert.uses)} uses`;
    by("map-here").textContent = `${name}, cluster c${label}${uses}`;
    const cursor = by("map").querySelector(".cursor");
    cursor.setAttribute("cx", x);
    cursor.setAttribute("cy", y);
    cursor.setAttribute("visibility", "visible");
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in moves) {
      const next = this.#next(moves[event.key]);
      if (next >= 0) this.#say(next);
    } else if (event.key === "Enter" && this.#here >= 0) {
      this.choose(this.#points[this.#here].name);
    } else return;
    event.preventDefault();
  }

  /** The nearest point in a direction; what lies aside counts twice. Of those that a search leaves, if it does. */
  #next([dx, dy]) {
    const allowed = ({ name }) => this.#names === undefined || this.#names.has(name);
    const here = this.#points[this.#here];
    if (here === undefined) return this.#points.findIndex(allowed);
    let [best, least] = [-1, Infinity];
    for (const [i, point] of this.#points.entries()) {
      const along = (point.x - here.x) * dx + (point.y - here.y) * dy;
      const aside = Math.abs((point.x - here.x) * dy) + Math.abs((point.y - here.y) * dx);
      if (along <= 0 || !allowed(point) || along + 2 * aside >= least) continue;
      [best, least] = [i, along + 2 * aside];
    }
    return best;
  }
}

/** Numbers as places on an axis of the drawing. */
function scale(values, size) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = size - 2 * SIZE.margin;
  return values.map((value) =>
    SIZE.margin + (high > low ? room * (value - low) / (high - low) : room / 2)
  );
}
