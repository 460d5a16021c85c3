/**
 * How far the neurons of an expanded MLP are from Gaussian, before the expansion and after it: outputs on the GPU, distances on the host.
 *
 * @module
 */

import { runPlan } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { roundUp, type Tensor } from "../../gpu/tensor.ts";
import { embeddingForward } from "../../ops/elementwise/embedding.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { rowsByCluster } from "../expansion.ts";
import {
  type DenseMlp,
  type ExpandedMlp,
  layersOf,
  type MlpRows,
  type SiteName,
  SITES,
} from "../mlp.ts";
import { uniform } from "../routing/uniform.ts";
import { gaussianDistance, groupedDistance, histogram, standardised } from "./wasserstein.ts";

/** Bins of a histogram, and how many standard deviations they reach. */
export const BINS = { reach: 5, bins: 50 } as const;

/** How neurons are measured. */
export interface NeuronOptions {
  /** Neurons of a layer, evenly spaced; all where it has no more. */
  readonly neurons: number;
  /** Rows of a site at most, its first ones. */
  readonly rows: number;
  /** Neurons whose histograms are kept: so many of the largest distances before the expansion, and so many of the least. */
  readonly shown: number;
  /** Of the parts that rows are split into at random. */
  readonly seed: number;
}

/** Histograms of one neuron's outputs, standardised, in {@linkcode BINS}. */
export interface NeuronHistogram {
  readonly neuron: number;
  /** Of the dense layer, over all rows. */
  readonly dense: readonly number[];
  /** Of the experts; each cluster's outputs are standardised by themselves. */
  readonly expert: readonly number[];
}

/** Wasserstein distances of the neurons of one layer from a Gaussian, each list in the order of `neurons`. Those within groups are means weighted by rows. */
export interface LayerNeurons {
  readonly site: SiteName;
  /** `gate`, `up` or `down`. */
  readonly layer: string;
  /** Numbers of the measured neurons. */
  readonly neurons: readonly number[];
  /** Rows that were measured, by cluster. */
  readonly rows: readonly number[];
  /** Of the dense layer, over all rows. */
  readonly dense: readonly number[];
  /** Of the dense layer, within parts of the rows that are as large as the clusters and drawn at random: small groups are farther from a Gaussian by chance alone. */
  readonly split: readonly number[];
  /** Of the dense layer, within the clusters. */
  readonly clustered: readonly number[];
  /** Of each cluster's expert, within the clusters. */
  readonly expert: readonly number[];
  /** The least Gaussian neurons first. */
  readonly histograms: readonly NeuronHistogram[];
}

/** Numbers of `count` neurons of `outputs`, evenly spaced. */
export function spacedNeurons(outputs: number, count: number): number[] {
  const some = Math.min(outputs, count);
  return Array.from({ length: some }, (_, i) => Math.floor((i + 0.5) * outputs / some));
}

/** Records the dense outputs of some neurons, `[n, neurons]`. */
function denseOutputs(
  plan: Plan,
  { w, x, numbers }: { w: Tensor; x: Tensor; numbers: Tensor },
): Tensor {
  const own = plan.tensor("neurons.dense", [numbers.size, w.width]);
  embeddingForward(plan, "neurons", { tokens: numbers, parts: [w], x: own });
  const c = plan.tensor("outputs.dense", [x.rows, numbers.size]);
  gemm(plan, "outputs", { a: x, b: own, c, layout: "nt" });
  return c;
}

/** A permutation of so many numbers, by Fisher and Yates. */
function shuffled(count: number, seed: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(uniform(seed, i) * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

/** Outputs of one layer's neurons on the host, `[n, width]`, and how the rows are grouped. */
interface Outputs {
  readonly width: number;
  readonly dense: ArrayLike<number>;
  readonly expert: ArrayLike<number>;
  readonly clusters: readonly Uint32Array[];
  readonly parts: readonly Uint32Array[];
}

/** The column of one neuron, at the given rows. */
function column(
  values: ArrayLike<number>,
  { width, i, rows }: { width: number; i: number; rows: Uint32Array },
): Float64Array {
  return Float64Array.from(rows, (row) => values[row * width + i]!);
}

function distances(
  neurons: readonly number[],
  { width, dense, expert, clusters, parts }: Outputs,
  shown: number,
): Pick<LayerNeurons, "dense" | "split" | "clustered" | "expert" | "histograms"> {
  const all = Uint32Array.from({ length: dense.length / width }, (_, i) => i);
  const of = (values: ArrayLike<number>, i: number, groups: readonly Uint32Array[]) =>
    groups.map((rows) => column(values, { width, i, rows }));
  const whole = neurons.map((_, i) => gaussianDistance(column(dense, { width, i, rows: all })));
  const order = neurons.map((_, i) => i).sort((a, b) => whole[b]! - whole[a]! || a - b);
  const picked = new Set([
    ...order.slice(0, shown),
    ...order.slice(Math.max(0, order.length - shown)),
  ]);
  return {
    dense: whole,
    split: neurons.map((_, i) => groupedDistance(of(dense, i, parts))),
    clustered: neurons.map((_, i) => groupedDistance(of(dense, i, clusters))),
    expert: neurons.map((_, i) => groupedDistance(of(expert, i, clusters))),
    histograms: Array.from(picked, (i) => ({
      neuron: neurons[i]!,
      dense: histogram(standardised(column(dense, { width, i, rows: all })), BINS),
      expert: histogram(
        of(expert, i, clusters).flatMap((values) => [...standardised(values)]),
        BINS,
      ),
    })),
  };
}

/**
 * Measures the neurons of an MLP that was just expanded, on the first of the rows that it was expanded for. A bias shifts outputs and changes no distance, so it is left out.
 *
 * @param at `rows`: those that enter each site. `dense`: the matrices before the expansion.
 * @returns A measurement of each layer: `gate`, `up`, `down`, or those of them that there are.
 */
export async function measureNeurons(
  gpu: Gpu,
  { mlp, dense, rows }: {
    readonly mlp: ExpandedMlp;
    readonly dense: DenseMlp;
    readonly rows: MlpRows;
  },
  options: NeuronOptions,
): Promise<LayerNeurons[]> {
  const layers = layersOf(dense);
  const found: LayerNeurons[] = [];
  for (const site of SITES) {
    const [first] = rows[site].chunks;
    if (!first) throw new RangeError(`${site}: there are no rows`);
    const x = first.slice(0, Math.min(first.rows, options.rows));
    for (const [layer, w] of Object.entries(layers[site])) {
      const neurons = spacedNeurons(w.rows, options.neurons);
      const plan = new Plan(gpu, "neurons");
      // Products have a multiple of four columns.
      const width = roundUp(neurons.length, 4);
      const padded = Array.from({ length: width }, (_, i) => neurons[i] ?? neurons.at(-1)!);
      const numbers = plan.constant("numbers", [width], { dtype: "u32", numbers: () => padded });
      const { label, outputs } = mlp.sample(plan, { site, layer, x, numbers: padded });
      const read = await runPlan(plan, {
        label,
        expert: outputs,
        dense: denseOutputs(plan, { w, x, numbers }),
      });
      const clusters = rowsByCluster(read.label, mlp.clusters);
      const order = shuffled(x.rows, options.seed);
      let start = 0;
      const parts = clusters.map(({ length }) => order.subarray(start, start += length));
      const { dense: before, expert } = read;
      found.push({
        site,
        layer,
        neurons,
        rows: clusters.map(({ length }) => length),
        ...distances(neurons, { width, dense: before, expert, clusters, parts }, options.shown),
      });
    }
  }
  return found;
}
