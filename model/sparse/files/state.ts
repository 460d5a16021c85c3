/**
 * The state of a folder that a model is expanded into: with which options, which files are done, and what came out.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { join } from "@std/path";
import canonicalize from "canonicalize";
import { z } from "zod";
import { replaceFile, writeSynced } from "../../checkpoint/atomic.ts";
import type { WrittenFile } from "../../checkpoint/safetensors.ts";
import { PretrainedError } from "../../pretrained/error.ts";
import { readJsonIfThere } from "../../pretrained/files.ts";
import { shown } from "../../pretrained/json.ts";
import type { BlockReport } from "./report.ts";

/** Name of the file. */
export const STATE_FILE = "sparse_expansion.json";

/** The options that decide every bit of the files, as far as an expansion is told: a flat list of keys. */
export type Fingerprint = Readonly<Record<string, string | number | boolean>>;

/** An expanded block and its file. */
export interface FinishedBlock extends WrittenFile {
  readonly report: BlockReport;
}

/** The state. */
export interface FolderState {
  readonly version: 1;
  readonly fingerprint: Fingerprint;
  /** The file of what is not expanded; undefined before it is written. */
  readonly dense?: WrittenFile | undefined;
  /** In their order; none is missing before the last. */
  readonly blocks: readonly FinishedBlock[];
}

const written = { bytes: z.int().min(1), sha256: z.string().regex(/^[0-9a-f]{64}$/) };
const numbers = z.array(z.number());
const siteSchema = z.strictObject({
  inputs: z.int().min(1),
  inertia: z.number(),
  sizes: numbers,
  dampings: numbers,
  layers: z.record(
    z.string(),
    z.strictObject({ outputs: z.int().min(1), losses: numbers, kept: numbers }),
  ),
  kept: z.number(),
  stored_bits: z.number(),
  dense_bits: z.number(),
  multiply_adds: z.number(),
  dense_multiply_adds: z.number(),
});
const schema = z.strictObject({
  version: z.literal(1),
  fingerprint: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  dense: z.strictObject(written).optional(),
  blocks: z.array(z.strictObject({
    ...written,
    report: z.strictObject({ in: siteSchema, mid: siteSchema }),
  })),
});

/** Keys of nested options, with dots between their names; lists as JSON. */
export function flatten(options: object, at = ""): Record<string, string | number | boolean> {
  const out: Record<string, string | number | boolean> = {};
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (Array.isArray(value)) out[at + key] = JSON.stringify(value);
    else if (typeof value === "object") Object.assign(out, flatten(value, `${at}${key}.`));
    else out[at + key] = value;
  }
  return out;
}

/** Digest of calibration tokens. */
export function tokensDigest(tokens: ArrayLike<number>): string {
  const words = Uint32Array.from(tokens);
  return createHash("sha256").update(new Uint8Array(words.buffer)).digest("hex");
}

/**
 * Reads the state of a folder.
 *
 * @returns Undefined if the folder has none.
 * @throws {PretrainedError} If it is none, or of other options: which one.
 */
export async function readState(
  folder: string,
  fingerprint: Fingerprint,
): Promise<FolderState | undefined> {
  const json = await readJsonIfThere(folder, STATE_FILE);
  if (json === undefined) return undefined;
  const path = join(folder, STATE_FILE);
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new PretrainedError(
      `${path}: ${issue.path.join(".") || "the file"}: ${issue.message.replaceAll(/\s+/g, " ")}`,
    );
  }
  const state = parsed.data as FolderState;
  const keys = new Set([...Object.keys(state.fingerprint), ...Object.keys(fingerprint)]);
  for (const key of keys) {
    const [there, here] = [state.fingerprint[key], fingerprint[key]];
    if (there === here) continue;
    throw new PretrainedError(
      `${path}: ${key} is ${shown(there)}, but ${
        shown(here)
      } is asked for; expected the same options, or another folder`,
    );
  }
  return state;
}

/** Writes the state of a folder. */
export async function writeState(folder: string, state: FolderState): Promise<void> {
  // Keys in one order, whether the state was read or not: the same run gives the same bytes.
  const text = `${canonicalize(state)}\n`;
  await replaceFile(join(folder, STATE_FILE), (partial) => writeSynced(partial, text));
}

/** Whether a file is there as it was written. */
export async function isWhole(path: string, written: WrittenFile): Promise<boolean> {
  const hash = createHash("sha256");
  try {
    using file = await Deno.open(path);
    if ((await file.stat()).size !== written.bytes) return false;
    const buffer = new Uint8Array(2 ** 20);
    for (let count; (count = await file.read(buffer)) !== null;) {
      hash.update(buffer.subarray(0, count));
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
  return hash.digest("hex") === written.sha256;
}
