/**
 * A trained model on the device, without what training needs besides. `open.ts` reads one from a file.
 *
 * @module
 */

import type { WeightSink } from "../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../section.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Plan } from "../gpu/plan.ts";
import { uploadParts } from "../gpu/transfer.ts";
import { makeOperands, recordInitialWeights } from "../trunk/initial_weights.ts";
import { weightSpecs } from "../trunk/parameters.ts";
import { Weights } from "../layer/weights.ts";

/** Bytes of weights that may wait to be written to the device. */
const MOST_WAITING = 2 ** 28;

/** Options of {@linkcode InferenceModel.filled}. */
export interface FillOptions {
  /** `mixed` computes with f16 copies of the weights; defaults to `f32`. */
  readonly precision?: "f32" | "mixed";
}

/** Something that has the weights of a model, such as a file or a published checkpoint. */
export interface WeightSource {
  /** The layers. */
  readonly architecture: Architecture;
  /** Gives every tensor to the sink. */
  fill(sink: WeightSink): Promise<void>;
}

/** Weights and running statistics of a model, on a device. */
export class InferenceModel implements Disposable {
  /** The device that holds it. */
  readonly gpu: Gpu;
  /** Its layers. */
  readonly architecture: Architecture;
  /** Without gradients and moments. */
  readonly weights: Weights;

  private constructor(gpu: Gpu, architecture: Architecture, precision: "f32" | "mixed") {
    this.gpu = gpu;
    this.architecture = architecture;
    this.weights = new Weights(gpu, weightSpecs(architecture), { train: false, precision });
  }

  /** A model whose weights a source gives. @throws The error of the source; nothing stays on the device then. */
  static async filled(
    gpu: Gpu,
    source: WeightSource,
    options: FillOptions = {},
  ): Promise<InferenceModel> {
    const model = new InferenceModel(gpu, source.architecture, options.precision ?? "f32");
    try {
      await source.fill(model.#sink());
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
    architecture: Architecture,
    options: { seed: number; precision?: "f32" | "mixed" },
  ): Promise<InferenceModel> {
    const model = new InferenceModel(gpu, architecture, options.precision ?? "f32");
    try {
      const plan = new Plan(gpu, "initialize");
      recordInitialWeights(plan, model.weights, { architecture, seed: options.seed });
      await runPlan(plan);
      await makeOperands(gpu, model.weights);
    } catch (error) {
      model[Symbol.dispose]();
      throw error;
    }
    return model;
  }

  /** Its configuration. */
  get config(): ModelConfig {
    return this.architecture.config;
  }

  /** Frees the device's memory. */
  [Symbol.dispose](): void {
    this.weights.destroy();
  }

  #sink(): WeightSink {
    const { queue } = this.gpu.device;
    let waiting = 0;
    return {
      architecture: this.architecture,
      writeState: async (_kind, name, values) => {
        uploadParts(this.gpu, this.weights.value(name).parts, values);
        waiting += values.byteLength;
        if (waiting < MOST_WAITING) return;
        waiting = 0;
        // The queue holds copies of all that was written until something is submitted.
        queue.submit([]);
        await this.gpu.guard(queue.onSubmittedWorkDone());
      },
    };
  }
}
