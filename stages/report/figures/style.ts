/**
 * One style for every figure: typeface, sizes, and a palette that survives colour blindness, grey printing and dark mode.
 *
 * Colours are Okabe and Ito's (2008). The page recolours by exact value in dark mode ({@linkcode DARK}), so figures use
 * these constants and nothing else.
 *
 * @module
 */

import type { Config } from "vega-lite";
import { FONT_FAMILY } from "./fonts.ts";

/** Colours by meaning. */
export const COLOR = {
  ink: "#1f2933",
  muted: "#5b6770",
  grid: "#e3e7eb",
  paper: "#ffffff",
  blue: "#0072b2",
  vermilion: "#d55e00",
  green: "#009e73",
  purple: "#a04a85",
  orange: "#b87700",
  sky: "#3a8fc4",
  tint: "#eef3f8",
  warm: "#fdf1e7",
} as const;

/** The colours that the page shows on a dark background, by those that they replace. */
export const DARK: Readonly<Record<string, string>> = {
  [COLOR.ink]: "#e8ecef",
  [COLOR.muted]: "#a6b1ba",
  [COLOR.grid]: "#323c46",
  [COLOR.paper]: "#151a1f",
  [COLOR.blue]: "#5db3e8",
  [COLOR.vermilion]: "#ff8a3d",
  [COLOR.green]: "#3ecfa3",
  [COLOR.purple]: "#dc8fc4",
  [COLOR.orange]: "#f0b440",
  [COLOR.sky]: "#8ccbf0",
  [COLOR.tint]: "#1d2733",
  [COLOR.warm]: "#2f2419",
};

/** Series colours in the order of use. */
export const SERIES: readonly string[] = [
  COLOR.blue,
  COLOR.vermilion,
  COLOR.green,
  COLOR.purple,
  COLOR.orange,
  COLOR.sky,
];

/** Width of a one-panel figure in pixels, without axes. */
export const PANEL_WIDTH = 560;

/** Height of a one-panel figure in pixels, without axes. */
export const PANEL_HEIGHT = 300;

/** Size of a panel where several stand side by side. */
export const SMALL_PANEL = { width: 250, height: 200 } as const;

/** Vega-Lite configuration that every figure shares. */
export const VEGA_CONFIG: Config = {
  background: COLOR.paper,
  font: FONT_FAMILY,
  padding: { left: 8, right: 12, top: 10, bottom: 8 },
  view: { stroke: null },
  axis: {
    labelFontSize: 12,
    titleFontSize: 12.5,
    titleFontWeight: 400,
    titlePadding: 8,
    labelColor: COLOR.muted,
    titleColor: COLOR.ink,
    domainColor: COLOR.muted,
    tickColor: COLOR.muted,
    gridColor: COLOR.grid,
    gridWidth: 1,
    tickSize: 4,
    labelPadding: 4,
    labelFlush: false,
    labelOverlap: "greedy",
    labelSeparation: 4,
  },
  axisX: { grid: false },
  axisY: { domain: false, ticks: false },
  title: {
    anchor: "start",
    frame: "group",
    fontSize: 13.5,
    fontWeight: 600,
    color: COLOR.ink,
    subtitleColor: COLOR.muted,
    subtitleFontSize: 12,
    offset: 12,
  },
  header: {
    titleFontSize: 12.5,
    labelFontSize: 12.5,
    labelColor: COLOR.ink,
    titleColor: COLOR.ink,
  },
  text: { fontSize: 12, color: COLOR.ink },
  line: { strokeWidth: 2, strokeCap: "round" },
  range: { category: [...SERIES] },
  legend: { labelFontSize: 12, titleFontSize: 12, labelColor: COLOR.ink, titleColor: COLOR.ink },
};

/** Vega expression that names powers of two on an axis: `256`, `4Ki`, `1Mi`. */
export const BINARY_LABELS =
  "datum.value < 1024 ? datum.value + '' : datum.value < 1048576 ? datum.value / 1024 + 'Ki' : datum.value / 1048576 + 'Mi'";

/** Names of steps on an axis: `20`, `1.5k`, `120k`. */
export const COUNT_FORMAT = "~s";
