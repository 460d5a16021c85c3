/**
 * A model whose MLPs have Sparse Expansion, on a device.
 *
 * @module
 */

import type { Gpu } from "../gpu/device.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { LayerContext } from "../layer/context.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { recordForward } from "../trunk/network.ts";
import { type BlockOptions, expandBlocks } from "./blocks.ts";
import type { DenseModel } from "./calibration.ts";
import { expandedFeedForward } from "./feed_forward.ts";
import { ExpandedMlp, type StoredMlp } from "./mlp.ts";
import type { Pruning } from "./options.ts";
import { type MlpStorage, mlpStorage, sumStorage } from "./storage.ts";

/** The expanded MLPs of a model on the GPU. The weights of all else are a dense model's, which has to last as long. */
export class ExpandedModel implements Disposable {
  /** The model's layers, with expanded MLPs for its feed-forwards. */
  readonly architecture: Architecture;
  /** Storage and work of all MLPs. */
  readonly storage: MlpStorage;
  readonly #mlps: readonly ExpandedMlp[];

  private constructor(
    dense: Architecture,
    mlps: readonly ExpandedMlp[],
    storages: readonly MlpStorage[],
  ) {
    this.#mlps = mlps;
    this.storage = sumStorage(storages);
    this.architecture = dense.withFeedForwards(
      new Map(mlps.map((mlp, i) => [i, expandedFeedForward(mlp, storages[i]!)])),
    );
  }

  /**
   * Moves the MLPs of all blocks to the GPU, one after another.
   *
   * @param source `dense`: the layers of the model before its expansion. `mlps`: all its blocks, in their order.
   * @throws What `mlps` throws; nothing stays on the device then.
   */
  static async open(gpu: Gpu, source: {
    readonly dense: Architecture;
    readonly pruning: Pruning;
    readonly mlps: AsyncIterable<StoredMlp> | Iterable<StoredMlp>;
  }): Promise<ExpandedModel> {
    const mlps: ExpandedMlp[] = [];
    const storages: MlpStorage[] = [];
    try {
      for await (const stored of source.mlps) {
        mlps.push(new ExpandedMlp(gpu, stored));
        storages.push(mlpStorage(stored, source.pruning));
      }
    } catch (error) {
      for (const mlp of mlps) mlp[Symbol.dispose]();
      throw error;
    }
    return new ExpandedModel(source.dense, mlps, storages);
  }

  /**
   * Expands every MLP of a model that is on the device, layer after layer.
   *
   * @throws {RangeError} Which option does not fit, or what is wrong with the rows of which site.
   */
  static async expand(
    gpu: Gpu,
    { architecture, weights }: DenseModel,
    options: BlockOptions,
  ): Promise<ExpandedModel> {
    if (weights.precision !== "f32") {
      throw new RangeError(`The weights are ${weights.precision}, expected f32`);
    }
    const mlps: StoredMlp[] = [];
    const source = {
      architecture,
      use: <R>(_: unknown, work: (w: typeof weights) => R) => work(weights),
    };
    await expandBlocks(gpu, source, {
      ...options,
      store: { take: (_, mlp) => void mlps.push(mlp) },
    });
    return await ExpandedModel.open(gpu, { dense: architecture, pruning: options.pruning, mlps });
  }

  /** Records the layers for tokens `[T]`, u32, in a context over the dense model's weights; returns the residual stream after the last one, f32 `[T, D]`. */
  record(context: LayerContext, tokens: Tensor): Tensor {
    return recordForward(context, this.architecture, { tokens }).x;
  }

  /** Bytes of the experts on the device, which are as they are stored. */
  get expertBytes(): number {
    return this.#mlps.reduce((sum, mlp) => sum + mlp.expertBytes, 0);
  }

  /** Bytes of routers, experts and biases on the device. */
  get bytes(): number {
    return this.#mlps.reduce((sum, mlp) => sum + mlp.bytes, 0);
  }

  /** Frees routers and experts. */
  [Symbol.dispose](): void {
    for (const mlp of this.#mlps) mlp[Symbol.dispose]();
  }
}
