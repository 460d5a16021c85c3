/**
 * The parts of an expanded model that are not expanded: their tensors byte for byte, and the tokenizer's files.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { join } from "@std/path";
import { replaceFile, writeSynced } from "../../checkpoint/atomic.ts";
import {
  type TensorSource,
  writeSafetensors,
  type WrittenFile,
} from "../../checkpoint/safetensors.ts";
import type { PretrainedCheckpoint } from "../../pretrained/checkpoint.ts";
import { OPTIONAL_FILES, TOKENIZER_FILE } from "../../pretrained/tokenizer.ts";
import type { ValueType } from "../expansion.ts";
import { isExpanded } from "./layout.ts";

/** The file of every tensor that is not expanded. */
export const DENSE_FILE = "dense.safetensors";

/** Files beside a checkpoint that say how text becomes tokens, and how it is generated. */
const TEXT_FILES = [
  TOKENIZER_FILE,
  ...OPTIONAL_FILES,
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "tokenizer.model",
];

/** Bytes that are read at a time. */
const PIECE = 2 ** 24;

/** Stored tensors that become experts. */
function expandedTensors({ parameters }: PretrainedCheckpoint): ReadonlySet<string> {
  return new Set(
    parameters.filter(({ name }) => isExpanded(name)).flatMap(({ parts }) =>
      parts.map(({ name }) => name)
    ),
  );
}

/** Type of the values of a checkpoint's experts: f32 if all of its matrices are, else f16. */
export function valuesOf(checkpoint: PretrainedCheckpoint): ValueType {
  const { files } = checkpoint;
  const wide = Array.from(expandedTensors(checkpoint))
    .every((name) => files.find(name)!.file.info(name).dtype === "F32");
  return wide ? "f32" : "f16";
}

/** Names of the tensors that are not expanded, sorted. */
export function denseTensors(checkpoint: PretrainedCheckpoint): string[] {
  const expanded = expandedTensors(checkpoint);
  return [...checkpoint.files.names].filter((name) => !expanded.has(name)).sort();
}

function sourceOf({ files }: PretrainedCheckpoint, name: string): TensorSource {
  const { file } = files.find(name)!;
  const { dtype, shape, byteLength } = file.info(name);
  return {
    name,
    dtype,
    shape,
    async *data() {
      for (let offset = 0; offset < byteLength; offset += PIECE) {
        const piece = Math.min(PIECE, byteLength - offset);
        yield await file.readBytes(name, { offset, byteLength: piece });
      }
    },
  };
}

/** Writes the tensors that are not expanded, piece by piece. */
export async function writeDense(
  checkpoint: PretrainedCheckpoint,
  folder: string,
): Promise<WrittenFile> {
  const tensors = denseTensors(checkpoint).map((name) => sourceOf(checkpoint, name));
  return await replaceFile(
    join(folder, DENSE_FILE),
    (partial) => writeSafetensors(partial, tensors),
  );
}

/**
 * A digest that tells checkpoints apart without reading all of them: names, types and shapes of all tensors, and the numbers of the vectors, such as gains of norms, which another training
 * does not have.
 */
export async function digestOf(checkpoint: PretrainedCheckpoint): Promise<string> {
  const hash = createHash("sha256");
  for (const name of [...checkpoint.files.names].sort()) {
    const { file } = checkpoint.files.find(name)!;
    const { dtype, shape, byteLength } = file.info(name);
    hash.update(JSON.stringify([name, dtype, shape]));
    if (shape.length > 1) continue;
    hash.update(await file.readBytes(name, { offset: 0, byteLength }));
  }
  return hash.digest("hex");
}

/** Copies the tokenizer's files, those of them that are there. */
export async function copyTextFiles(from: string, to: string): Promise<void> {
  for (const name of TEXT_FILES) {
    let bytes: Uint8Array;
    try {
      bytes = await Deno.readFile(join(from, name));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) continue;
      throw error;
    }
    await replaceFile(join(to, name), (partial) => writeSynced(partial, bytes));
  }
}
