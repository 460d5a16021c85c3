// deno-lint-ignore-file no-console -- what a program prints is its output
/**
 * Prints the table of `docs/scaling.md`; with `--measure` how fast this machine's host copies and adds.
 */

import { RATES, scalingTable } from "../model/bench/scaling/paper.ts";
import { allocateVectors } from "../model/training/groups/vectors.ts";

/** Elements of a part, and times that it is copied and added; the fastest counts. */
const ELEMENTS = 2 ** 24;
const ROUNDS = 8;

/** Bytes a second of the fastest of some rounds over a part. */
function rate(work: () => void): number {
  const seconds = Array.from({ length: ROUNDS }, () => {
    const start = performance.now();
    work();
    return (performance.now() - start) / 1000;
  });
  return 4 * ELEMENTS / Math.min(...seconds);
}

const [option] = Deno.args;
if (option !== undefined && option !== "--measure") {
  console.error(`${option} is no option; expected --measure or none`);
  Deno.exit(2);
}
if (option === "--measure") {
  const { vectors: [a, b], add: sum } = allocateVectors([ELEMENTS], 2)[0]!;
  for (let i = 0; i < ELEMENTS; i++) b![i] = i / ELEMENTS;
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB/s`;
  const copy = rate(() => a!.set(b!));
  const add = rate(() => sum(0, 1));
  console.log(`copy ${gigabytes(copy)} (the table has ${gigabytes(RATES.copy)})`);
  console.log(`add  ${gigabytes(add)} (the table has ${gigabytes(RATES.add)})`);
} else {
  console.log(scalingTable({ ranks: [1, 8, 64, 1024], microBatches: [1, 8, 64] }));
}
