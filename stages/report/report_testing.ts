/**
 * Made-up inputs for tests of the report: the shapes that the other stages publish, with values from a formula. Never a
 * result of anything.
 *
 * @module
 */

import type { JsonValue, MetricRow, NodeOutput } from "../../pipeline/stage.ts";
import { compare } from "../ablate/ablate.ts";
import { type CaseTiming, EXECUTIONS } from "../benchmark/result.ts";
import type { DatasetResult } from "../dataset_result.ts";
import { summarize } from "../ablate/statistics.ts";

/** Coefficients of the made-up training curve, `A − B ln x`. */
export const MADE_UP_CURVE = { a: 6.2, b: 0.31 } as const;

const STEPS = 120;

/** Cases of the benchmark's suites. */
const MADE_UP_CASES: readonly CaseTiming[] = [
  { id: "copy.4MiB.buffer", suite: "copy" as const, gb_per_second: 43.2 },
  { id: "gemm.square.128x128x128.nn.f16", suite: "gemm" as const, tflop_per_second: 0.125 },
  {
    id: "step.mixed.full.8x64",
    suite: "step" as const,
    tokens_per_second: 4567,
    peak_bytes: 3 * 2 ** 20,
  },
].map((entry) => ({ ...entry, median: 0.0123, min: 0.011, max: 0.02 }));
const PROVENANCE = {
  run: "made-up-run",
  started_at: "2025-01-02T03:04:05Z",
  adapter: "made-up adapter",
  runtime: "made-up runtime",
  deno: "9.9.9",
  commit: "0123456789abcdef0123456789abcdef01234567",
  modified: true,
  config: "configs/made-up.yaml",
  configuration: "fedcba98".repeat(8),
  seconds: 100,
};

const MODEL = {
  d_model: 64,
  num_layers: 3,
  leading_dense: { num_layers: 1, d_ffn: 128 },
  attention: {
    kind: "mla",
    num_heads: 4,
    q_lora_rank: 48,
    kv_lora_rank: 32,
    d_nope: 16,
    d_rope: 8,
    d_v: 16,
  },
  ffn: {
    kind: "ethos",
    num_experts: 1024,
    routing_heads: 2,
    top_k: 4,
    d_query: 32,
    d_latent: 16,
    d_hidden: 32,
  },
};
const TRAIN = {
  sequence_length: 64,
  micro_batch: 8,
  steps: STEPS,
  learning_rate: { warmup_steps: 20 },
};

/** A node that published the given outputs. */
export function madeUpNode(
  stage: string,
  options: {
    name?: string;
    json?: Readonly<Record<string, JsonValue>>;
    measured?: Readonly<Record<string, JsonValue>>;
    metrics?: readonly MetricRow[];
    labels?: Readonly<Record<string, JsonValue>>;
    params?: JsonValue;
    provenance?: Readonly<Record<string, JsonValue>>;
  },
): NodeOutput {
  const { name = stage, json = {}, measured = {}, metrics = [], labels = {}, params = {} } =
    options;
  const valueOf = (values: Readonly<Record<string, JsonValue>>, output: string) => {
    const value = values[output];
    if (value === undefined) throw new Error(`${name} has no output ${output}`);
    return value;
  };
  return {
    name,
    stage,
    key: `${stage}0123456789abcdef0123456789abcdef`,
    params,
    labels,
    json: (output) => valueOf(json, output),
    measured: (output) => valueOf(measured, output),
    file: (output) => `/nowhere/${output}`,
    files: () => [],
    metrics: () => Promise.resolve(metrics),
    provenance: options.provenance ?? PROVENANCE,
  };
}

/** Options of {@linkcode madeUpInputs}. */
export interface MadeUpOptions {
  /** Text that ends up in names and titles, to see that it is escaped. */
  readonly text?: string;
  readonly seeds?: readonly number[];
  /** `compact`, unless given. */
  readonly vocabulary?: DatasetResult["vocabulary"];
  /** Section `model.ffn` of every model; experts, unless given. */
  readonly ffn?: JsonValue;
}

/** Inputs of a whole run. */
export function madeUpInputs(
  options: MadeUpOptions = {},
): Readonly<Record<string, readonly NodeOutput[]>> {
  const { text = "made-up text", seeds = [1, 2, 3], vocabulary = "compact" } = options;
  const { ffn = MODEL.ffn } = options;
  const cells = [
    { name: "base", base: true, factors: { d_latent: 16, heads: 2 } },
    { name: "d_latent=8", base: false, factors: { d_latent: 8 } },
    { name: "d_latent=32", base: false, factors: { d_latent: 32 } },
    { name: "heads=4", base: false, factors: { heads: 4 } },
  ];
  const runs = cells.flatMap((cell, c) =>
    seeds.map((seed) => ({
      cell: cell.name,
      seed,
      metrics: { nats: 4.6 + 0.03 * c + 0.02 * wave(seed + 7 * c), perplexity: 99 },
    }))
  );
  const ablation = compare({
    cells,
    factors: [
      {
        name: "d_latent",
        title: `Latent width, ${text}`,
        values: [
          { value: 8, cell: "d_latent=8" },
          { value: 16, cell: "base" },
          { value: 32, cell: "d_latent=32" },
        ],
      },
      {
        name: "heads",
        title: "Routing heads",
        values: [{ value: 2, cell: "base" }, { value: 4, cell: "heads=4" }],
      },
    ],
    runs: runs.map(({ cell, seed }) => ({ cell, seed })),
  }, runs);
  const labelsOf = ({ cell, seed }: { cell: string; seed: number }) => {
    const [factor, value] = cell.split("=");
    const base = cell === "base";
    return { cell, seed, base, factor: base ? null : factor!, value: base ? null : Number(value) };
  };
  return {
    download: [madeUpNode("download", { json: { source: { source: text } } })],
    dataset: [madeUpNode("tokenize", {
      json: {
        dataset: dataset(vocabulary),
      },
    })],
    train: runs.map((run) =>
      madeUpNode("train", {
        name: `train[${run.cell},seed=${run.seed}]`,
        labels: labelsOf(run),
        params: { model: { ...MODEL, ffn }, train: TRAIN, seed: run.seed },
        json: { summary: { steps: STEPS, tokens: STEPS * 512 } },
        metrics: trainingRows(run.seed),
      })
    ),
    evaluate: runs.map((run) =>
      madeUpNode("evaluate", {
        name: `evaluate[${run.cell},seed=${run.seed}]`,
        labels: labelsOf(run),
        json: { evaluation: evaluation(run.metrics.nats) },
      })
    ),
    ablate: [madeUpNode("ablate", {
      json: { ablation: JSON.parse(JSON.stringify(ablation)) },
      measured: {
        measured: cells.flatMap(({ name: cell }, c) => [
          { cell, quantity: "tokens_per_second", ...summarize([4000 - 100 * c]) },
          { cell, quantity: "memory_bytes", ...summarize([5e7 + 1e6 * c]) },
        ]),
      },
    })],
    benchmark: [madeUpNode("benchmark", {
      json: {
        benchmark: {
          scope: "layer",
          executions: [...EXECUTIONS],
          tokens: [256, 512],
          repetitions: 5,
          cases: MADE_UP_CASES.map(({ id, suite }) => ({ id, suite })),
        },
      },
      measured: {
        timings: [
          ...[256, 512].flatMap((tokens) =>
            EXECUTIONS.map((execution, i) => ({
              execution,
              tokens,
              forward_seconds: tokens * 1e-4 / (i + 1),
              forward_backward_seconds: tokens * 3e-4 / (i + 1),
              peak_bytes: tokens * 2e5 / (3 * i + 1),
            }))
          ),
          ...MADE_UP_CASES,
        ],
      },
    })],
  };
}

function trainingRows(seed: number): MetricRow[] {
  const rows: MetricRow[] = [];
  const row = (step: number, name: string, value: number) =>
    rows.push({ step, name, value, measured: false });
  for (let step = 1; step <= STEPS; step++) {
    const { a, b } = MADE_UP_CURVE;
    row(step, "loss", a - b * Math.log(step) + 0.05 * wave(31 * step + seed));
    row(step, "lr", 0.003);
    if (step % 40 === 0) {
      row(step, "validation_nats", a - b * Math.log(step) + 0.05);
      row(step, "expert_usage", 0.5 + step / 300);
      row(step, "expert_unevenness", 1.2 - step / 150 + 0.02 * seed);
    }
    rows.push(
      measured(step, "memory_bytes", 5e7),
      // The speed falls a little while training goes on; an update takes half a second.
      measured(step, "tokens_per_second", 1060.5 - step),
      measured(step, "step_seconds", 0.5),
    );
  }
  return rows;
}

function dataset(vocabulary: DatasetResult["vocabulary"]): DatasetResult {
  const split = (documents: number, tokens: number, bytes: number) => ({
    documents,
    tokens,
    bytes,
    unigram_entropy_nats: 5.5,
    shards: [{ file: "00000.tokens", documents, tokens, bytes }],
  });
  return {
    vocabulary,
    vocab_size: 512,
    endoftext: 511,
    vocabulary_digest: "0".repeat(64),
    validation_fraction: 0.1,
    documents: 1000,
    duplicates: 0,
    empty: 0,
    splits: { train: split(900, 1_000_000, 2_300_000), validation: split(100, 90_000, 200_000) },
  };
}

function evaluation(nats: number): JsonValue {
  return {
    split: "validation",
    tokens: 16384,
    bytes: 40000,
    nats,
    perplexity: Math.exp(nats),
    bits_per_byte: nats * 16384 / Math.LN2 / 40000,
    layers: [1, 2].map((layer) => ({
      layer,
      expert_usage: 0.9,
      expert_unevenness: 0.4 * layer,
      expert_gini: 0.3 * layer,
      routing_histogram: Array.from({ length: 1024 }, (_, i) => Math.floor(3000 / (i + layer * 9))),
    })),
  };
}

function measured(step: number, name: string, value: number): MetricRow {
  return { step, name, value, measured: true };
}

/** Between −1 and 1, without a pattern, the same everywhere. */
function wave(i: number): number {
  let bits = Math.imul(i + 1, 2654435761);
  bits = Math.imul(bits ^ (bits >>> 15), 2246822519);
  return 2 * (((bits ^ (bits >>> 13)) >>> 8) % 1000) / 999 - 1;
}
