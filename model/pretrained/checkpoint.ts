/**
 * A published checkpoint in a folder, read tensor by tensor into the project's parameters.
 *
 * @module
 */

import { z } from "zod";
import type { Dtype, SafetensorsFile } from "../checkpoint/safetensors.ts";
import type { WeightSink } from "../checkpoint/checkpoint.ts";
import { loadArchitecture } from "../load.ts";
import type { ModelConfig } from "../section.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { readPretrainedConfig } from "./config.ts";
import { PretrainedError } from "./error.ts";
import type { PretrainedConfig } from "./family.ts";
import { readJson, TensorFiles } from "./files.ts";
import { CONFIG_FILE } from "./json.ts";
import {
  emptyParameter,
  place,
  type Rows,
  rowWidth,
  type StoredPart,
  type TensorMap,
} from "./tensor_map.ts";

/** Types that weights are read from. */
const FLOATS: ReadonlySet<Dtype> = new Set(["F32", "F16", "BF16"]);
/** Bytes that are read at a time. */
const BLOCK = 2 ** 24;

/** Options of {@linkcode PretrainedCheckpoint.open}. */
export interface OpenOptions {
  /** The parsed `config.json`, if not as it is in the folder. */
  readonly config?: unknown;
  /** Parameters that the folder holds in another form: nothing is read of them. */
  readonly replaced?: (parameter: string) => boolean;
  /** Stored tensors that are no parameter's. */
  readonly ignored?: (tensor: string) => boolean;
}

/** A checkpoint whose configuration and headers have been read and fit each other; its weights are still in its files. */
export class PretrainedCheckpoint implements Disposable {
  /** Folder of the files. */
  readonly folder: string;
  /** The model. */
  readonly architecture: Architecture;
  /** Tokens of the longest sequence that it was made for; undefined where the file does not say. */
  readonly positions: number | undefined;
  /** Every parameter that the files hold, and the stored tensors that it is made of. */
  readonly parameters: readonly TensorMap[];
  /** The files. */
  readonly files: TensorFiles;

  private constructor(
    folder: string,
    architecture: Architecture,
    parts: {
      readonly positions: number | undefined;
      readonly parameters: readonly TensorMap[];
      readonly files: TensorFiles;
    },
  ) {
    this.folder = folder;
    this.architecture = architecture;
    this.positions = parts.positions;
    this.parameters = parts.parameters;
    this.files = parts.files;
  }

  /**
   * Reads configuration and headers.
   *
   * @throws {PretrainedError} If something is missing, is not supported, or does not belong together.
   */
  static async open(folder: string, options: OpenOptions = {}): Promise<PretrainedCheckpoint> {
    const { replaced, ignored = () => false } = options;
    const config = readPretrainedConfig(options.config ?? await readJson(folder, CONFIG_FILE));
    const parameters = config.tensors.filter(({ name }) => !replaced?.(name));
    const architecture = await bind(config.model);
    const files = await TensorFiles.open(folder);
    try {
      checkTensors(files, folder, {
        tensors: parameters,
        ignores: (name) => config.ignores(name) || ignored(name),
      });
    } catch (error) {
      files[Symbol.dispose]();
      throw error;
    }
    const { positions } = config;
    return new PretrainedCheckpoint(folder, architecture, { positions, parameters, files });
  }

  /**
   * Gives every parameter to a sink, or those that `chosen` names, one after another: memory holds one of them, and a block of a file.
   *
   * @throws {PretrainedError} If a number is not finite, or a file can't be read any more.
   */
  async fill(sink: WeightSink, chosen?: (parameter: string) => boolean): Promise<void> {
    for (const map of this.parameters) {
      if (chosen && !chosen(map.name)) continue;
      const target = emptyParameter(map);
      for (const part of map.parts) {
        for await (const rows of this.#rows(part)) place(map, part, { ...rows, target });
      }
      await sink.writeState("value", map.name, target);
    }
  }

  /** Closes the files. */
  [Symbol.dispose](): void {
    this.files[Symbol.dispose]();
  }

  async *#rows(part: StoredPart): AsyncGenerator<Rows> {
    const { file, path } = this.files.find(part.name)!;
    const { dtype, byteLength } = file.info(part.name);
    const width = rowWidth(part.shape);
    const rowBytes = byteLength / part.shape[0]!;
    const most = Math.max(1, Math.floor(BLOCK / rowBytes));
    for (let row = 0; row < part.shape[0]!; row += most) {
      const rows = Math.min(most, part.shape[0]! - row);
      const values = await readFloats(file, part.name, {
        path,
        dtype,
        offset: row * rowBytes,
        byteLength: rows * rowBytes,
      });
      const bad = firstNotFinite(values);
      if (bad >= 0) {
        const at = [row + Math.floor(bad / width), ...part.shape.length > 1 ? [bad % width] : []];
        throw new PretrainedError(
          `${path}: tensor ${part.name} has ${values[bad]} at [${
            at.join(", ")
          }]; expected finite numbers`,
        );
      }
      yield { row, values };
    }
  }
}

/** The layers of a configuration. @throws {PretrainedError} If the project's own schema does not take it. */
async function bind(model: ModelConfig): Promise<Architecture> {
  try {
    return await loadArchitecture(model);
  } catch (cause) {
    if (!(cause instanceof z.ZodError)) throw cause;
    const issue = cause.issues[0]!;
    throw new PretrainedError(
      `${CONFIG_FILE}: model.${issue.path.join(".")} would be what can't be: ${issue.message}`,
      { cause },
    );
  }
}

/** Index of the first number that is NaN or infinite; −1 where all are finite. */
function firstNotFinite(values: Float32Array): number {
  // A number less itself is zero, unless it is NaN or infinite.
  for (let i = 0; i < values.length; i++) if (values[i]! - values[i]! !== 0) return i;
  return -1;
}

async function readFloats(
  file: SafetensorsFile,
  name: string,
  range: {
    readonly path: string;
    readonly dtype: Dtype;
    readonly offset: number;
    readonly byteLength: number;
  },
): Promise<Float32Array> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = await file.readBytes(name, range);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new PretrainedError(`${range.path} can't be read: ${why}`, { cause });
  }
  if (range.dtype === "F32") return new Float32Array(bytes.buffer);
  const words = new Uint16Array(bytes.buffer);
  const values = new Float32Array(words.length);
  if (range.dtype === "F16") {
    const table = halves ??= new Float32Array(
      new Float16Array(Uint16Array.from({ length: 2 ** 16 }, (_, word) => word).buffer),
    );
    for (let i = 0; i < words.length; i++) values[i] = table[words[i]!]!;
    return values;
  }
  // bfloat16 is the upper half of a float32.
  const bits = new Uint32Array(values.buffer);
  for (let i = 0; i < words.length; i++) bits[i] = words[i]! << 16;
  return values;
}

/** Every half as f32, by its bits: looked up, they are there several times faster than converted. */
let halves: Float32Array | undefined;

/**
 * Checks that every parameter is there in its shape, that the parameters are those of the architecture, and that no tensor is left over.
 *
 * @throws {PretrainedError} Naming the file and the tensor.
 */
function checkTensors(
  files: TensorFiles,
  folder: string,
  config: Pick<PretrainedConfig, "tensors" | "ignores">,
): void {
  const used = new Set<string>();
  for (const { parts } of config.tensors) {
    for (const { name, shape } of parts) {
      used.add(name);
      const found = files.find(name);
      if (!found) throw new PretrainedError(`${folder} has no tensor ${name} in its files`);
      const info = found.file.info(name);
      if (FLOATS.has(info.dtype) && info.shape.join() === shape.join()) continue;
      throw new PretrainedError(
        `${found.path}: tensor ${name} is ${info.dtype} [${
          info.shape.join(", ")
        }], expected F32, F16 or BF16 [${shape.join(", ")}]`,
      );
    }
  }
  for (const name of files.names) {
    if (used.has(name) || config.ignores(name)) continue;
    throw new PretrainedError(
      `${
        files.find(name)!.path
      } has the tensor ${name}, of which ${CONFIG_FILE} says nothing; expected none`,
    );
  }
}
