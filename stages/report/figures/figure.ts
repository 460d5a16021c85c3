/**
 * A figure: a table, a specification, and words. One file of this folder makes one.
 *
 * @module
 */

import type { JsonValue } from "../../../pipeline/stage.ts";

/** One row of a figure's table; `null` is an empty cell. */
export type Row = Readonly<Record<string, string | number | null>>;

/** A Vega-Lite specification without its data, which is the figure's table. */
export type ChartSpec = { readonly [key: string]: JsonValue };

/** A chart: drawn by Vega-Lite from `rows`. */
export interface Chart {
  /** Drawn by Vega-Lite. */
  readonly kind: "chart";
  /** File name without extension; lower-case with underscores. */
  readonly name: string;
  /** Heading of the caption. */
  readonly title: string;
  /** Text for a reader who cannot see it: one or two sentences. */
  readonly alt: string;
  /** The table behind it, written as CSV. Every row has the same columns. */
  readonly rows: readonly Row[];
  /** Vega-Lite, without `data`. */
  readonly spec: ChartSpec;
}

/** A diagram: drawn from a description by code of this folder. */
export interface Diagram {
  /** Drawn by code. */
  readonly kind: "diagram";
  /** File name without extension. */
  readonly name: string;
  /** Heading of the caption. */
  readonly title: string;
  /** Text for a reader who cannot see it. */
  readonly alt: string;
  /** The description: boxes and arrows. */
  readonly description: JsonValue;
  /** The drawing: one `<svg>` element. */
  readonly svg: string;
}

/** A figure of the report. */
export type Figure = Chart | Diagram;
