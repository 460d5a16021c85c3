/**
 * The `ablation` output as the report reads it: factors with their values, each with its mean, interval, paired
 * difference, speed and memory.
 *
 * @module
 */

import type { Ablation, MeasuredRow } from "../ablate/result.ts";
import type { PairedSummary, Summary } from "../ablate/statistics.ts";
import type { ReportData } from "./data.ts";
import type { LatentPoint } from "./theory/latent_law.ts";

/** One value of a factor. */
export interface FactorResult {
  /** As figures show it. */
  readonly label: string;
  /** Cell that was trained. */
  readonly cell: string;
  readonly base: boolean;
  readonly seeds: readonly number[];
  /** Held-out nats a token. */
  readonly nats: Summary;
  /** Cell minus base; absent for the base itself, or when no seed is shared. */
  readonly difference: PairedSummary | undefined;
  /** Cell minus the dense layer of the same factor; absent where there is none, or no seed is shared. */
  readonly againstDense?: PairedSummary;
  /** Mean over seeds. */
  readonly tokensPerSecond: number | undefined;
  readonly memoryBytes: number | undefined;
}

/** One factor. */
export interface FactorResults {
  readonly name: string;
  readonly title: string;
  readonly values: readonly FactorResult[];
}

/** Brings the outputs of an `ablate` node together. */
export function factorResults(
  { cells, factors }: Ablation,
  measured: readonly MeasuredRow[],
): readonly FactorResults[] {
  const meanOf = (cell: string, quantity: MeasuredRow["quantity"]) =>
    measured.find((row) => row.cell === cell && row.quantity === quantity)?.mean;
  return factors.map(({ name, title, values }) => ({
    name,
    title,
    values: values.flatMap((v): FactorResult[] => {
      const cell = cells.find((c) => c.name === v.cell);
      const nats = cell?.metrics.nats;
      if (cell === undefined || nats === undefined) return [];
      return [{
        label: String(v.value),
        cell: v.cell,
        base: v.base,
        seeds: cell.seeds,
        nats,
        difference: v.difference?.nats,
        tokensPerSecond: meanOf(v.cell, "tokens_per_second"),
        memoryBytes: meanOf(v.cell, "memory_bytes"),
      }];
    }),
  })).filter(({ values }) => values.length > 0);
}

/** Names of the factors that a sweep of latent widths varies. */
const FACTORS = { model: "d_model", latent: "d_latent" } as const;

/** The runs of cells that have both widths. */
export function latentPoints(data: ReportData): readonly LatentPoint[] {
  const cells = new Map(data.ablation?.result.cells.map((cell) => [cell.name, cell.factors]));
  return data.evaluations.flatMap(({ cell, seed, result }): LatentPoint[] => {
    const factors = cell === undefined ? undefined : cells.get(cell);
    const d_model = factors?.[FACTORS.model];
    const d_latent = factors?.[FACTORS.latent];
    return typeof d_model === "number" && typeof d_latent === "number" && seed !== undefined
      ? [{ d_model, d_latent, seed, nats: result.nats }]
      : [];
  });
}
