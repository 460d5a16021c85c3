/**
 * The trained model that a training starts from: the section `train.initial`.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { dirname, join } from "@std/path";
import { MODEL_FILE } from "../../model/checkpoint/checkpoint.ts";
import type { InitialSource } from "../../model/checkpoint/initial_model.ts";
import { parseVocabulary, vocabularyDigest } from "../../model/text/tokenizer.ts";
import type { InitialSection } from "../../model/training/config.ts";
import { VOCABULARY_FILE } from "../dataset.ts";

/**
 * The file that `train.initial.checkpoint` names: itself, or the model in a folder, the last or the best of an exported checkpoint.
 * Nothing where no such file or folder is.
 *
 * @throws {Error} If the folder has none, naming the files looked for.
 */
export async function initialModelFile(
  checkpoint: string,
  which: "last" | "best" = "last",
): Promise<string | undefined> {
  const found = await statOf(checkpoint);
  if (found === undefined || found.isFile) return found && checkpoint;
  const places = [join(checkpoint, MODEL_FILE), join(checkpoint, which, MODEL_FILE)];
  for (const place of places) if ((await statOf(place))?.isFile) return place;
  throw new Error(`the folder ${checkpoint} holds no model; expected ${places.join(" or ")}`);
}

/** Where the weights are that a training starts from; JSON can hold it. */
export interface StartFiles {
  /** Whether it is a published model in a folder rather than a file of a training. */
  readonly published: boolean;
  /** The file, or the folder. */
  readonly path: string;
  /** Name in messages. */
  readonly name: string;
}

/** Weights to start from; disposing closes their files. */
export interface OpenedStart extends Disposable {
  readonly source: InitialSource;
}

/** A start of which the vocabulary is known, or not. */
export interface FoundStart {
  readonly files: StartFiles;
  /** Path of a `vocabulary.json`; undefined where nobody knows. */
  readonly vocabulary: string | undefined;
}

/**
 * Finds the model of a section again that was planned: a file, or objects of the store.
 *
 * @throws {Error} If it is not there, or not what was planned.
 */
export async function findStart(
  initial: InitialSection,
  object: (sha256: string) => string,
): Promise<FoundStart> {
  const { checkpoint, which, fingerprint, vocabulary } = initial;
  const file = await initialModelFile(checkpoint, which);
  const path = file ?? (fingerprint === undefined ? checkpoint : object(fingerprint));
  if (!(await statOf(path))?.isFile) {
    throw new Error(
      `train.initial.checkpoint ${checkpoint} is no longer there: no file or folder, and its model not in the store`,
    );
  }
  if (fingerprint !== undefined && fingerprint !== await fileDigest(path)) {
    throw new Error(
      `train.initial.checkpoint ${path} changed after the experiment was planned; run it again`,
    );
  }
  return {
    files: { published: false, path, name: file ?? checkpoint },
    vocabulary: file === undefined && vocabulary !== undefined
      ? object(vocabulary)
      : await vocabularyBeside(path),
  };
}

/** The vocabulary that lies beside a model's file, or a folder above, as in an exported checkpoint. */
export async function vocabularyBeside(model: string): Promise<string | undefined> {
  for (const folder of [dirname(model), dirname(dirname(model))]) {
    const path = join(folder, VOCABULARY_FILE);
    if ((await statOf(path))?.isFile) return path;
  }
}

/**
 * Checks that a model speaks the vocabulary of a dataset.
 *
 * @param path The model's `vocabulary.json`.
 * @param expected Text of the dataset's.
 * @throws {Error} If it speaks another.
 */
export async function assertSameVocabulary(path: string, expected: string): Promise<void> {
  const digest = async (text: string) =>
    (await vocabularyDigest(parseVocabulary(JSON.parse(text)))).join();
  if (await digest(await Deno.readTextFile(path)) === await digest(expected)) return;
  throw new Error(
    `train.initial.checkpoint speaks the vocabulary ${path}; expected that of the tokenizer section`,
  );
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
