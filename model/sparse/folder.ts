/**
 * Expands a published checkpoint into a folder in the form of Hugging Face's, block after block.
 *
 * @module
 */

import type { Gpu } from "../gpu/device.ts";
import type { PretrainedCheckpoint } from "../pretrained/checkpoint.ts";
import type { SiteName } from "./mlp.ts";
import type { Expansion, Pruning } from "./options.ts";
import type { RouterFit } from "./router.ts";
import type { PrunedMatrix } from "./sparsegpt.ts";

/** How a checkpoint is expanded into a folder. */
export interface FolderExpansion {
  /** The dense model. Its weights stay in their files: the device has those of one block at a time. */
  readonly model: PretrainedCheckpoint;
  /** The calibration windows, one after another. */
  readonly tokens: ArrayLike<number>;
  /** Tokens of a window. */
  readonly length: number;
  readonly expansion: Expansion;
  readonly pruning: Pruning;
  readonly seed: number;
  /** Where the files go. Blocks that are there already are read, if the folder's options are these. */
  readonly folder: string;
  /** Looked at between clusters and between blocks. */
  readonly signal?: AbortSignal | undefined;
  /** Told after each block, once its file is on disk; `resumed` says that it was there before. */
  readonly onBlock?: (block: number, report: BlockReport, resumed: boolean) => void;
  /** Gets each router as it is fitted, not those of blocks that were there before. */
  readonly onRouter?: (block: number, site: SiteName, fit: RouterFit) => void;
  /** Gets each expert as it is pruned, not those of blocks that were there before; `layer` is `gate`, `up` or `down`. */
  readonly onExpert?: (expert: {
    readonly block: number;
    readonly layer: string;
    readonly cluster: number;
    readonly matrix: PrunedMatrix;
  }) => void | Promise<void>;
  /** Told of Hessians that needed more damping, and of damaged files that are made again; one line each. */
  readonly warn?: (line: string) => void;
}

/** A linear layer of a site. */
export interface LayerReport {
  /** Estimated loss of each expert, as SparseGPT gives it. */
  readonly losses: readonly number[];
  /** Positions that each expert keeps. */
  readonly kept: readonly number[];
  readonly outputs: number;
}

/** A site of an expanded block. */
export interface SiteReport {
  /** Inputs. */
  readonly inputs: number;
  /** Sum of the squared distances of k-means. */
  readonly inertia: number;
  /** Calibration rows of each cluster. */
  readonly sizes: readonly number[];
  /** How often the damping was added to the Hessian of each cluster: 1, unless it was not positive definite. */
  readonly dampings: readonly number[];
  /** By `gate`, `up`, `down`. */
  readonly layers: Readonly<Record<string, LayerReport>>;
  /** Bits of all experts, grids and the router, with 16 bits a value that is not quantised. */
  readonly stored_bits: number;
  /** Bits of the dense matrices, 16 a value. */
  readonly dense_bits: number;
  /** Multiply-adds for a token, the router's included: the mean over experts. */
  readonly multiply_adds: number;
  /** Multiply-adds for a token of the dense matrices. */
  readonly dense_multiply_adds: number;
}

/** An expanded block. */
export type BlockReport = Readonly<Record<SiteName, SiteReport>>;

/** An expanded checkpoint. */
export interface FolderReport {
  readonly blocks: readonly BlockReport[];
  /** Most bytes that the device's tensors had at once. */
  readonly peak_bytes: number;
}

/**
 * The signature of `expandIntoFolder`: expands every MLP of a checkpoint, layer after layer, and writes a file a block.
 *
 * @throws {RangeError} Which option does not fit, or what is wrong with the rows of which site.
 * @throws {PretrainedError} If the folder is of other options, or a file can't be used.
 */
export type ExpandIntoFolder = (gpu: Gpu, options: FolderExpansion) => Promise<FolderReport>;
