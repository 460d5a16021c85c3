/**
 * The device and the model that tests of suites measure.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import { tinyModel, tinyTrain } from "../../training/trainer_testing.ts";
import type { SuiteContext } from "./suite.ts";

/** A tiny model, and as few steps and repeats as there can be. */
export function tinyContext(gpu: Gpu, options: Partial<SuiteContext> = {}): SuiteContext {
  return {
    gpu,
    architecture: tinyModel(),
    train: tinyTrain(),
    timing: { warmup: 1, repeats: 2, minimum: 0.0001 },
    steps: 2,
    seed: 1,
    ...options,
  };
}
