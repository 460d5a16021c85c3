/**
 * The weights that a model starts from.
 *
 * @module
 */

import type { ModelConfig } from "../config.ts";
import type { Plan } from "../gpu/plan.ts";
import { upload } from "../gpu/transfer.ts";
import { initializeNormal } from "../ops/optimizer/initialize.ts";
import { parameterSpecs, statisticSpecs } from "./parameters.ts";
import type { Weights } from "../layer/weights.ts";

/**
 * Records the random weights that `seed` chooses, and uploads those that are ones at once. Fresh {@linkcode Weights} are zeros,
 * so zeros stay what they are.
 */
export function recordInitialWeights(
  plan: Plan,
  weights: Weights,
  options: { config: ModelConfig; seed: number },
): void {
  const { config, seed } = options;
  for (const { name, init } of [...parameterSpecs(config), ...statisticSpecs(config)]) {
    const { parts } = weights.value(name);
    if (init.kind === "normal") {
      initializeNormal(plan, name, parts, { seed, deviation: init.std });
    } else if (init.kind === "ones") {
      for (const part of parts) upload(plan.gpu, part, new Float32Array(part.size).fill(1));
    }
  }
}
