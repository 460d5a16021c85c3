/**
 * Golden cases of expanded models on the float64 reference.
 *
 * @module
 */

import { crossEntropy } from "../../reference/loss.ts";
import type { Matrix } from "../../reference/matrix.ts";
import { networkForward } from "../../reference/network.ts";
import { expandedLogits, expandModel } from "../../reference/sparse/model.ts";
import { type ExpandedCase, SITE_LAYERS } from "./expanded.ts";
import type { GoldenResults } from "../golden.ts";
import { nextTokens } from "./stored.ts";

/** Results of an expanded model in float64. */
export function expandedReference(golden: ExpandedCase): GoldenResults {
  const { architecture: { config }, length } = golden;
  const sequences = (name: string) => ({ tokens: golden.inputs.get(name)!.data, length });
  const tokens = sequences("tokens");
  const parameters = new Map(
    Array.from(golden.parameters, ([name, values]) => [name, Float64Array.from(values)]),
  );
  const lossOf = (logits: Matrix) => crossEntropy(logits, nextTokens(tokens.tokens, length)).loss;
  const dense = networkForward(config, parameters, { ...tokens, training: false });
  const mlps = expandModel(config, parameters, { ...golden, ...sequences("calibration") });
  const logits = expandedLogits(config, parameters, { ...tokens, mlps });
  const results = new Map<string, ArrayLike<number>>([
    ["out.dense_loss", [lossOf(dense.logits)]],
    ["out.logits", logits.data],
    ["out.loss", [lossOf(logits)]],
  ]);
  for (const [l, mlp] of mlps.entries()) {
    for (const [s, [site]] of SITE_LAYERS.entries()) {
      const { labels, centroids, experts } = mlp[site];
      results.set(`out.labels.${l}.${s}`, labels).set(`out.centroids.${l}.${s}`, centroids.data);
      for (const [name, linear] of golden.linears[l]!) {
        const all = experts[name];
        if (!all) continue;
        results.set(`out.experts.${linear}`, all.flatMap(({ weight }) => [...weight.data]))
          .set(`out.masks.${linear}`, all.flatMap(({ mask }) => [...mask]));
      }
    }
  }
  return results;
}
