/**
 * The paper's model on 8, 64 and 1,024 devices, from rates that were measured or are documented: the table of `docs/scaling.md`.
 *
 * @module
 */

import { partElements } from "../../training/groups/grouped_update.ts";
import {
  estimateSeconds,
  evenParts,
  type Rates,
  type SimulatedUpdate,
  simulateUpdate,
} from "./simulation.ts";

/** Predictions of a micro-batch, and of a second on an H200 with Dawn (docs/measurements.md). */
const TOKENS = 8 * 4096;
const TOKENS_PER_SECOND = 64_810;
/** Bytes of the gradients, 4 a stored parameter. */
export const GRADIENT_BYTES: number = 4 * 744_000_000;
/** Norm and AdamW: 34 bytes a parameter at the 4.24 TB/s that a copy reaches (docs/measurements.md). */
const OPTIMIZER_SECONDS = 34 * 744_000_000 / 4.24e12;
const MICRO_BATCH_SECONDS = TOKENS / TOKENS_PER_SECOND - OPTIMIZER_SECONDS;
/** Gradients become final in the backward pass, which takes two thirds of a micro-batch. */
const BACKWARD_FROM = 1 / 3;
/** More ranks are estimated: their events would take minutes. */
const MOST_SIMULATED = 64;

/** Rates of the table. Copies and additions were measured on an H200's host (`deno task scaling --measure`), the others are documented ones. */
export const RATES: Rates = {
  // PCIe 5.0 x16 has 63 GB/s each way.
  device: 50e9,
  copy: 5.5e9,
  add: 4.3e9,
  // 100 Gb/s, or a copy through a host's shared memory.
  link: 12.5e9,
  // The pause between two questions for messages.
  latency: 1e-3,
};

/** The paper's update on so many ranks with one group each. */
export function paperUpdate(
  { ranks, microBatches, rates = RATES }: {
    readonly ranks: number;
    readonly microBatches: number;
    readonly rates?: Rates;
  },
): SimulatedUpdate {
  return {
    ranks,
    groupsPerRank: 1,
    microBatches,
    microBatchSeconds: MICRO_BATCH_SECONDS,
    optimizerSeconds: OPTIMIZER_SECONDS,
    parts: evenParts(GRADIENT_BYTES, {
      most: 4 * partElements(ranks),
      from: BACKWARD_FROM,
      to: 1,
    }),
    rates,
  };
}

/** A row of the table. */
export interface ScalingRow {
  readonly ranks: number;
  readonly microBatches: number;
  /** Seconds of an update. */
  readonly seconds: number;
  readonly tokensPerSecond: number;
  /** Of as many devices that never wait. */
  readonly efficiency: number;
}

/** A row of the table: an update on so many ranks. */
export function scalingRow(
  options: { readonly ranks: number; readonly microBatches: number; readonly rates?: Rates },
): ScalingRow {
  const { ranks, microBatches } = options;
  const update = paperUpdate(options);
  const alone = microBatches * MICRO_BATCH_SECONDS + OPTIMIZER_SECONDS;
  // A rank alone has no groups, and nothing leaves its device.
  const seconds = ranks === 1
    ? alone
    : ranks <= MOST_SIMULATED
    ? simulateUpdate(update).seconds
    : estimateSeconds(update);
  const tokensPerSecond = ranks * microBatches * TOKENS / seconds;
  return { ranks, microBatches, seconds, tokensPerSecond, efficiency: alone / seconds };
}

/** The table as Markdown: a line for each number of devices, a column for each number of micro-batches. */
export function scalingTable(
  { ranks, microBatches }: {
    readonly ranks: readonly number[];
    readonly microBatches: readonly number[];
  },
): string {
  const number = (value: number) => Math.round(value).toLocaleString("en-GB");
  const cells = (row: readonly string[]) => `| ${row.join(" | ")} |`;
  return [
    cells(["devices", ...microBatches.map((count) => `${count} micro-batches a device`)]),
    cells(["---:", ...microBatches.map(() => "---:")]),
    ...ranks.map((ranks) =>
      cells([
        number(ranks),
        ...microBatches.map((microBatches) => {
          const row = scalingRow({ ranks, microBatches });
          const percent = (100 * row.efficiency).toFixed(0);
          return `${row.seconds.toFixed(2)} s, ${
            number(row.tokensPerSecond)
          } tokens/s, ${percent} %`;
        }),
      ])
    ),
  ].join("\n");
}
