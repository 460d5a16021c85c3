/**
 * An expanded model in a folder, read block by block onto a device.
 *
 * @module
 */

import { join } from "@std/path";
import type { Gpu } from "../../gpu/device.ts";
import { InferenceModel } from "../../inference/model.ts";
import { readPretrainedConfig } from "../../pretrained/config.ts";
import { PretrainedCheckpoint } from "../../pretrained/checkpoint.ts";
import { PretrainedError } from "../../pretrained/error.ts";
import { INDEX_FILE, readJson, readJsonIfThere } from "../../pretrained/files.ts";
import { CONFIG_FILE } from "../../pretrained/json.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { SITES, type StoredMlp } from "../mlp.ts";
import { ExpandedModel } from "../model.ts";
import { checkBlockHeader, readBlock } from "./block_file.ts";
import {
  checkFit,
  isExpandedConfig,
  type PublishedExpansion,
  readExpansionConfig,
} from "./config.ts";
import { readBiases } from "./dense_source.ts";
import {
  blockFile,
  type BlockLayout,
  blockLayout,
  inputsOf,
  isBlockTensor,
  isExpanded,
} from "./layout.ts";
import { STATE_FILE } from "./state.ts";

/** An expanded model on a device. */
export interface LoadedExpansion extends Disposable {
  /** Everything but the experts, with layers that run the experts. */
  readonly model: InferenceModel;
  /** The experts. */
  readonly expanded: ExpandedModel;
}

/** A folder whose configuration and headers have been read and fit each other; weights are still in its files. */
export class ExpandedCheckpoint implements Disposable {
  /** Folder of the files. */
  readonly folder: string;
  /** How the model was expanded. */
  readonly expansion: PublishedExpansion;
  readonly #dense: PretrainedCheckpoint;
  readonly #layouts: readonly BlockLayout[];

  private constructor(
    folder: string,
    parts: {
      readonly dense: PretrainedCheckpoint;
      readonly expansion: PublishedExpansion;
      readonly layouts: readonly BlockLayout[];
    },
  ) {
    this.folder = folder;
    this.expansion = parts.expansion;
    this.#dense = parts.dense;
    this.#layouts = parts.layouts;
  }

  /** Whether a folder holds an expanded model, whole or not. */
  static async isIn(folder: string): Promise<boolean> {
    return isExpandedConfig(await readJsonIfThere(folder, CONFIG_FILE));
  }

  /**
   * Reads configuration and headers.
   *
   * @throws {PretrainedError} If something is missing, is not supported, or does not belong together.
   */
  static async open(folder: string): Promise<ExpandedCheckpoint> {
    const json = await readJson(folder, CONFIG_FILE);
    if (!isExpandedConfig(json)) {
      throw new PretrainedError(`${join(folder, CONFIG_FILE)} is not that of an expanded model`);
    }
    const config = readExpansionConfig(json);
    if (await readJsonIfThere(folder, INDEX_FILE) === undefined) {
      throw new PretrainedError(
        `${folder} has no ${INDEX_FILE}: the expansion is not finished; run it again with the options in ${STATE_FILE}`,
      );
    }
    const dense = await PretrainedCheckpoint.open(folder, {
      config: config.dense,
      replaced: isExpanded,
      ignored: isBlockTensor,
    });
    try {
      const { architecture } = dense;
      const { tensors } = readPretrainedConfig(config.dense);
      const { expansion } = config;
      const layouts: BlockLayout[] = [];
      for (let block = 0; block < architecture.config.num_layers; block++) {
        const layout = layoutOf(architecture, { tensors, block });
        for (const site of SITES) {
          checkFit(expansion.pruning, `block ${block} ${site}`, inputsOf(layout, site));
        }
        const name = `${layout.mlp}.router_in.centroids`;
        const found = dense.files.find(name);
        const path = join(folder, blockFile(block));
        if (!found || found.path !== path) {
          throw new PretrainedError(
            `${join(folder, INDEX_FILE)} does not say that ${name} is in ${blockFile(block)}`,
          );
        }
        checkBlockHeader(found.file, path, { layout, form: expansion });
        layouts.push(layout);
      }
      return new ExpandedCheckpoint(folder, { dense, expansion, layouts });
    } catch (error) {
      dense[Symbol.dispose]();
      throw error;
    }
  }

  /** The layers of the model before its expansion. */
  get architecture(): Architecture {
    return this.#dense.architecture;
  }

  /** Tokens of the longest sequence that the model was made for; undefined where the file does not say. */
  get positions(): number | undefined {
    return this.#dense.positions;
  }

  /** Every block's MLP with all of its numbers checked, one after another; memory holds one. */
  async *mlps(): AsyncGenerator<StoredMlp> {
    for (const layout of this.#layouts) {
      yield await readBlock(join(this.folder, blockFile(layout.block)), {
        layout,
        form: this.expansion,
        biases: await readBiases(this.#dense, layout),
      });
    }
  }

  /**
   * Moves the model to a device. Experts stay compressed.
   *
   * @throws {PretrainedError} If a file can't be used; nothing stays on the device then.
   */
  async load(gpu: Gpu): Promise<LoadedExpansion> {
    const expanded = await ExpandedModel.open(gpu, {
      dense: this.architecture,
      pruning: this.expansion.pruning,
      mlps: this.mlps(),
    });
    try {
      const model = await InferenceModel.filled(gpu, {
        architecture: expanded.architecture,
        fill: (sink) =>
          this.#dense.fill(sink, (parameter) => !/^layers\.\d+\.ffn\./.test(parameter)),
      });
      return {
        model,
        expanded,
        [Symbol.dispose]() {
          model[Symbol.dispose]();
          expanded[Symbol.dispose]();
        },
      };
    } catch (error) {
      expanded[Symbol.dispose]();
      throw error;
    }
  }

  /** Closes the files. */
  [Symbol.dispose](): void {
    this.#dense[Symbol.dispose]();
  }
}

/** The MLP of a block. @throws {PretrainedError} If it is none that can have been expanded. */
function layoutOf(...of: Parameters<typeof blockLayout>): BlockLayout {
  try {
    return blockLayout(...of);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new PretrainedError(`${CONFIG_FILE}: ${cause.message}`, { cause });
  }
}
