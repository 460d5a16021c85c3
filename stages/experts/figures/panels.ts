/**
 * Panels by layer, as the figures of experts share them.
 *
 * @module
 */

import type { ChartSpec } from "../../report/figures/figure.ts";
import { COLOR } from "../../report/figures/style.ts";

/** A panel for each value of a column, two beside each other. */
export function facet(field: string, order: readonly string[]): ChartSpec {
  return {
    columns: 2,
    spacing: { column: 30, row: 24 },
    facet: {
      field,
      type: "nominal",
      title: null,
      sort: [...order],
      header: { labelFontSize: 12, labelColor: COLOR.ink, labelPadding: 6 },
    },
  };
}

/** Values in the order in which they first occur. */
export function distinct(values: Iterable<string>): string[] {
  return [...new Set(values)];
}
