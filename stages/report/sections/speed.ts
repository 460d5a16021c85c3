/**
 * "Speed": the measurements of the benchmark's suites, kernel by kernel.
 *
 * @module
 */

import { type SuiteName, SUITES } from "../../../model/bench/suites/suite.ts";
import type { CaseTiming } from "../../benchmark/result.ts";
import { bytesText } from "../figures/series.ts";
import { type Block, md, type Section } from "../document.ts";
import { adapterOf } from "../facts.ts";
import type { SectionContext } from "./context.ts";

/** Titles of the suites' tables. */
const TITLES: Readonly<Record<SuiteName, string>> = {
  copy: "Copies",
  gemm: "Matrix products",
  grouped: "Products with each expert's matrix, and square ones of as many operations",
  pruning: "Parts of pruning a linear layer",
  attention: "Attention",
  layer: "One ETHOS layer, with its router",
  experts: "Experts and router apart",
  step: "Training steps",
  scaling: "Training steps as one size grows",
  cost: "Training steps along the axes of work",
  inference: "Inference",
  model: "The whole model",
};

/** The section, when the benchmark measured suites; none otherwise. */
export function speedSections(context: SectionContext): Section[] {
  const { benchmark } = context.data;
  if (benchmark === undefined) return [];
  const measured = benchmark.timings.filter((row) => "suite" in row);
  if (measured.length === 0) return [];
  const adapter = adapterOf([benchmark]) ?? "an adapter that was not recorded";
  const blocks: Block[] = [
    md`Measured on ${adapter} at the sizes of the base model, on random numbers and tokens: medians, and the range of the samples. A copy counts what it reads and what it writes; memory is what a layer takes beside its weights, and of a training step and of inference all of it.`,
  ];
  for (const suite of SUITES) {
    const rows = measured.filter((each) => each.suite === suite);
    if (rows.length > 0) blocks.push(table(suite, rows));
  }
  return [{ id: "speed", title: "Speed", blocks }];
}

function table(suite: SuiteName, rows: readonly CaseTiming[]): Block {
  const digits = (value: number | undefined, unit: string, scale = 1) =>
    value === undefined ? "" : `${Number((scale * value).toPrecision(3))} ${unit}`;
  return {
    kind: "table",
    title: TITLES[suite],
    header: ["case", "median", "shortest", "longest", "rate", "memory"],
    rows: rows.map((row) => [
      row.id,
      digits(row.median, "ms", 1e3),
      digits(row.min, "ms", 1e3),
      digits(row.max, "ms", 1e3),
      digits(row.tflop_per_second, "TFLOP/s") || digits(row.tokens_per_second, "tokens/s") ||
      digits(row.gb_per_second, "GB/s"),
      row.peak_bytes === undefined ? "" : bytesText(row.peak_bytes),
    ]),
    numbersFrom: 1,
  };
}
