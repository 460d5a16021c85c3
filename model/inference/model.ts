/**
 * A trained model on the device, without what training needs besides.
 *
 * @module
 */

import { loadModel, readModelConfig, type WeightSink } from "../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../config.ts";
import { runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Plan } from "../gpu/plan.ts";
import { uploadParts } from "../gpu/transfer.ts";
import { makeOperands, recordInitialWeights } from "../trunk/initial_weights.ts";
import { weightSpecs } from "../trunk/parameters.ts";
import { Weights } from "../layer/weights.ts";

interface InferenceOptions {
  /** `mixed` computes with f16 copies of the weights; defaults to `f32`. */
  readonly precision?: "f32" | "mixed";
  /** Changes the configuration that the file holds, in what does not concern its tensors. */
  readonly execution?: ModelConfig["execution"];
}

/** Weights and running statistics of a model file, on a device. */
export class InferenceModel implements Disposable {
  /** The device that holds it. */
  readonly gpu: Gpu;
  /** The configuration of the file. */
  readonly config: ModelConfig;
  /** Without gradients and moments. */
  readonly weights: Weights;

  private constructor(gpu: Gpu, config: ModelConfig, precision: "f32" | "mixed") {
    this.gpu = gpu;
    this.config = config;
    this.weights = new Weights(gpu, weightSpecs(config), { train: false, precision });
  }

  /**
   * Reads a `model.safetensors`, tensor by tensor.
   *
   * @throws {Error} Naming the file and what is wrong with it.
   */
  static async open(
    gpu: Gpu,
    path: string,
    options: InferenceOptions = {},
  ): Promise<InferenceModel> {
    const stored = await readModelConfig(path);
    const config = { ...stored, execution: options.execution ?? stored.execution };
    const model = new InferenceModel(gpu, config, options.precision ?? "f32");
    try {
      await loadModel(path, model.#sink());
      await makeOperands(gpu, model.weights);
    } catch (error) {
      model[Symbol.dispose]();
      throw error;
    }
    return model;
  }

  /** A model that has learned nothing: its size is right, its weights are those that training with `seed` begins with. */
  static async untrained(
    gpu: Gpu,
    config: ModelConfig,
    options: { seed: number; precision?: "f32" | "mixed" },
  ): Promise<InferenceModel> {
    const model = new InferenceModel(gpu, config, options.precision ?? "f32");
    try {
      const plan = new Plan(gpu, "initialize");
      recordInitialWeights(plan, model.weights, { config, seed: options.seed });
      await runPlan(plan);
      await makeOperands(gpu, model.weights);
    } catch (error) {
      model[Symbol.dispose]();
      throw error;
    }
    return model;
  }

  /** Frees the device's memory. */
  [Symbol.dispose](): void {
    this.weights.destroy();
  }

  #sink(): WeightSink {
    return {
      config: this.config,
      writeState: (_kind, name, values) => {
        uploadParts(this.gpu, this.weights.value(name).parts, values);
      },
    };
  }
}
