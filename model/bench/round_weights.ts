/**
 * The same model but for the last bits of its weights: a measure of what such bits do to a training.
 *
 * @module
 */

import { parameterSpecs } from "../trunk/parameters.ts";
import type { Trainer } from "../training/trainer.ts";

/** Rounds every trained weight of an f32 trainer to the nearest half, which is what mixed precision computes with. */
export async function roundWeights(trainer: Trainer): Promise<void> {
  if (trainer.train.precision !== "f32") {
    throw new RangeError(
      "Weights are rounded for a training in f32; this one is in mixed precision",
    );
  }
  for (const { name, held } of parameterSpecs(trainer.config)) {
    if (held) continue;
    const rounded = new Float16Array(await trainer.readState("value", name));
    trainer.writeState("value", name, new Float32Array(rounded));
  }
}
