/**
 * The dense layer, as a kind of feed-forward layer: SwiGLU, or gelu between two matrices.
 *
 * @module
 */

import { z } from "zod";
import { width } from "../../layer/fields.ts";
import type { FeedForward, Kind, TrunkSizes } from "../../layer/kind.ts";
import { type ParameterSpec, residualStd, uniformWeight, weight } from "../../layer/parameter.ts";
import { geluLayer } from "./gelu.ts";
import { swigluLayerBackward, swigluLayerForward } from "./swiglu.ts";

const schema = z.strictObject({
  kind: z.literal("dense"),
  d_ffn: width("width F of the hidden layer").default(4096),
  activation: z.enum(["swiglu", "gelu", "gelu_exact"]).optional().describe(
    "swiglu unless given; gelu: two matrices with the tanh form between them; gelu_exact: with the error function",
  ),
  weight_init: z.enum(["normal", "fan_in"]).optional()
    .describe("normal unless given; fan_in: uniform, by the width that a product sums over"),
});

/** Sizes of the layer. */
export type DenseSection = Readonly<z.infer<typeof schema>>;

const isSwiglu = ({ activation = "swiglu" }: DenseSection) => activation === "swiglu";

function parameters(section: DenseSection, trunk: TrunkSizes, at: string): ParameterSpec[] {
  const { d_ffn, weight_init } = section;
  const { d_model } = trunk;
  const role = "dense";
  const matrix = (name: string, shape: [number, number], std?: number) =>
    weight_init === "fan_in"
      ? uniformWeight(`${at}.${name}`, shape, { role, bound: 1 / Math.sqrt(shape[0]) })
      : weight(`${at}.${name}`, shape, { role, ...(std && { std }) });
  return [
    ...(isSwiglu(section) ? [matrix("w_gate", [d_model, d_ffn])] : []),
    matrix("w_up", [d_model, d_ffn]),
    matrix("w_down", [d_ffn, d_model], residualStd(trunk)),
  ];
}

/** The dense layer. */
export const kind: Kind<DenseSection, FeedForward> = {
  schema,
  runtime: {},
  create(dense, trunk) {
    const stored = (isSwiglu(dense) ? 3 : 2) * trunk.d_model * dense.d_ffn;
    return {
      parameters: (at) => parameters(dense, trunk, at),
      statistics: () => [],
      counts: { active: stored, theoretical: stored },
      flops: () => ({ dense: 2 * stored }),
      problems: () => [],
      forward(context, at, input) {
        if (!isSwiglu(dense)) {
          const gelu = dense.activation === "gelu_exact" ? "exact" : "tanh";
          return geluLayer(context, at, { ...input, gelu });
        }
        const { y, saved } = swigluLayerForward(context, at, input);
        return { y, backward: (dy) => swigluLayerBackward(context, at, { dy, saved }) };
      },
    };
  },
};
