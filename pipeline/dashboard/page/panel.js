// One panel: the curves of one metric, or of one metric in several layers.

import uPlot from "uplot";
import { el, format } from "./dom.js";

const HEIGHT = 220;
/** Values that are read out. */
const READ = 12;
const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3]];

/** A metric's family, `expert_usage` of `expert_usage.3`, and its member. */
export function familyOf(name) {
  const found = /^(.*?)[./_]?(?:layer[./_]?)?(?<=[./_])(\d+)$/.exec(name);
  return found === null ? { family: name, member: "" } : { family: found[1], member: found[2] };
}

/** Draws curves with uPlot, whose cursors move together. */
export class Panel {
  #plot;
  #curves = [];
  #readout = el("output", { class: "readout", "aria-live": "off" });
  #plotBox = el("div", { class: "plot" });
  #resizer;

  /** `zoom` is told the range that the user asks for, or nothing for all. */
  constructor(family, zoom) {
    this.family = family;
    this.zoom = zoom;
    this.element = el(
      "figure",
      {
        class: "panel",
        tabindex: "0",
        role: "group",
        "aria-label": `Curves of ${family}`,
        "data-family": family,
        onkeydown: (event) => this.#press(event),
      },
      el("figcaption", {}, family),
      this.#plotBox,
      this.#readout,
    );
    this.#resizer = new ResizeObserver(() => {
      const width = this.#plotBox.clientWidth;
      if (this.#plot !== undefined && width > 0) this.#plot.setSize({ width, height: HEIGHT });
    });
    this.#resizer.observe(this.#plotBox);
  }

  /** Columns of pixels that a curve can use. */
  get columns() {
    return Math.max(100, Math.round((this.#plotBox.clientWidth - 60) * devicePixelRatio));
  }

  /** Shows curves `{ label, colour, dash, x, y }`. */
  show(curves, { logX, logY, range }) {
    this.#curves = curves;
    const tables = curves.map(({ x, y }) => [x, logY ? y.map((v) => v > 0 ? v : null) : y]);
    const data = tables.length === 0 ? [[]] : uPlot.join(tables);
    const shape = JSON.stringify([
      curves.map(({ label, colour, dash }) => [label, colour, dash]),
      logX,
      logY,
    ]);
    this.range = range;
    if (shape !== this.shape) {
      this.shape = shape;
      this.#make(data, { logX, logY });
    } else this.#plot.setData(data);
    this.#read(this.#plot.cursor.idx ?? null);
  }

  #make(data, { logX, logY }) {
    this.#plot?.destroy();
    const colour = (name) => resolve(this.element, name);
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 } };
    axis.ticks = axis.grid;
    axis.font = "12px system-ui, sans-serif";
    this.#plot = new uPlot(
      {
        width: Math.max(50, this.#plotBox.clientWidth),
        height: HEIGHT,
        legend: { show: false },
        cursor: {
          sync: { key: "dashboard", scales: ["x", null] },
          drag: { x: true, y: false, setScale: false },
          bind: {
            dblclick: () => () => {
              this.zoom(undefined);
              return null;
            },
          },
        },
        scales: {
          x: { time: false, distr: logX ? 3 : 1, range: (_, min, max) => this.#rangeOf(min, max) },
          y: { distr: logY ? 3 : 1 },
        },
        axes: [
          { ...axis, size: 34, values: (_, splits) => splits.map(short) },
          { ...axis, size: 62, values: (_, splits) => splits.map(short) },
        ],
        series: [
          {},
          ...this.#curves.map(({ label, colour: name, dash }) => ({
            label,
            stroke: colour(name),
            width: 1.5,
            dash: DASHES[dash % DASHES.length],
            spanGaps: true,
            points: {
              fill: colour("--paper"),
              show: (plot, i) => plot.data[i].filter((v) => Number.isFinite(v)).length < 30,
            },
          })),
        ],
        hooks: {
          setCursor: [(plot) => this.#read(plot.cursor.idx ?? null)],
          setSelect: [(plot) => {
            const { left, width } = plot.select;
            if (width < 4) return;
            this.zoom([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
            plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          }],
        },
      },
      data,
      this.#plotBox,
    );
  }

  #rangeOf(min, max) {
    if (this.range !== undefined) return this.range;
    return min === null || min === max ? [min ?? 0, (max ?? 0) + 1] : [min, max];
  }

  /** Says the values at a point, or the last ones: by colour for the eye, by name for the ear. */
  #read(index) {
    const x = index === null ? undefined : this.#plot?.data[0][index];
    const values = this.#curves.slice(0, READ).map(({ label, colour, x: xs, y: ys }) => {
      const value = x === undefined ? ys.at(-1) : ys[nearest(xs, x)];
      return el(
        "span",
        { class: "value", title: label },
        el("span", { class: `swatch ${colour.slice(2)}`, "aria-hidden": "true" }),
        el("span", { class: "hidden" }, `${label}: `),
        `${format(value)} `,
      );
    });
    const more = this.#curves.length > READ ? [`and ${this.#curves.length - READ} more`] : [];
    const place = x === undefined ? "last: " : `at ${format(x)}: `;
    this.#readout.replaceChildren(place, ...values, ...more);
  }

  #press(event) {
    const plot = this.#plot;
    if (plot === undefined || event.target !== this.element) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const xs = plot.data[0];
    const { min, max } = plot.scales.x;
    const here = plot.cursor.idx ?? xs.length - 1;
    const stride = Math.max(1, Math.round(xs.length / 50));
    const moves = { ArrowLeft: here - stride, ArrowRight: here + stride, Home: 0, End: Infinity };
    const middle = xs[here] ?? (min + max) / 2;
    const zoomed = (by) => [
      middle - (middle - min) * by,
      middle + (max - middle) * by,
    ];
    if (event.key in moves) {
      const index = Math.max(0, Math.min(xs.length - 1, moves[event.key]));
      // Only now: a pointer that passes by is not read aloud.
      this.#readout.setAttribute("aria-live", "polite");
      plot.setCursor({ left: plot.valToPos(xs[index], "x"), top: HEIGHT / 3 });
    } else if (event.key === "+" || event.key === "=") this.zoom(zoomed(0.5));
    else if (event.key === "-") this.zoom(zoomed(2));
    else if (event.key === "0" || event.key === "Escape") this.zoom(undefined);
    else return;
    event.preventDefault();
  }

  /** Forgets colours, which the theme has changed. */
  repaint() {
    this.shape = undefined;
  }

  remove() {
    this.#resizer.disconnect();
    this.#plot?.destroy();
    this.element.remove();
  }
}

/** A colour of the style sheet as a canvas takes it: variables hold one for each theme. */
function resolve(element, name) {
  element.style.color = `var(${name})`;
  const { color } = getComputedStyle(element);
  element.style.color = "";
  return color;
}

/** A number beside an axis. */
function short(number) {
  if (number === null || number === undefined) return "";
  const size = Math.abs(number);
  if (size >= 1e9) return `${Number((number / 1e9).toPrecision(4))}G`;
  if (size >= 1e6) return `${Number((number / 1e6).toPrecision(4))}M`;
  if (size >= 1e4) return `${Number((number / 1e3).toPrecision(4))}k`;
  if (size !== 0 && size < 1e-3) return number.toExponential(0);
  return String(Number(number.toPrecision(4)));
}

function nearest(sorted, x) {
  let [low, high] = [0, sorted.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - sorted[low - 1] < sorted[low] - x ? low - 1 : low;
}
