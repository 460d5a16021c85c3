/**
 * The trained model that a training starts from: the section `train.initial`.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { dirname, join } from "@std/path";
import { MODEL_FILE } from "../../model/checkpoint/checkpoint.ts";
import { parseVocabulary, vocabularyDigest } from "../../model/text/tokenizer.ts";
import { VOCABULARY_FILE } from "../dataset.ts";

/**
 * The file that `train.initial.checkpoint` names: itself, or the model in a folder, the last of an exported checkpoint.
 *
 * @throws {Error} If there is none, naming the files looked for.
 */
export async function initialModelFile(checkpoint: string): Promise<string> {
  const found = await statOf(checkpoint);
  if (found?.isFile) return checkpoint;
  if (!found) throw new Error(`there is no file or folder ${checkpoint}`);
  const places = [join(checkpoint, MODEL_FILE), join(checkpoint, "last", MODEL_FILE)];
  for (const place of places) if ((await statOf(place))?.isFile) return place;
  throw new Error(`the folder ${checkpoint} holds no model; expected ${places.join(" or ")}`);
}

/**
 * Checks that a model speaks the vocabulary of a dataset, where the vocabulary lies beside its file or a folder above.
 *
 * @throws {Error} If it speaks another.
 */
export async function assertSameVocabulary(model: string, vocabulary: string): Promise<void> {
  for (const folder of [dirname(model), dirname(dirname(model))]) {
    const path = join(folder, VOCABULARY_FILE);
    if (!(await statOf(path))?.isFile) continue;
    const digest = async (text: string) =>
      (await vocabularyDigest(parseVocabulary(JSON.parse(text)))).join();
    if (await digest(await Deno.readTextFile(path)) === await digest(vocabulary)) return;
    throw new Error(
      `train.initial.checkpoint ${model} speaks the vocabulary ${path}; expected that of the tokenizer section`,
    );
  }
}

/** SHA-256 of a file's bytes, hexadecimal. */
export async function fileDigest(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  const buffer = new Uint8Array(2 ** 20);
  for (let count; (count = await file.read(buffer)) !== null;) {
    hash.update(buffer.subarray(0, count));
  }
  return hash.digest("hex");
}

async function statOf(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotADirectory) return undefined;
    throw error;
  }
}
