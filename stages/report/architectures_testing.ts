/**
 * Made-up inputs for tests of compared architectures. Never a result of anything.
 *
 * @module
 */

import type { JsonValue, MetricRow, NodeOutput } from "../../pipeline/stage.ts";
import { compare } from "../ablate/ablate.ts";
import { summarize } from "../ablate/statistics.ts";
import { madeUpInputs, madeUpNode } from "./report_testing.ts";

/** A made-up architecture. */
interface MadeUpArchitecture {
  readonly cell: string;
  readonly value: string;
  readonly ffn: Readonly<Record<string, JsonValue>>;
  /** Loss with seed 1; each seed more adds a thousandth of its square. */
  readonly nats: number;
  readonly stored: number;
  readonly active: number;
  readonly flops: number;
  readonly speed: number;
  /** Counts of the experts of its only layer with experts. */
  readonly counts?: readonly number[];
}

const ETHOS = {
  kind: "ethos",
  router: "product_key",
  num_experts: 1024,
  routing_heads: 2,
  top_k: 4,
  d_query: 32,
  d_latent: 16,
  d_hidden: 32,
};

/** The base, two other kinds, another router, and a width, which is no architecture. */
export const MADE_UP_ARCHITECTURES: readonly MadeUpArchitecture[] = [
  {
    cell: "base",
    value: "ethos",
    ffn: ETHOS,
    nats: 4.5,
    stored: 4e6,
    active: 1e6,
    flops: 3e6,
    speed: 4000,
    counts: [4, 0, 2, 2],
  },
  {
    cell: "kind=beams",
    value: "beams",
    ffn: { kind: "ethos", router: "beam" },
    nats: 4.6,
    stored: 1.5e6,
    active: 1.004e6,
    flops: 3.5e6,
    speed: 2500,
    counts: [1, 1, 1, 1],
  },
  {
    cell: "kind=switch",
    value: "switch",
    ffn: { kind: "switch", num_experts: 4, d_expert: 64 },
    nats: 4.3,
    stored: 9e6,
    active: 0.993e6,
    flops: 2e6,
    speed: 3000,
    counts: [0, 0, 8, 0],
  },
  {
    cell: "kind=dense",
    value: "dense",
    ffn: { kind: "dense", d_ffn: 96 },
    nats: 4.4,
    stored: 1e6,
    active: 1e6,
    flops: 2e6,
    speed: 5000,
  },
  {
    cell: "d_latent=8",
    value: "8",
    ffn: { ...ETHOS, d_latent: 8 },
    nats: 4.55,
    stored: 3e6,
    active: 0.9e6,
    flops: 2.9e6,
    speed: 4100,
    counts: [2, 2, 2, 2],
  },
];

/** Inputs of a whole run with a factor of architectures and one of widths. */
export function madeUpArchitectures(
  options: { readonly seeds?: readonly number[]; readonly earlier?: boolean } = {},
): Readonly<Record<string, readonly NodeOutput[]>> {
  const { seeds = [1, 2, 3], earlier = false } = options;
  const { download, dataset, benchmark, train: [model] } = madeUpInputs({ seeds: [1] }) as
    & Record<
      string,
      readonly NodeOutput[]
    >
    & { readonly train: readonly [NodeOutput] };
  const { model: section, train } = model.params as Record<string, Record<string, JsonValue>>;
  const cells = MADE_UP_ARCHITECTURES.map(({ cell }) => ({
    name: cell,
    base: cell === "base",
    factors: {},
  }));
  const runs = MADE_UP_ARCHITECTURES.flatMap((architecture) =>
    seeds.map((seed) => {
      const nats = architecture.nats + 1e-3 * seed ** 2;
      return {
        architecture,
        cell: architecture.cell,
        seed,
        metrics: { nats, bits_per_byte: nats / 2 },
      };
    })
  );
  const valueOf = ({ cell, value }: MadeUpArchitecture) => ({ value, cell });
  const [base, beams, switched, dense, narrow] = MADE_UP_ARCHITECTURES.map(valueOf);
  const ablation = compare({
    cells,
    factors: [
      { name: "kind", title: "Made-up kinds", values: [base!, beams!, switched!, dense!] },
      { name: "d_latent", title: "Latent width", values: [narrow!, { ...base!, value: "16" }] },
    ],
    runs: runs.map(({ cell, seed }) => ({ cell, seed })),
  }, runs);
  const labelsOf = ({ cell, seed }: typeof runs[number]) => ({
    cell,
    seed,
    base: cell === "base",
    factor: cell === "base" ? null : cell.split("=")[0]!,
    value: cell === "base" ? null : cell.split("=")[1]!,
  });
  return {
    download: download!,
    dataset: dataset!,
    benchmark: benchmark!,
    train: runs.map((run) => {
      const { ffn, stored, active, flops, counts } = run.architecture;
      return madeUpNode("train", {
        name: `train[${run.cell},seed=${run.seed}]`,
        labels: labelsOf(run),
        params: { model: { ...section, ffn }, train: train!, seed: run.seed },
        json: {
          summary: {
            steps: 80,
            tokens: 80 * 512,
            parameters: { stored, active, theoretical: stored },
            flops_per_token: flops,
          },
        },
        metrics: counts === undefined ? [] : curves(run.seed),
      });
    }),
    evaluate: runs.map((run) =>
      madeUpNode("evaluate", {
        name: `evaluate[${run.cell},seed=${run.seed}]`,
        labels: labelsOf(run),
        json: { evaluation: evaluation(run, { earlier }) },
      })
    ),
    ablate: [madeUpNode("ablate", {
      json: { ablation: JSON.parse(JSON.stringify(ablation)) },
      measured: {
        measured: MADE_UP_ARCHITECTURES.flatMap(({ cell, speed }) => [
          {
            cell,
            quantity: "tokens_per_second",
            ...summarize(seeds.map((seed) => speed + 10 * seed)),
          },
          { cell, quantity: "memory_bytes", ...summarize([2 ** 20]) },
        ]),
      },
    })],
  };
}

function curves(seed: number): MetricRow[] {
  return [40, 80].flatMap((step) => [
    { step, name: "expert_usage", value: 0.1 * seed + step / 400, measured: false },
    { step, name: "expert_unevenness", value: 1 + step / 100, measured: false },
    { step, name: "expert_gini", value: 0.5, measured: false },
  ]);
}

function evaluation(
  { architecture, seed, metrics }: {
    architecture: MadeUpArchitecture;
    seed: number;
    metrics: { nats: number; bits_per_byte: number };
  },
  { earlier }: { earlier: boolean },
): JsonValue {
  const { counts } = architecture;
  const total = counts?.reduce((sum, count) => sum + count, 0) ?? 0;
  const hottest = (counts ?? []).map((count, expert) => ({ expert, share: count / total }))
    .filter(({ share }) => share > 0).sort((a, b) => b.share - a.share);
  return {
    split: "validation",
    tokens: 8,
    bytes: 16,
    ...metrics,
    perplexity: Math.exp(metrics.nats),
    layers: counts === undefined ? [] : [{
      layer: 2,
      expert_usage: counts.filter((count) => count > 0).length / counts.length,
      // Seeds 1, 2 and 3 come to 1 in the mean.
      expert_unevenness: 0.5 * seed,
      expert_gini: 0.25,
      ...(!earlier && { experts: counts.length, hottest, experts_per_token: total / 8 }),
      routing_histogram: counts.toSorted((a, b) => b - a),
    }],
  };
}
