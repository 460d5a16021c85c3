/**
 * The weights that a model starts from, and the copies that matrix products read.
 *
 * @module
 */

import { runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Plan } from "../gpu/plan.ts";
import { upload } from "../gpu/transfer.ts";
import { castInto } from "../ops/elementwise/cast.ts";
import { initializeNormal, initializeUniform } from "../ops/optimizer/initialize.ts";
import type { Architecture } from "./architecture.ts";
import { parameterSpecs, statisticSpecs } from "./parameters.ts";
import type { Weights } from "../layer/weights.ts";

/**
 * Records the random weights that `seed` chooses, and uploads those that are ones at once. Fresh {@linkcode Weights} are zeros,
 * so zeros stay what they are.
 */
export function recordInitialWeights(
  plan: Plan,
  weights: Weights,
  options: { architecture: Architecture; seed: number },
): void {
  const { architecture, seed } = options;
  for (const { name, init } of [...parameterSpecs(architecture), ...statisticSpecs(architecture)]) {
    const { parts } = weights.value(name);
    if (init.kind === "normal") {
      initializeNormal(plan, name, parts, { seed, deviation: init.std });
    } else if (init.kind === "uniform") {
      initializeUniform(plan, name, parts, { seed, bound: init.bound });
    } else if (init.kind === "ones") {
      for (const part of parts) upload(plan.gpu, part, new Float32Array(part.size).fill(1));
    }
  }
}

/** Makes the f16 copies of the values, where `weights` keeps them. An optimizer keeps them up from then on. */
export async function makeOperands(gpu: Gpu, weights: Weights): Promise<void> {
  if (weights.precision !== "mixed") return;
  const plan = new Plan(gpu, "operands");
  for (const { name, trained } of weights.specs) {
    if (!trained) continue;
    const operands = weights.operand(name).parts;
    weights.value(name).parts.forEach((from, i) =>
      castInto(plan, "operands", { from, to: operands[i]! })
    );
  }
  await runPlan(plan);
}
