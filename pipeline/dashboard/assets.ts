/**
 * The page's parts, as text: no path of a request reaches the disk.
 *
 * @module
 */

import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplot from "uplot/dist/uPlot.esm.js" with { type: "text" };
import app from "./page/app.js" with { type: "text" };
import curves from "./page/curves.js" with { type: "text" };
import dom from "./page/dom.js" with { type: "text" };
import page from "./page/index.html" with { type: "text" };
import icon from "./page/icon.svg" with { type: "text" };
import nodes from "./page/nodes.js" with { type: "text" };
import panel from "./page/panel.js" with { type: "text" };
import samples from "./page/samples.js" with { type: "text" };
import runs from "./page/runs.js" with { type: "text" };
import style from "./page/dashboard.css" with { type: "text" };

/** A part, as it is served. */
export interface Asset {
  readonly type: string;
  readonly text: string;
}

const script = (text: string): Asset => ({ type: "text/javascript; charset=utf-8", text });
const css = (text: string): Asset => ({ type: "text/css; charset=utf-8", text });

/** Parts by path. */
export const ASSETS: ReadonlyMap<string, Asset> = new Map([
  ["/", { type: "text/html; charset=utf-8", text: page }],
  ["/page/app.js", script(app)],
  ["/page/curves.js", script(curves)],
  ["/page/dom.js", script(dom)],
  ["/page/nodes.js", script(nodes)],
  // Deno finds the package by its name, a browser by its place.
  ["/page/panel.js", script(panel.replace('from "uplot"', 'from "/page/uplot.js"'))],
  ["/page/runs.js", script(runs)],
  ["/page/samples.js", script(samples)],
  ["/page/icon.svg", { type: "image/svg+xml", text: icon }],
  ["/page/dashboard.css", css(style)],
  ["/page/uplot.js", script(uplot)],
  ["/page/uplot.css", css(uplotStyle)],
]);
