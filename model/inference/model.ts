/**
 * A trained model on the device, without what training needs besides.
 *
 * @module
 */

import { loadModel, readArchitecture, type WeightSink } from "../checkpoint/checkpoint.ts";
import type { LoadOptions } from "../load.ts";
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

interface InferenceOptions extends LoadOptions {
  /** `mixed` computes with f16 copies of the weights; defaults to `f32`. */
  readonly precision?: "f32" | "mixed";
  /** Keys of `model.ffn` to change in the configuration that the file holds: those that no tensor depends on. */
  readonly ffn?: Readonly<Record<string, unknown>>;
}

/** Something that has the weights of a model, such as a published checkpoint. */
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
  /** The layers of the file's configuration. */
  readonly architecture: Architecture;
  /** Without gradients and moments. */
  readonly weights: Weights;

  private constructor(gpu: Gpu, architecture: Architecture, precision: "f32" | "mixed") {
    this.gpu = gpu;
    this.architecture = architecture;
    this.weights = new Weights(gpu, weightSpecs(architecture), { train: false, precision });
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
    const stored = await readArchitecture(path, options);
    const architecture = options.ffn === undefined ? stored : stored.withFfn(options.ffn);
    const fill = (sink: WeightSink) => loadModel(path, sink);
    return await InferenceModel.filled(gpu, { architecture, fill }, options);
  }

  /** A model whose weights a source gives. @throws The error of the source; nothing stays on the device then. */
  static async filled(
    gpu: Gpu,
    source: WeightSource,
    options: Pick<InferenceOptions, "precision"> = {},
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

  /** The configuration of the file. */
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
