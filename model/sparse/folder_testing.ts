/**
 * Small models that are expanded into a folder, for tests.
 *
 * @module
 */

import { join } from "@std/path";
import { openTestGpu } from "../gpu/testing.ts";
import { PretrainedCheckpoint } from "../pretrained/checkpoint.ts";
import {
  SMALL_LLAMA,
  SMALL_NEOX,
  writePretrained,
  type WritePretrainedOptions,
} from "../pretrained/pretrained_testing.ts";
import { expandIntoFolder, type FolderExpansion, type FolderReport } from "./folder.ts";
import { PRUNING } from "./options.ts";

/** Tokens of a calibration window. */
export const LENGTH = 16;
const WINDOWS = 8;
const VOCABULARY = 263;

/** Tokens that look random, the same for the same seed. */
export function someTokens(count: number, seed: number): Uint32Array {
  return Uint32Array.from(
    { length: count },
    (_, i) => (i * i * 7 + i * (seed + 3) + seed) % VOCABULARY,
  );
}

/** An expansion that takes a second. */
export const SMALL_EXPANSION: Omit<FolderExpansion, "model" | "folder"> = {
  tokens: someTokens(LENGTH * WINDOWS, 1),
  length: LENGTH,
  expansion: { clusters: 2, pca_factor: 6, restarts: 2, max_iterations: 50 },
  pruning: { ...PRUNING, sparsity: 0.5, block: 12 },
  seed: 5,
};

const CONFIGS = { llama: SMALL_LLAMA, gpt_neox: SMALL_NEOX };

/** Changes to {@linkcode SMALL_EXPANSION}, and the model that is expanded. */
export interface ExpandSmall extends Partial<FolderExpansion> {
  readonly family?: keyof typeof CONFIGS;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly written?: WritePretrainedOptions;
}

/** Writes a dense model of numbers that are no model's into `dense`, with files as they stand beside one. */
export async function writeDense(
  dense: string,
  { family = "llama", config, written }: Pick<ExpandSmall, "family" | "config" | "written"> = {},
): Promise<void> {
  await writePretrained(dense, { ...CONFIGS[family], ...config }, written);
}

/** Expands the model in `dense` into the folder `expanded`. */
export async function expandSmall(
  { dense, expanded }: { readonly dense: string; readonly expanded: string },
  changes: ExpandSmall = {},
): Promise<FolderReport> {
  const { family: _family, config: _config, written: _written, ...options } = changes;
  const gpu = await openTestGpu();
  using model = await PretrainedCheckpoint.open(dense);
  return await expandIntoFolder(gpu, { ...SMALL_EXPANSION, ...options, model, folder: expanded });
}

/** Writes a model and expands it, in the folders `dense` and `expanded` of a folder. */
export async function writeExpanded(
  folder: string,
  changes: ExpandSmall = {},
): Promise<{ dense: string; expanded: string; report: FolderReport }> {
  const at = { dense: join(folder, "dense"), expanded: join(folder, "expanded") };
  await writeDense(at.dense, changes);
  return { ...at, report: await expandSmall(at, changes) };
}
