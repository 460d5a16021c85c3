/**
 * An expanded MLP in the place of a model's feed-forward.
 *
 * @module
 */

import type { FeedForward } from "../layer/kind.ts";
import type { ExpandedMlp } from "./mlp.ts";
import type { MlpStorage } from "./storage.ts";

/** The feed-forward of a layer whose MLP is expanded. The trunk's weights have no part of it. */
export function expandedFeedForward(mlp: ExpandedMlp, storage: MlpStorage): FeedForward {
  return {
    parameters: () => [],
    statistics: () => [],
    counts: { active: storage.multiply_adds, theoretical: storage.kept },
    flops: () => ({ experts: 2 * storage.multiply_adds }),
    problems: () => ["its experts are compressed, and have no gradients"],
    forward({ plan, operandType }, at, { x, residual }) {
      if (operandType !== "f32") {
        throw new RangeError(`${at}: activations are ${operandType}, expected f32`);
      }
      return {
        y: plan.scope(at, () => mlp.record(plan, x, { residual }).y),
        backward() {
          throw new Error(`${at}: an expanded MLP has no backward pass`);
        },
      };
    },
  };
}
