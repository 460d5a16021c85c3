/**
 * The dense SwiGLU layer, as a kind of feed-forward layer.
 *
 * @module
 */

import { z } from "zod";
import { width } from "../../layer/fields.ts";
import type { FeedForward, Kind, TrunkSizes } from "../../layer/kind.ts";
import { type ParameterSpec, residualStd, weight } from "../../layer/parameter.ts";
import { swigluLayerBackward, swigluLayerForward } from "./swiglu.ts";

const schema = z.strictObject({
  kind: z.literal("dense"),
  d_ffn: width("SwiGLU width F").default(4096),
});

/** Sizes of the layer. */
export type DenseSection = Readonly<z.infer<typeof schema>>;

function parameters({ d_ffn }: DenseSection, trunk: TrunkSizes, at: string): ParameterSpec[] {
  const { d_model } = trunk;
  const role = "dense";
  return [
    weight(`${at}.w_gate`, [d_model, d_ffn], { role }),
    weight(`${at}.w_up`, [d_model, d_ffn], { role }),
    weight(`${at}.w_down`, [d_ffn, d_model], { role, std: residualStd(trunk) }),
  ];
}

/** The dense SwiGLU layer. */
export const kind: Kind<DenseSection, FeedForward> = {
  schema,
  runtime: {},
  create(dense, trunk) {
    const stored = 3 * trunk.d_model * dense.d_ffn;
    return {
      parameters: (at) => parameters(dense, trunk, at),
      statistics: () => [],
      counts: { active: stored, theoretical: stored },
      flops: () => ({ dense: 2 * stored }),
      problems: () => [],
      forward(context, at, input) {
        const { y, saved } = swigluLayerForward(context, at, input);
        return { y, backward: (dy) => swigluLayerBackward(context, at, { dy, saved }) };
      },
    };
  },
};
