/**
 * Names of the measured metrics that `ablate` writes, for those who read them.
 *
 * @module
 */

/** What a clock or an allocator says of a training run. */
export type MeasuredQuantity = "tokens_per_second" | "memory_bytes";

/** What is told of a quantity over the seeds of a cell. */
export type MeasuredStatistic = "n" | "mean" | "sd" | "low" | "high";

/**
 * Name of a measured metric of the `ablate` node, at step 0: `d_latent=64/tokens_per_second.mean`. A single seed has `n` and
 * `mean` only. The commas of a grid's cell, `d_latent=64,top_k=8`, become ampersands.
 *
 * @example
 * ```ts
 * import { measuredName } from "./measured.ts";
 * console.assert(measuredName("base", "memory_bytes", "mean") === "base/memory_bytes.mean");
 * ```
 */
export function measuredName(
  cell: string,
  quantity: MeasuredQuantity,
  statistic: MeasuredStatistic,
): string {
  // The catalogue exports CSV and takes no comma in a metric's name; no cell's name has an ampersand.
  return `${cell.replaceAll(",", "&")}/${quantity}.${statistic}`;
}

/** One measured metric, taken apart. */
export interface MeasuredMetric {
  readonly cell: string;
  readonly quantity: MeasuredQuantity;
  readonly statistic: MeasuredStatistic;
}

/** Takes a name of {@linkcode measuredName} apart; `undefined` for any other name. */
export function parseMeasuredName(name: string): MeasuredMetric | undefined {
  const match = /^(.+)\/(tokens_per_second|memory_bytes)\.(n|mean|sd|low|high)$/.exec(name);
  const [, cell, quantity, statistic] = match ?? [];
  if (cell === undefined) return undefined;
  return {
    cell: cell.replaceAll("&", ","),
    quantity: quantity as MeasuredQuantity,
    statistic: statistic as MeasuredStatistic,
  };
}
