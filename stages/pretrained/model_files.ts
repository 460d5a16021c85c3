/**
 * The files of a published model: which there are, their digests, and a folder of them for whoever reads the model.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { dirname, join, resolve } from "@std/path";
import { MODEL_FILE } from "../../model/checkpoint/checkpoint.ts";
import { INDEX_FILE, parseIndex, readJson, readJsonIfThere } from "../../model/pretrained/files.ts";
import { CONFIG_FILE } from "../../model/pretrained/json.ts";
import { OPTIONAL_FILES, TOKENIZER_FILE } from "../../model/pretrained/tokenizer.ts";
import type { NodeOutput } from "../../pipeline/stage.ts";
import { contentDigest } from "../download/sources/content_digest.ts";
import { parseOutput } from "../parse_output.ts";
import { ModelCache } from "./cache.ts";
import { type DenseModelResult, denseModelSchema } from "./result.ts";

/** Name of the output that holds a model's small files, and of a made model all. */
export const FILES_OUTPUT = "files";

/** A file of a model. */
export interface ModelFile {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Whether a file holds weights. */
export function holdsWeights(path: string): boolean {
  return path.endsWith(".safetensors");
}

/**
 * Names of the files that a model in a folder is made of, sorted.
 *
 * @throws {PretrainedError} If a file that names others can't be read.
 */
export async function modelFileNames(folder: string): Promise<string[]> {
  const names: string[] = [CONFIG_FILE, TOKENIZER_FILE];
  for (const name of OPTIONAL_FILES) {
    if (await readJsonIfThere(folder, name) !== undefined) names.push(name);
  }
  if (await isFile(join(folder, MODEL_FILE))) return [...names, MODEL_FILE].sort();
  const index = parseIndex(await readJson(folder, INDEX_FILE), join(folder, INDEX_FILE));
  return [...names, INDEX_FILE, ...index.files].sort();
}

/** The files with their sizes and digests; those that are known to be unchanged are not read. */
export async function describeFiles(
  folder: string,
  names: readonly string[],
  options: { readonly verify?: boolean; onFile?(file: ModelFile): void } = {},
): Promise<ModelFile[]> {
  const { verify = false, onFile } = options;
  const files: ModelFile[] = [];
  for (const path of names) {
    const whole = join(folder, path);
    const [{ size }, sha256] = [await Deno.stat(whole), await contentDigest(whole, { verify })];
    const file = { path, bytes: size, sha256 };
    files.push(file);
    onFile?.(file);
  }
  return files;
}

/** Digest of names and contents. */
export function filesDigest(files: readonly ModelFile[]): string {
  const hash = createHash("sha256");
  for (const { path, sha256 } of files) hash.update(JSON.stringify([path, sha256]));
  return hash.digest("hex");
}

/** A dense model as a later stage sees it. */
export interface DenseModelInput {
  readonly about: DenseModelResult;
  /** Folder of links to the model's files. */
  readonly folder: string;
}

/**
 * A folder of links to the files of the model that a node published, inside `into`. Weights that stay in their own folder are hashed again, unless they
 * are known to be unchanged.
 *
 * @throws {Error} If a file is missing, or is no longer what the node hashed.
 */
export async function linkModel(node: NodeOutput, into: string): Promise<DenseModelInput> {
  const about = parseOutput(node.json("model"), { schema: denseModelSchema, what: "model" });
  const home = about.commit === null
    ? resolve(about.name)
    : new ModelCache(about.name).snapshot(about.commit);
  const folder = join(into, "model");
  for (const { path, sha256, published } of about.files) {
    const from = published ? node.file(FILES_OUTPUT, path) : join(home, path);
    if (!published) await requireSame(from, sha256);
    await link(from, join(folder, path));
  }
  return { about, folder };
}

/** A folder of links to the files of a directory output, inside `into`. */
export async function linkOutput(
  node: NodeOutput,
  output: string,
  into: string,
): Promise<string> {
  const folder = join(into, output);
  for (const path of node.files(output)) {
    await link(node.file(output, path), join(folder, path));
  }
  return folder;
}

async function requireSame(path: string, sha256: string): Promise<void> {
  const again = "run the node `pretrained` again, with --force pretrained";
  if (!await isFile(path)) throw new Error(`${path} is no longer there; ${again}`);
  if (await contentDigest(path) === sha256) return;
  throw new Error(`${path} changed after it was hashed; ${again}`);
}

/** Makes a link, in the place of one that an earlier attempt left. A hard link or a copy where symbolic ones are not possible. */
async function link(from: string, to: string): Promise<void> {
  await Deno.mkdir(dirname(to), { recursive: true });
  await Deno.remove(to).catch(() => {});
  const target = await Deno.realPath(from);
  for (const place of [Deno.symlink, Deno.link]) {
    try {
      return await place(target, to);
    } catch {
      // The next way.
    }
  }
  await Deno.copyFile(target, to);
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false;
  }
}
