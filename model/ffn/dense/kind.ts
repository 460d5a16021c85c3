/**
 * The dense feed-forward layer, as a kind of feed-forward layer.
 *
 * @module
 */

import type { FeedForward, Kind, TrunkSizes } from "../../layer/kind.ts";
import {
  type ParameterSpec,
  residualStd,
  size,
  uniformWeight,
  vector,
  weight,
  zeros,
} from "../../layer/parameter.ts";
import { geluLayerBackward, geluLayerForward } from "./gelu.ts";
import { denseSchema, type DenseSection } from "./schema.ts";
import { swigluLayerBackward, swigluLayerForward } from "./swiglu.ts";

function parameters(dense: DenseSection, trunk: TrunkSizes, at: string): ParameterSpec[] {
  const { d_ffn, activation = "swiglu", biases = false, weight_init } = dense;
  const { d_model } = trunk;
  const role = "dense";
  const matrix = (name: string, shape: [number, number], std?: number) =>
    weight_init === "fan_in"
      ? uniformWeight(`${at}.${name}`, shape, { role, bound: 1 / Math.sqrt(shape[0]) })
      : weight(`${at}.${name}`, shape, { role, ...(std && { std }) });
  const bias = (name: string, columns: number) =>
    biases ? [vector(`${at}.${name}`, columns, { role, init: zeros })] : [];
  return [
    ...(activation === "swiglu"
      ? [matrix("w_gate", [d_model, d_ffn]), ...bias("b_gate", d_ffn)]
      : []),
    matrix("w_up", [d_model, d_ffn]),
    ...bias("b_up", d_ffn),
    matrix("w_down", [d_ffn, d_model], residualStd(trunk)),
    ...bias("b_down", d_model),
  ];
}

/** The dense feed-forward layer. */
export const kind: Kind<DenseSection, FeedForward> = {
  schema: denseSchema,
  runtime: {},
  create(dense, trunk) {
    const specs = parameters(dense, trunk, "");
    const stored = specs.reduce((sum, spec) => sum + size(spec), 0);
    const matrices = specs.filter(({ shape }) => shape.length === 2)
      .reduce((sum, spec) => sum + size(spec), 0);
    return {
      parameters: (at) => parameters(dense, trunk, at),
      statistics: () => [],
      counts: { active: stored, theoretical: stored },
      flops: () => ({ dense: 2 * matrices }),
      problems: () => [],
      forward(context, at, input) {
        const { activation = "swiglu", biases = false } = dense;
        if (activation === "swiglu") {
          const { y, saved } = swigluLayerForward(context, at, { ...input, biases });
          return { y, backward: (dy) => swigluLayerBackward(context, at, { dy, saved, biases }) };
        }
        const form = activation === "gelu" ? "tanh" : "exact";
        const { y, saved } = geluLayerForward(context, at, { ...input, form, biases });
        return { y, backward: (dy) => geluLayerBackward(context, at, { dy, saved, form, biases }) };
      },
    };
  },
};
