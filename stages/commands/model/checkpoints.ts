/**
 * Finds a checkpoint that a user names: a file, a folder, or a node of the store.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "@std/path";
import { z } from "zod";
import { MODEL_FILE, readArchitecture } from "../../../model/checkpoint/checkpoint.ts";
import type { Architecture } from "../../../model/trunk/architecture.ts";
import { openTokenizer, type Tokenizer } from "../../../model/text/tokenizer.ts";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import { ObjectStore } from "../../../pipeline/store/objects.ts";
import {
  type NodeRecord,
  type PublishedOutput,
  Records,
} from "../../../pipeline/store/records/records.ts";
import type { JsonValue } from "../../../pipeline/stage.ts";
import { suggestion } from "../../../pipeline/terminal/suggest.ts";
import { VOCABULARY_FILE } from "../../dataset.ts";

/** Which model of a training run. */
export type CheckpointKind = "last" | "best";

/** Name of the directory output that holds a node's checkpoint. */
const OUTPUT = "checkpoint";
/** The file of an exported checkpoint that names its node. */
export const NODE_FILE = "node.json";
/** How much of a key names a node. */
const KEY = /^[0-9a-f]{8,64}$/;

/** Files that make a checkpoint usable, wherever they are. */
export interface CheckpointFiles {
  /** Name in messages. */
  readonly name: string;
  /** Path of the `model.safetensors`. */
  readonly model: string;
  /** Path of its `vocabulary.json`. */
  readonly vocabulary: string;
  /** Parameters of the training, where they are known: of the node, or from `node.json` beside the vocabulary. */
  readonly params?: JsonValue;
  /** The node that published it, if it comes from the store. */
  readonly record?: NodeRecord;
}

/** A checkpoint with its configuration read and its vocabulary opened. */
export interface OpenedCheckpoint extends CheckpointFiles {
  readonly architecture: Architecture;
  readonly tokenizer: Tokenizer;
}

/** Where to look. */
export interface FindOptions {
  /** Folder of the store. */
  readonly storeDir: string;
  /** Which model, where there are two; defaults to the last. */
  readonly which?: CheckpointKind;
}

/**
 * Finds a checkpoint. Reads manifests only, so it works while a run has the store.
 *
 * @param name A `*.safetensors` file or a folder with one (`vocabulary.json` beside it or one folder up), the name of a node
 * (`train[base,seed=1]`), or the first eight or more digits of a node's key.
 * @throws {UserError} If there is none, naming the files looked for.
 */
export async function findCheckpoint(name: string, options: FindOptions): Promise<CheckpointFiles> {
  const path = resolve(name);
  const stat = await statOf(path);
  if (stat) {
    const model = stat.isDirectory ? await modelIn(path, options.which) : path;
    const vocabulary = await vocabularyOf(model);
    const params = await readParams(join(dirname(vocabulary), NODE_FILE));
    return { name, model, vocabulary, ...(params === undefined ? {} : { params }) };
  }
  const record = await findNode(name, options.storeDir);
  const output = checkpointOf(record)!;
  const objects = new ObjectStore(join(options.storeDir, "objects"), "");
  const file = async (inside: string) => {
    const entry = output.files.find((entry) => entry.path === inside);
    if (!entry) {
      throw new UserError(
        `The checkpoint of ${record.node} has no ${inside}; it has ${
          output.files.map((entry) => entry.path).join(", ")
        }.`,
      );
    }
    if ((await objects.stat(entry.sha256))?.size !== entry.size) {
      throw new UserError(
        `${inside} of ${record.node} is missing from the store or damaged; \`verify\` says more, and running the node again mends it.`,
      );
    }
    return objects.path(entry.sha256);
  };
  return {
    name: record.node,
    model: await file(`${options.which ?? "last"}/${MODEL_FILE}`),
    vocabulary: await file(VOCABULARY_FILE),
    params: record.components.params,
    record,
  };
}

/**
 * Finds a checkpoint, reads its configuration and opens its vocabulary.
 *
 * @throws {UserError} Also if the vocabulary is not the model's.
 */
export async function openCheckpoint(
  name: string,
  options: FindOptions,
): Promise<OpenedCheckpoint> {
  const files = await findCheckpoint(name, options);
  let architecture: Architecture;
  let tokenizer: Tokenizer;
  try {
    architecture = await readArchitecture(files.model);
    tokenizer = await openTokenizer(JSON.parse(await Deno.readTextFile(files.vocabulary)));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new UserError(`The checkpoint ${name} can't be used: ${message}`, { cause: error });
  }
  const { vocab_size } = architecture.config;
  if (tokenizer.vocab_size !== vocab_size) {
    throw new UserError(
      `The vocabulary ${files.vocabulary} has ${tokenizer.vocab_size} tokens, the model ${files.model} ${vocab_size}; they do not belong together.`,
    );
  }
  return { ...files, architecture, tokenizer };
}

/**
 * The last record of a node's name, or of a key's first digits; nothing when there is none.
 *
 * @throws {UserError} If several keys begin with these digits.
 */
export async function findRecord(name: string, storeDir: string): Promise<NodeRecord | undefined> {
  const records = new Records(storeDir, "");
  const found = KEY.test(name)
    ? (await records.nodeKeys()).filter((key) => key.startsWith(name))
    : [];
  if (found.length > 1) {
    throw new UserError(`${found.length} keys of the store begin with ${name}; give more digits.`);
  }
  const key = found[0] ?? await latestKey(name, records);
  return key === undefined ? undefined : await records.readNode(key);
}

/**
 * The published node of a name or a key, with a checkpoint.
 *
 * @throws {UserError} If there is none, with the names that there are.
 */
export async function findNode(name: string, storeDir: string): Promise<NodeRecord> {
  const records = new Records(storeDir, "");
  const keys = await records.nodeKeys();
  const record = await findRecord(name, storeDir);
  if (record && checkpointOf(record)) return record;
  const known = new Set<string>();
  for (const other of keys) {
    const candidate = await records.readNode(other);
    if (candidate && checkpointOf(candidate)) known.add(candidate.node);
  }
  const names = [...known].sort();
  const list = names.length === 0
    ? "no node of the store has one yet"
    : `the store has those of ${names.slice(0, 12).join(", ")}${names.length > 12 ? ", …" : ""}`;
  throw new UserError(
    record
      ? `The node ${name} has no checkpoint; ${list}.`
      : `There is no checkpoint ${name}: no such file or folder, and no such node in ${storeDir}; ${list}.${
        suggestion(name, names)
      }`,
  );
}

/** The record of a node's input, as it was when the node read it; nothing when it is no longer in the store. */
export async function findInput(
  record: NodeRecord,
  options: { input: string; storeDir: string },
): Promise<NodeRecord | undefined> {
  const [wanted] = record.components.inputs[options.input] ?? [];
  if (!wanted) return undefined;
  const { inputDigest } = await import("../../../pipeline/run/plan.ts");
  const records = new Records(options.storeDir, "");
  for (const key of await records.nodeKeys()) {
    const found = await records.readNode(key);
    if (found?.node !== wanted.node) continue;
    const node = {
      name: found.node,
      stage: { name: found.stage },
      labels: found.labels,
      params: found.components.params,
    };
    if (inputDigest(node, found) === wanted.digest) return found;
  }
}

/** Files of a record's directory output, and where the store has them. */
export function filesOf(
  record: NodeRecord,
  options: { output: string; storeDir: string },
): { path: string; file: string }[] {
  const output = record.outputs[options.output];
  if (output?.kind !== "directory") return [];
  const objects = new ObjectStore(join(options.storeDir, "objects"), "");
  return output.files.map(({ path, sha256 }) => ({ path, file: objects.path(sha256) }));
}

/** Tokens of a sequence that the model was trained with, where the checkpoint says so. */
export function trainedLength({ params }: CheckpointFiles): number | undefined {
  const parsed = z.object({ train: z.object({ sequence_length: z.int().min(1) }) })
    .safeParse(params);
  return parsed.data?.train.sequence_length;
}

/** Whether the model was trained on single documents, where the checkpoint says so. */
export function trainedDocuments({ params }: CheckpointFiles): "single" | undefined {
  const parsed = z.object({ train: z.object({ documents: z.literal("single") }) })
    .safeParse(params);
  return parsed.data?.train.documents;
}

/** Key of the last published node of this name. */
async function latestKey(name: string, records: Records): Promise<string | undefined> {
  for (const run of (await records.readRuns()).reverse()) {
    const node = run.nodes.find(({ node, state }) =>
      node === name && (state === "done" || state === "cached")
    );
    if (node?.key !== undefined) return node.key;
  }
  // A run that still goes on, or was killed, has published nodes that its manifest does not list yet.
  let latest: NodeRecord | undefined;
  for (const key of await records.nodeKeys()) {
    const record = await records.readNode(key);
    if (record?.node !== name) continue;
    if (!latest || record.provenance.finished_at > latest.provenance.finished_at) latest = record;
  }
  return latest?.key;
}

function checkpointOf(
  record: NodeRecord,
): Extract<PublishedOutput, { kind: "directory" }> | undefined {
  const output = record.outputs[OUTPUT];
  return output?.kind === "directory" ? output : undefined;
}

/** The model in a folder: its own, or the last or best of a published checkpoint. */
async function modelIn(folder: string, which: CheckpointKind | undefined): Promise<string> {
  const places = [
    ...(which === undefined ? [MODEL_FILE] : []),
    join(which ?? "last", MODEL_FILE),
    ...(which === undefined ? [] : [MODEL_FILE]),
  ];
  for (const place of places) {
    const path = join(folder, place);
    if ((await statOf(path))?.isFile) return path;
  }
  throw new UserError(
    `The folder ${folder} holds no checkpoint: expected ${places.join(" or ")} in it.`,
  );
}

/** The vocabulary beside a model file, or a folder above, as in a published checkpoint. */
async function vocabularyOf(model: string): Promise<string> {
  const beside = join(dirname(model), VOCABULARY_FILE);
  const above = join(dirname(dirname(model)), VOCABULARY_FILE);
  for (const path of [beside, above]) if ((await statOf(path))?.isFile) return path;
  throw new UserError(
    `${basename(model)} has no ${VOCABULARY_FILE} beside it: expected ${beside} or ${above}.`,
  );
}

async function readParams(path: string): Promise<JsonValue | undefined> {
  if (!(await statOf(path))?.isFile) return undefined;
  let node: unknown;
  try {
    node = JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    throw new UserError(`${path} can't be read as a node's JSON: ${messageOf(error)}.`, {
      cause: error,
    });
  }
  return z.object({ params: z.json() }).safeParse(node).data?.params;
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
