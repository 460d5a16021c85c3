/**
 * Facts of a run that several sections state: its model, its size, how to write a number, and where it was made.
 *
 * @module
 */

import { ethosSchema, type EthosSection } from "../../model/ffn/ethos/schema.ts";
import { loadArchitecture, type LoadOptions } from "../../model/load.ts";
import type { ModelConfig } from "../../model/section.ts";
import { tokensPerStep, trainSchema } from "../../model/training/config.ts";
import type { Architecture } from "../../model/trunk/architecture.ts";
import type { JsonValue } from "../../pipeline/stage.ts";
import { type Arithmetic, arithmetic } from "./theory/arithmetic.ts";
import {
  baseModels,
  isObject,
  type JsonObject,
  numberField,
  objectField,
  type ReportData,
} from "./data.ts";

/** The base that ran. */
export interface RunFacts {
  readonly architecture: Architecture;
  /** Whether a sequence is one document. */
  readonly singleDocuments: boolean;
  readonly sequenceLength: number;
  /** Tokens that an update learns from; of single documents the mean. */
  readonly tokensPerStep: number;
  readonly arithmetic: Arithmetic;
}

/** The sizes of a model's ETHOS layers, where it has any. */
export function ethosSizes({ ffn }: ModelConfig): EthosSection | undefined {
  return ethosSchema.safeParse(ffn).data;
}

/**
 * Sizes of the base; absent when nothing was trained or the vocabulary is not known.
 *
 * @throws {Error} When the model's parameters are not those of a model.
 */
export async function runFacts(
  data: ReportData,
  options: LoadOptions,
): Promise<RunFacts | undefined> {
  const [base] = baseModels(data);
  if (base === undefined || !isObject(base.params)) return undefined;
  const vocabulary = vocabularySize(data, base.summary);
  const model = objectField(base.params, "model");
  const train = trainSchema.safeParse(base.params.train);
  if (vocabulary === undefined || model === undefined || !train.success) return undefined;
  const architecture = await loadArchitecture({ ...model, vocab_size: vocabulary }, options);
  const singleDocuments = train.data.documents === "single";
  const mean = numberField(base.summary, "tokens")! / numberField(base.summary, "steps")!;
  const sizes = {
    sequenceLength: train.data.sequence_length,
    tokensPerStep: singleDocuments && mean > 0 ? mean : tokensPerStep(train.data),
  };
  return { architecture, singleDocuments, ...sizes, arithmetic: arithmetic(architecture, sizes) };
}

function vocabularySize(data: ReportData, summary: JsonObject): number | undefined {
  return numberField(objectField(summary, "config"), "vocab_size") ??
    data.dataset?.result.vocab_size;
}

/** A node whose provenance is read. */
export interface Provenanced {
  readonly key: string;
  readonly provenance: Readonly<Record<string, JsonValue>>;
}

/** Run, key, adapter and date of the nodes behind a figure: the first stands for all, the others are counted. */
export function provenanceLine(nodes: readonly (Provenanced | undefined)[]): string {
  const known = nodes.filter((n) => n !== undefined);
  const [first] = known;
  if (first === undefined) return "Computed from formulas; no run is involved.";
  const { provenance, key } = first;
  const date = text(provenance.started_at) ?? text(provenance.finished_at) ?? text(provenance.date);
  const parts = [
    `Run ${text(provenance.run) ?? "unknown"}`,
    `configuration key ${key.slice(0, 12)}${
      known.length > 1 ? ` and ${known.length - 1} more` : ""
    }`,
    `adapter ${adapterOf(known) ?? "not recorded"}`,
    ...(date ? [date.slice(0, 16).replace("T", " ") + " UTC"] : []),
  ];
  return parts.join(", ") + ".";
}

/** Name of the adapter that the first of these nodes recorded. */
export function adapterOf(nodes: readonly Provenanced[]): string | undefined {
  for (const { provenance } of nodes) {
    const { adapter } = provenance;
    const name = isObject(adapter)
      ? text(adapter.description) ?? text(adapter.name) ?? text(adapter.device)
      : text(adapter);
    if (name !== undefined) return name;
  }
  return undefined;
}

function text(value: JsonValue | undefined): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** A text that the first of these nodes recorded about itself: its runtime, commit or configuration. */
export function provenanceText(nodes: readonly Provenanced[], key: string): string | undefined {
  for (const { provenance } of nodes) {
    const found = text(provenance[key]);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** A whole number with separators. */
export function whole(value: number | undefined): string {
  return value === undefined ? "not recorded" : Math.round(value).toLocaleString("en-US");
}

/** A number to so many decimals; a true minus sign. */
export function fixed(value: number, digits: number): string {
  return value.toFixed(digits).replace("-", "−");
}

/** An interval after its mean: `3.412 ± 0.021 (n = 3)`, or the bare value of a single run. */
export function withInterval(
  summary: { n: number; mean: number; low: number | null; high: number | null },
  digits = 3,
): string {
  if (summary.low === null || summary.high === null) {
    return `${fixed(summary.mean, digits)} (n = ${summary.n})`;
  }
  const half = (summary.high - summary.low) / 2;
  return `${fixed(summary.mean, digits)} ± ${fixed(half, digits)} (n = ${summary.n})`;
}
