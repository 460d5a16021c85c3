/**
 * Expands a published checkpoint into a folder in the form of Hugging Face's, block after block.
 *
 * ```text
 * config.json                    the dense model's, with the key `sparse_expansion`
 * tokenizer.json …               copies
 * dense.safetensors              every tensor that is not expanded, byte for byte
 * block-00000.safetensors …      routers and experts of a block
 * model.safetensors.index.json   the file of each tensor; written last
 * sparse_expansion.json          options, lengths and SHA-256 of the files, and the numbers of each block
 * ```
 *
 * A file is written under another name, synced and renamed. A block's file is there before the next block begins, so that a run that was stopped goes on behind the last one, to the same bytes.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { join } from "@std/path";
import { replaceFile, writeSynced } from "../checkpoint/atomic.ts";
import { SafetensorsFile, writeSafetensors } from "../checkpoint/safetensors.ts";
import type { Gpu } from "../gpu/device.ts";
import { memoryOf } from "../gpu/memory.ts";
import type { PretrainedCheckpoint } from "../pretrained/checkpoint.ts";
import { PretrainedError } from "../pretrained/error.ts";
import { INDEX_FILE, readJson } from "../pretrained/files.ts";
import { CONFIG_FILE } from "../pretrained/json.ts";
import { type BlockOptions, expandBlocks } from "./blocks.ts";
import { checkWindows } from "./calibration.ts";
import { blockTensors, readBlock } from "./files/block_file.ts";
import { EXPANSION_KEY, expansionConfig } from "./files/config.ts";
import { copyTextFiles, DENSE_FILE, digestOf, valuesOf, writeDense } from "./files/dense_file.ts";
import { denseSource, readBiases } from "./files/dense_source.ts";
import {
  blockFile,
  type BlockForm,
  type BlockLayout,
  blockLayout,
  inputsOf,
} from "./files/layout.ts";
import { BlockNumbers, type BlockReport } from "./files/report.ts";
import {
  type FinishedBlock,
  flatten,
  type FolderState,
  isWhole,
  readState,
  STATE_FILE,
  tokensDigest,
  writeState,
} from "./files/state.ts";
import { SITES, type StoredMlp } from "./mlp.ts";
import { checkExpansion, checkPruning, type Expansion, type Pruning } from "./options.ts";

export type { BlockReport, LayerReport, SiteReport } from "./files/report.ts";

/** How a checkpoint is expanded into a folder. */
export interface FolderExpansion
  extends Pick<BlockOptions, "onRouter" | "onExpert" | "onMlp" | "most"> {
  /** The dense model. Its weights stay in their files: the device has those of one block at a time. */
  readonly model: PretrainedCheckpoint;
  /** The calibration windows, one after another. */
  readonly tokens: ArrayLike<number>;
  /** Tokens of a window. */
  readonly length: number;
  readonly expansion: Expansion;
  readonly pruning: Pruning;
  /** Of the whole model; each site of each block has a seed of its own. */
  readonly seed: number;
  /** Where the files go: a new or empty folder, or that of a run with the same options, which goes on. */
  readonly folder: string;
  /** Looked at between clusters and between blocks. */
  readonly signal?: AbortSignal | undefined;
  /** Told of each block once its file is on disk; `resumed` says that it was there before. */
  readonly onBlock?: ((block: number, report: BlockReport, resumed: boolean) => void) | undefined;
  /** Told of Hessians that needed more damping, and of damaged files that are made again: one line each. */
  readonly warn?: ((line: string) => void) | undefined;
}

/** An expanded checkpoint. */
export interface FolderReport {
  readonly blocks: readonly BlockReport[];
  /** Most bytes that tensors of this run had on the device at once; of a run that went on, since it did. */
  readonly peak_bytes: number;
}

/**
 * Expands every MLP of a checkpoint, layer after layer, and writes a file a block. Experts are stored in f32 if the checkpoint's matrices are, else in f16; the windows run on through
 * what is stored.
 *
 * `onRouter`, `onExpert` and `onMlp` get what is expanded now, not the blocks that were there before; a block counts as done once they have returned.
 *
 * @throws {RangeError} Which option does not fit, or what is wrong with the rows of which site.
 * @throws {PretrainedError} If the folder is of other options or is no such folder, or a file can't be used.
 */
export async function expandIntoFolder(gpu: Gpu, options: FolderExpansion): Promise<FolderReport> {
  const { model, signal } = options;
  const memory = memoryOf(gpu);
  memory.reset();
  const before = memory.bytes;
  const target = await Target.open(options);
  signal?.throwIfAborted();
  await target.writeDense();
  if (await target.missing()) {
    let numbers = new BlockNumbers();
    const { expansion, pruning, seed, tokens, length, most } = options;
    const { onRouter, onExpert, onMlp } = options;
    await expandBlocks(gpu, denseSource(gpu, model), {
      ...{ expansion, pruning, seed, tokens, length, most, signal, onMlp },
      values: target.form.values,
      onRouter(block, site, fit) {
        numbers.router(site, fit);
        onRouter?.(block, site, fit);
      },
      onFactor({ block, site, cluster, dampings }) {
        numbers.factor(site, dampings);
        if (dampings === 1) return;
        options.warn?.(
          `block ${block} ${site} cluster ${cluster}: the Hessian was not positive definite; damping was added ${dampings} times`,
        );
      },
      onExpert(expert) {
        numbers.expert(expert.layer, expert.matrix.loss);
        return onExpert?.(expert);
      },
      store: {
        stored: (block) => target.read(block),
        async take(block, mlp) {
          await target.write(block, mlp, numbers.report(mlp, pruning));
          numbers = new BlockNumbers();
        },
      },
    });
  }
  await target.finish();
  return { blocks: target.reports, peak_bytes: memory.peak - before };
}

/** The folder that a checkpoint is expanded into. */
class Target {
  readonly form: BlockForm;
  readonly #options: FolderExpansion;
  readonly #layouts: readonly BlockLayout[];
  /** Blocks whose files are whole. */
  readonly #whole = new Set<number>();
  #state: FolderState;

  private constructor(options: FolderExpansion, parts: {
    readonly form: BlockForm;
    readonly layouts: readonly BlockLayout[];
    readonly state: FolderState;
  }) {
    this.form = parts.form;
    this.#options = options;
    this.#layouts = parts.layouts;
    this.#state = parts.state;
  }

  /** Checks all that can be before anything is written, and takes up the state of a run before. */
  static async open(options: FolderExpansion): Promise<Target> {
    const { model, expansion, pruning, seed, tokens, length, most, folder } = options;
    const { architecture, parameters } = model;
    checkWindows(architecture, { tokens, length });
    const layouts = Array.from(
      { length: architecture.config.num_layers },
      (_, block) => blockLayout(architecture, { tensors: parameters, block }),
    );
    for (const layout of layouts) {
      for (const site of SITES) {
        const width = inputsOf(layout, site);
        const name = `block ${layout.block} ${site}`;
        checkExpansion(expansion, name, { rows: tokens.length, width });
        checkPruning(pruning, name, width);
      }
    }
    const form = { expansion, pruning, values: valuesOf(model) };
    const config = JSON.stringify(await readJson(model.folder, CONFIG_FILE));
    const fingerprint = flatten({
      model: {
        config: createHash("sha256").update(config).digest("hex"),
        tensors: await digestOf(model),
      },
      calibration: { tokens: tokensDigest(tokens), windows: tokens.length / length, length, most },
      ...{ expansion, pruning, seed, values: form.values },
    });
    let state = await readState(folder, fingerprint);
    if (!state) {
      await requireEmpty(folder);
      state = { version: 1, fingerprint, blocks: [] };
      await Deno.mkdir(folder, { recursive: true });
      await writeState(folder, state);
    }
    return new Target(options, { form, layouts, state });
  }

  get reports(): BlockReport[] {
    return this.#state.blocks.map(({ report }) => report);
  }

  #path(name: string): string {
    return join(this.#options.folder, name);
  }

  async #keep(change: Partial<FolderState>): Promise<void> {
    this.#state = { ...this.#state, ...change };
    await writeState(this.#options.folder, this.#state);
  }

  /** Writes configuration, tokenizer and, unless they are there, the tensors that are not expanded. */
  async writeDense(): Promise<void> {
    const { model, folder, seed, warn } = this.#options;
    await copyTextFiles(model.folder, folder);
    const config = {
      ...await readJson(model.folder, CONFIG_FILE) as Record<string, unknown>,
      [EXPANSION_KEY]: expansionConfig({ ...this.form, seed }),
    };
    await replaceFile(
      this.#path(CONFIG_FILE),
      (partial) => writeSynced(partial, `${JSON.stringify(config, undefined, 2)}\n`),
    );
    const { dense } = this.#state;
    if (dense && await isWhole(this.#path(DENSE_FILE), dense)) return;
    if (dense) warn?.(`${this.#path(DENSE_FILE)} is damaged; it is written again`);
    await this.#keep({ dense: await writeDense(model, folder) });
  }

  /** Whether a block has to be expanded. */
  async missing(): Promise<boolean> {
    const { blocks } = this.#state;
    for (const [block, finished] of blocks.entries()) {
      const path = this.#path(blockFile(block));
      if (await isWhole(path, finished)) this.#whole.add(block);
      else this.#options.warn?.(`${path} is damaged; block ${block} is expanded again`);
    }
    if (this.#whole.size < this.#layouts.length) return true;
    for (const block of blocks.keys()) this.#told(block, true);
    return false;
  }

  /** The block as it was expanded before, if its file is whole. */
  async read(block: number): Promise<StoredMlp | undefined> {
    if (!this.#whole.has(block)) return undefined;
    const layout = this.#layouts[block]!;
    const stored = await readBlock(this.#path(blockFile(block)), {
      layout,
      form: this.form,
      biases: await readBiases(this.#options.model, layout),
    });
    this.#told(block, true);
    return stored;
  }

  /** Writes a block. */
  async write(block: number, mlp: StoredMlp, report: BlockReport): Promise<void> {
    const tensors = blockTensors(mlp, { layout: this.#layouts[block]!, form: this.form });
    const written = await replaceFile(
      this.#path(blockFile(block)),
      (partial) => writeSafetensors(partial, tensors),
    );
    const finished: FinishedBlock = { ...written, report };
    const before = this.#state.blocks[block];
    const blocks = [...this.#state.blocks];
    if (before && before.sha256 !== written.sha256) {
      // Another device: the blocks behind it were calibrated behind other experts.
      blocks.length = block;
      for (const later of this.#whole) if (later > block) this.#whole.delete(later);
    }
    blocks[block] = finished;
    await this.#keep({ blocks });
    this.#told(block, false);
  }

  #told(block: number, resumed: boolean): void {
    this.#options.onBlock?.(block, this.#state.blocks[block]!.report, resumed);
  }

  /** Writes the index, which makes the folder a whole model. */
  async finish(): Promise<void> {
    const weight_map: Record<string, string> = {};
    let total_size = 0;
    for (const name of [DENSE_FILE, ...this.#layouts.map(({ block }) => blockFile(block))]) {
      using file = await SafetensorsFile.open(this.#path(name));
      for (const tensor of [...file.tensors.keys()].sort()) {
        weight_map[tensor] = name;
        total_size += file.info(tensor).byteLength;
      }
    }
    const index = JSON.stringify({ metadata: { total_size }, weight_map }, undefined, 2);
    await replaceFile(this.#path(INDEX_FILE), (partial) => writeSynced(partial, `${index}\n`));
  }
}

/** Refuses a folder with files of something else. */
async function requireEmpty(folder: string): Promise<void> {
  try {
    for await (const { name } of Deno.readDir(folder)) {
      // A run that was stopped while it wrote the first state.
      if (name === `${STATE_FILE}.partial`) continue;
      throw new PretrainedError(
        `${folder} has ${name} and no ${STATE_FILE}; expected a new or empty folder, or one that a model was expanded into`,
      );
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
