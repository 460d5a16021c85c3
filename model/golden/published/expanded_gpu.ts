/**
 * Golden cases of expanded models on a GPU.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import { SITES } from "../../sparse/mlp.ts";
import { ExpandedModel } from "../../sparse/model.ts";
import { weightSpecs } from "../../trunk/parameters.ts";
import type { ExpandedCase, LayerName } from "./expanded.ts";
import { type GoldenResults, input } from "../golden.ts";
import { Bench } from "../gpu_workbench.ts";
import { predict } from "./pretrained_gpu.ts";

/** Rows that calibration runs at once, so few that there are several batches. */
const MOST_ROWS = 64;

/** Results of an expanded model, in f32. */
export async function expanded(gpu: Gpu, golden: ExpandedCase): Promise<GoldenResults> {
  const { architecture, length, parameters, expansion, pruning, seed, linears } = golden;
  const values = (name: string) => parameters.get(name)!;
  using b = new Bench(gpu, weightSpecs(architecture), { values, precision: "f32" });
  const results = new Map<string, ArrayLike<number>>();
  const experts = new Map<string, number[]>();
  const append = (key: string, values: ArrayLike<number>) =>
    experts.set(key, [...experts.get(key) ?? [], ...Array.from(values)]);
  using model = await ExpandedModel.expand(gpu, { architecture, weights: b.weights }, {
    tokens: input(golden, "calibration").data,
    length,
    expansion,
    pruning,
    seed,
    most: MOST_ROWS,
    onRouter(block, site, { kmeans: { clusters } }) {
      const at = `${block}.${SITES.indexOf(site)}`;
      results.set(`out.labels.${at}`, clusters.labels);
      results.set(`out.centroids.${at}`, clusters.centroids);
    },
    onExpert({ block, layer, matrix: { weight, mask } }) {
      const linear = linears[block]!.get(layer as LayerName)!;
      append(`out.experts.${linear}`, weight);
      append(`out.masks.${linear}`, mask);
    },
  });
  const dense = await predict(b, golden);
  const after = await predict(b, golden, (context, tokens) => model.record(context, tokens));
  return new Map([
    ...results,
    ...experts,
    ["out.dense_loss", dense.get("out.loss")!],
    ["out.logits", after.get("out.logits")!],
    ["out.loss", after.get("out.loss")!],
  ]);
}
