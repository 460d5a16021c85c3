/**
 * The context that the sections of the report of Sparse Expansion are written from.
 *
 * @module
 */

import type { FigureList } from "../../report/sections/context.ts";
import type { Comparison } from "../cells.ts";
import type { ExpandedCell, ExpansionData } from "../data.ts";

/** The context of a section. */
export interface ExpansionContext {
  readonly data: ExpansionData;
  readonly comparison: Comparison;
  readonly figures: FigureList;
}

/** The expanded model that sections on its inside show: of those that k-means split the one with the most clusters, the first such of the experiment; else the first of all. */
export function shownCell({ data, comparison }: ExpansionContext): ExpandedCell | undefined {
  const split = comparison.cells.filter(({ kind }) => kind === "clusters");
  const most = Math.max(...split.map(({ clusters }) => clusters));
  const name = split.find(({ clusters }) => clusters === most)?.name;
  return data.expanded.find(({ cell }) => cell === name) ?? data.expanded[0];
}
