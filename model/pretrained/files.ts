/**
 * The files of a published checkpoint: one `model.safetensors`, or shards with an index.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { SafetensorsFile } from "../checkpoint/safetensors.ts";
import { MODEL_FILE } from "../checkpoint/checkpoint.ts";
import { PretrainedError } from "./error.ts";
import { CONFIG_FILE } from "./json.ts";

/** The list of shards. */
export const INDEX_FILE = `${MODEL_FILE}.index.json`;

const indexSchema = z.object({
  weight_map: z.record(
    z.string(),
    z.string().regex(/^[^./\\][^/\\]*\.safetensors$/, {
      error: "expected the name of a .safetensors file beside the index",
    }),
  ),
});

/** Names of the shards in an index, and the shard of each tensor. */
export interface ShardIndex {
  /** Sorted. */
  readonly files: readonly string[];
  /** Files by the names of the tensors. */
  readonly fileOf: ReadonlyMap<string, string>;
}

/** Reads a file's JSON. @throws {PretrainedError} If it is missing, can't be read, or is no JSON. */
export async function readJson(folder: string, name: string): Promise<unknown> {
  const text = await readText(folder, name);
  if (text === undefined) {
    throw new PretrainedError(
      `${folder} has no ${name}; expected the folder of a Hugging Face checkpoint, with ${CONFIG_FILE} and ${MODEL_FILE}`,
    );
  }
  return parseJson(text, join(folder, name));
}

/** Reads a file's JSON, if the file is there. */
export async function readJsonIfThere(folder: string, name: string): Promise<unknown> {
  const text = await readText(folder, name);
  return text === undefined ? undefined : parseJson(text, join(folder, name));
}

async function readText(folder: string, name: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(join(folder, name));
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotADirectory) return undefined;
    throw unreadable(join(folder, name), error);
  }
}

/** Parses a file's text. @throws {PretrainedError} If it is no JSON. */
function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new PretrainedError(`${path} is not JSON: ${(cause as SyntaxError).message}`, { cause });
  }
}

function unreadable(path: string, cause: unknown): PretrainedError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new PretrainedError(`${path} can't be read: ${why}`, { cause });
}

/** Reads an index. @throws {PretrainedError} Naming what is wrong with it. */
export function parseIndex(json: unknown, path: string): ShardIndex {
  const parsed = indexSchema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new PretrainedError(
      `${path}: ${issue.path.join(".") || "the file"}: ${issue.message.replaceAll(/\s+/g, " ")}`,
    );
  }
  const fileOf = new Map(Object.entries(parsed.data.weight_map));
  if (fileOf.size === 0) throw new PretrainedError(`${path}: weight_map is empty`);
  return { files: [...new Set(fileOf.values())].sort(), fileOf };
}

/** The open files of a checkpoint, by their tensors. Only headers have been read. */
export class TensorFiles implements Disposable {
  readonly #files: ReadonlyMap<string, SafetensorsFile>;
  readonly #folder: string;
  readonly #fileOf: ReadonlyMap<string, string>;

  private constructor(
    folder: string,
    files: ReadonlyMap<string, SafetensorsFile>,
    fileOf: ReadonlyMap<string, string>,
  ) {
    this.#folder = folder;
    this.#files = files;
    this.#fileOf = fileOf;
  }

  /**
   * Opens `model.safetensors`, or every shard that the index names.
   *
   * @throws {PretrainedError} If a file is missing, cut short, or is not what the index says.
   */
  static async open(folder: string): Promise<TensorFiles> {
    const opened = new Map<string, SafetensorsFile>();
    const close = () => {
      for (const file of opened.values()) file[Symbol.dispose]();
    };
    try {
      const whole = await openIfThere(folder, MODEL_FILE);
      if (whole) {
        opened.set(MODEL_FILE, whole);
        const fileOf = new Map([...whole.tensors.keys()].map((name) => [name, MODEL_FILE]));
        return new TensorFiles(folder, opened, fileOf);
      }
      const json = await readJsonIfThere(folder, INDEX_FILE);
      if (json === undefined) {
        throw new PretrainedError(
          `${folder} has no ${MODEL_FILE} and no ${INDEX_FILE}; other forms of weights are not read`,
        );
      }
      const { files, fileOf } = parseIndex(json, join(folder, INDEX_FILE));
      for (const name of files) {
        const file = await openIfThere(folder, name);
        if (!file) throw new PretrainedError(`${folder} has no ${name}, which ${INDEX_FILE} names`);
        opened.set(name, file);
      }
      for (const [tensor, name] of fileOf) {
        if (opened.get(name)!.tensors.has(tensor)) continue;
        throw new PretrainedError(
          `${join(folder, name)} has no tensor ${tensor}, which ${INDEX_FILE} says it has`,
        );
      }
      return new TensorFiles(folder, opened, fileOf);
    } catch (error) {
      close();
      throw error;
    }
  }

  /** Names of all tensors. */
  get names(): Iterable<string> {
    return this.#fileOf.keys();
  }

  /** The file of a tensor, and its path; undefined where there is no such tensor. */
  find(tensor: string): { readonly file: SafetensorsFile; readonly path: string } | undefined {
    const name = this.#fileOf.get(tensor);
    if (name === undefined) return undefined;
    return { file: this.#files.get(name)!, path: join(this.#folder, name) };
  }

  /** Closes every file. */
  [Symbol.dispose](): void {
    for (const file of this.#files.values()) file[Symbol.dispose]();
  }
}

async function openIfThere(folder: string, name: string): Promise<SafetensorsFile | undefined> {
  const path = join(folder, name);
  try {
    return await SafetensorsFile.open(path);
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotADirectory) return undefined;
    if (error instanceof SyntaxError) throw new PretrainedError(error.message, { cause: error });
    throw unreadable(path, error);
  }
}
