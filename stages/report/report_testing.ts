/**
 * Made-up inputs for tests of the report: the shapes that the other stages publish, with values from a formula. Never a
 * result of anything.
 *
 * @module
 */

import type { JsonValue, MetricRow, NodeOutput } from "../../pipeline/stage.ts";
import { type Ablation, compare } from "../ablate/ablate.ts";
import { measuredName } from "../ablate/measured.ts";
import type { BenchEntry } from "../../model/bench/suite.ts";
import { benchmarkMetric, caseMetrics, EXECUTIONS } from "../benchmark/result.ts";

/** Coefficients of the made-up training curve, `A − B ln x`. */
export const MADE_UP_CURVE = { a: 6.2, b: 0.31 } as const;

const STEPS = 120;

/** Cases of the benchmark's suites. */
export const MADE_UP_CASES: readonly BenchEntry[] = [
  { id: "copy.4MiB.buffer", suite: "copy", gb_per_second: 43.2 },
  { id: "gemm.square.128x128x128.nn.f16", suite: "gemm", tflop_per_second: 0.125 },
  { id: "step.mixed.full.8x64", suite: "step", tokens_per_second: 4567, peak_bytes: 3 * 2 ** 20 },
].map((entry) => ({
  ...entry,
  suite: entry.suite as BenchEntry["suite"],
  params: {},
  median: 0.0123,
  min: 0.011,
  max: 0.02,
  repeats: 5,
}));
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

/** A node that published what is given. */
export function madeUpNode(
  stage: string,
  options: {
    name?: string;
    json?: Readonly<Record<string, JsonValue>>;
    metrics?: readonly MetricRow[];
    labels?: Readonly<Record<string, JsonValue>>;
    params?: JsonValue;
    provenance?: Readonly<Record<string, JsonValue>>;
  },
): NodeOutput {
  const { name = stage, json = {}, metrics = [], labels = {}, params = {} } = options;
  return {
    name,
    stage,
    key: `${stage}0123456789abcdef0123456789abcdef`,
    params,
    labels,
    json(output) {
      const value = json[output];
      if (value === undefined) throw new Error(`${name} has no output ${output}`);
      return value;
    },
    measured(output) {
      throw new Error(`${name} has no output ${output}`);
    },
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
  readonly vocabulary?: string;
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
  const ablation: Ablation = compare({
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
        dataset: {
          vocabulary,
          vocab_size: 512,
          splits: {
            train: {
              documents: 900,
              tokens: 1_000_000,
              bytes: 2_300_000,
              unigram_entropy_nats: 5.5,
            },
            validation: {
              documents: 100,
              tokens: 90_000,
              bytes: 200_000,
              unigram_entropy_nats: 5.5,
            },
          },
        },
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
      metrics: cells.flatMap(({ name }, c) => [
        measured(0, measuredName(name, "tokens_per_second", "mean"), 4000 - 100 * c),
        measured(0, measuredName(name, "memory_bytes", "mean"), 5e7 + 1e6 * c),
      ]),
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
      metrics: [256, 512].flatMap((tokens) =>
        EXECUTIONS.flatMap((execution, i) => [
          measured(tokens, benchmarkMetric(execution, "forward_seconds"), tokens * 1e-4 / (i + 1)),
          measured(
            tokens,
            benchmarkMetric(execution, "forward_backward_seconds"),
            tokens * 3e-4 / (i + 1),
          ),
          measured(tokens, benchmarkMetric(execution, "peak_bytes"), tokens * 2e5 / (3 * i + 1)),
        ])
      ).concat(
        MADE_UP_CASES.flatMap((entry) =>
          Object.entries(caseMetrics(entry)).map(([name, value]) => measured(0, name, value))
        ),
      ),
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
