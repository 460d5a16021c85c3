/**
 * The product-key router as it is measured, whatever the experts behind it.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import type { LayerContext } from "../../layer/context.ts";
import type { ExpertBench } from "../../layer/kind.ts";
import { routerBackward, routerForward } from "./router.ts";
import { type ProductKeySection, subKeys } from "./schema.ts";

/** Keys of the section that a scaling varies, with their values. */
export function productKeyScaling(
  section: ProductKeySection,
  { software }: { readonly software: boolean },
): Readonly<Record<string, readonly number[]>> {
  const { top_k } = section;
  return {
    num_experts: (software ? [8, 16] : [64, 128, 256, 512, 1024])
      .filter((keys) => keys >= top_k)
      .map((keys) => keys ** 2),
    routing_heads: software ? [1, 2] : [2, 4, 8, 16],
    top_k: (software ? [2, 4] : [4, 8, 16, 32])
      .filter((top_k) => top_k <= subKeys(section) && top_k >= (section.min_k ?? 1)),
  };
}

/** Records the router of the layer `at` alone. */
export function benchRoute(
  context: LayerContext,
  at: string,
  input: { x: Tensor; router: ProductKeySection },
): ReturnType<ExpertBench["route"]> {
  const { router } = input;
  const prefix = `${at}.router`;
  const saved = routerForward(context, prefix, input);
  const { index, score } = saved.routed;
  return {
    index,
    score,
    backward: (options) => routerBackward(context, prefix, { router, saved, ...options }),
  };
}
