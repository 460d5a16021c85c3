/**
 * Expands the blocks of a model in their order, each MLP for the rows that reach it behind the expanded ones before it.
 *
 * @module
 */

import type { Gpu } from "../gpu/device.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Weights } from "../layer/weights.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { Calibration, denseMlp, type Windows } from "./calibration.ts";
import {
  type DenseMlp,
  ExpandedMlp,
  expandMlp,
  type MlpOptions,
  type MlpRows,
  type SiteName,
  type StoredMlp,
} from "./mlp.ts";
import type { RouterFit } from "./routing/router.ts";
import { Tensors } from "./rows.ts";
import type { PrunedMatrix } from "./sparsegpt.ts";

/** A part of a dense model. */
export type DensePart =
  | { readonly kind: "embedding" }
  /** With `mlp`, the dense MLP's parameters too. */
  | { readonly kind: "block"; readonly block: number; readonly mlp: boolean };

/** Where the weights of a dense model come from, a part at a time. */
export interface DenseSource {
  readonly architecture: Architecture;
  /** Runs `work` with the weights of a part on the device, in f32; they may be gone afterwards. */
  use<Result>(part: DensePart, work: (weights: Weights) => Promise<Result>): Promise<Result>;
}

/** How a model is expanded. */
export interface BlockOptions
  extends Windows, Pick<MlpOptions, "expansion" | "pruning" | "seed" | "values" | "signal"> {
  /** Gets each router as it is fitted. */
  readonly onRouter?: ((block: number, site: SiteName, fit: RouterFit) => void) | undefined;
  /** Told how often the damping of a cluster's Hessian was added until it was positive definite. */
  readonly onFactor?:
    | ((at: { block: number; site: SiteName; cluster: number; dampings: number }) => void)
    | undefined;
  /** Gets each MLP as it is expanded, before it is stored, with its dense matrices and the rows that it was expanded for, which are freed afterwards. */
  readonly onMlp?:
    | ((at: {
      readonly block: number;
      readonly mlp: ExpandedMlp;
      readonly dense: DenseMlp;
      readonly rows: MlpRows;
    }) => void | Promise<void>)
    | undefined;
  /** Gets each expert as it is pruned; `layer` is `gate`, `up` or `down`. */
  readonly onExpert?:
    | ((expert: {
      readonly block: number;
      readonly layer: string;
      readonly cluster: number;
      readonly matrix: PrunedMatrix;
    }) => void | Promise<void>)
    | undefined;
}

/** Keeps each block. */
export interface BlockStore {
  /** A block that was expanded before, with the same options. */
  stored?(block: number): Promise<StoredMlp | undefined>;
  /** Takes a block that has just been expanded; the windows run through it afterwards. */
  take(block: number, mlp: StoredMlp): Promise<void> | void;
}

/**
 * Expands every MLP of a model, layer after layer. The device has the weights, the experts and the rows of one block at a time, and the residual stream of all windows.
 *
 * The windows run through each block as it is stored, whether it was expanded just now or before, so that a run that goes on gives the bits of one that was not stopped.
 *
 * @throws {RangeError} Which option does not fit, or what is wrong with the rows of which site.
 */
export async function expandBlocks(
  gpu: Gpu,
  source: DenseSource,
  { store, ...options }: BlockOptions & { readonly store: BlockStore },
): Promise<void> {
  const { architecture } = source;
  const { num_layers } = architecture.config;
  using calibration = new Calibration(gpu, architecture, options);
  await source.use({ kind: "embedding" }, (weights) => calibration.embed(weights));
  for (let block = 0; block < num_layers; block++) {
    options.signal?.throwIfAborted();
    const before = await store.stored?.(block);
    if (before) {
      await source.use({ kind: "block", block, mlp: false }, async (weights) => {
        if (block + 1 === num_layers) return;
        using mlp = new ExpandedMlp(gpu, before);
        await calibration.pass(block, { weights, mlp });
      });
      continue;
    }
    await source.use({ kind: "block", block, mlp: true }, async (weights) => {
      using tensors = new Tensors(gpu);
      const entering = await calibration.enter(block, { weights, tensors });
      using mlp = await expandBlock(gpu, { architecture, weights }, {
        ...options,
        ...{ block, entering, store },
      });
      if (block + 1 < num_layers) await calibration.leave(mlp, entering.in);
    });
  }
}

/** Expands the MLP of a block for the rows that enter its sites, and stores it; returns it on the device. */
async function expandBlock(
  gpu: Gpu,
  model: { readonly architecture: Architecture; readonly weights: Weights },
  options: BlockOptions & {
    readonly block: number;
    readonly entering: Readonly<Record<SiteName, readonly Tensor[]>>;
    readonly store: BlockStore;
  },
): Promise<ExpandedMlp> {
  const { block, entering, store, expansion, pruning, seed, values, signal } = options;
  const { onRouter, onFactor, onExpert, onMlp } = options;
  const site = (chunks: readonly Tensor[]) => ({
    chunks,
    count: chunks.reduce((sum, chunk) => sum + chunk.rows, 0),
    width: chunks[0]!.width,
  });
  const rows = { in: site(entering.in), mid: site(entering.mid) };
  using tensors = new Tensors(gpu);
  const dense = await denseMlp(gpu, model, { block, tensors });
  const stored = await expandMlp(gpu, dense, {
    ...{ rows, expansion, pruning, seed, block, values, signal },
    onRouter: (at, fit) => onRouter?.(block, at, fit),
    onFactor: (site, cluster, dampings) => onFactor?.({ block, site, cluster, dampings }),
    onExpert: (expert) => onExpert?.({ block, ...expert }),
  });
  const mlp = new ExpandedMlp(gpu, stored);
  try {
    await onMlp?.({ block, mlp, dense, rows });
    await store.take(block, stored);
  } catch (error) {
    mlp[Symbol.dispose]();
    throw error;
  }
  return mlp;
}
