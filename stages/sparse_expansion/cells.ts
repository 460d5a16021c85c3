/**
 * The cells of Sparse Expansion: each is one way to expand the model.
 *
 * @module
 */

import canonicalize from "canonicalize";
import { type Expansion, matchAll, type Method, type Pruning } from "../../model/sparse/options.ts";
import type { CellLabels } from "../perplexity/result.ts";
import {
  expansionOf,
  type ExpansionSection,
  pruningOf,
  type PruningSection,
  type Sparsity,
} from "../expand/config.ts";

/** Cells of one experiment. */
export const MOST_CELLS = 256;

/** Part of the method that is taken away. */
export type Control = "rows" | "random" | "matched";

/** The sections that cells are made of. */
export interface CellPlan {
  readonly expansion: ExpansionSection;
  readonly pruning: PruningSection;
  readonly grid: {
    readonly sparsities?: readonly Sparsity[] | undefined;
    readonly clusters?: readonly number[] | undefined;
    readonly methods: readonly Method[];
    readonly controls: readonly Control[];
  };
}

/** One way to expand the model. */
export interface ExpansionCell {
  /** `sparsity=0.5,clusters=16`. */
  readonly name: string;
  readonly sparsity: Sparsity;
  readonly clusters: number;
  readonly expansion: Expansion;
  readonly pruning: Pruning;
  readonly labels: CellLabels;
}

/** The labels of the model as it came. */
export const DENSE_LABELS: CellLabels = {
  cell: "dense",
  dense: true,
  sparsity: null,
  pattern: null,
  bits: null,
  clusters: null,
  method: null,
  control: null,
  of: null,
};

/**
 * Every cell of the grid, each once. Weights that are chosen by magnitude alone have no clusters, and an expert that keeps as many weights as the dense
 * layer has is no cell of its own.
 */
export function expansionCells({ expansion, pruning, grid }: CellPlan): ExpansionCell[] {
  const cells = new Map<string, ExpansionCell>();
  const add = (cell: ExpansionCell) => {
    // A control keeps its name where another cell, or a control of another one, has the same options: the pipeline expands the model once for all of them.
    const { control, of } = cell.labels;
    const key = canonicalize([cell.expansion, cell.pruning, control, of]) ?? "";
    if (!cells.has(key)) cells.set(key, cell);
  };
  for (const sparsity of grid.sparsities ?? [pruning.sparsity]) {
    for (const method of grid.methods) {
      for (const clusters of grid.clusters ?? [expansion.clusters]) {
        const cell = {
          sparsity,
          clusters: method === "magnitude" ? 1 : clusters,
          method,
          expansion: expansionOf(expansion, method === "magnitude" ? 1 : clusters),
          pruning: { ...pruningOf(pruning, sparsity), ...(method === "magnitude" && { method }) },
        };
        add(named(cell));
        if (cell.clusters === 1) continue;
        for (const control of grid.controls) {
          if (control !== "matched") {
            add(named({ ...cell, expansion: { ...cell.expansion, centroids: control } }, control));
            continue;
          }
          const { dense, pruning: own, expansion: { centroids: _, ...one } } = matchAll(cell);
          if (!dense) add(named({ ...cell, pruning: own, expansion: one }, control));
        }
      }
    }
  }
  return [...cells.values()];
}

/** A cell with its name and its labels. */
function named(
  cell: Pick<ExpansionCell, "sparsity" | "clusters" | "expansion" | "pruning"> & {
    readonly method: Method;
  },
  control?: Control,
): ExpansionCell {
  const { method, ...own } = cell;
  const { sparsity, clusters, pruning } = own;
  const { bits, pattern } = pruning;
  const plain = [
    `sparsity=${sparsity}`,
    `clusters=${clusters}`,
    ...(bits === undefined ? [] : [`bits=${bits}`]),
    ...(method === "sparsegpt" ? [] : [`method=${method}`]),
  ].join(",");
  const name = control === undefined ? plain : `${plain},control=${control}`;
  const labels: CellLabels = {
    cell: name,
    dense: false,
    sparsity: pattern ? pattern[0] / pattern[1] : pruning.sparsity,
    pattern: pattern ? pattern.join(":") : null,
    bits: bits ?? null,
    clusters: own.expansion.clusters,
    method,
    control: control ?? null,
    of: control === undefined ? null : plain,
  };
  return { ...own, name, labels };
}
