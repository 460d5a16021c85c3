/**
 * Checkpoints: a folder that holds a model, and what it takes to train on as if nothing had happened.
 *
 * ```text
 * model.safetensors      weights and running statistics, by the specification's names; the configuration in the header
 * optimizer.safetensors  first and second moments, `m.<name>` and `v.<name>`
 * state.json             update, loss scale, counters, what was best so far; lengths and SHA-256 of the files
 * ```
 *
 * A folder is written under another name, synced and renamed, so one that is there was whole once. Whether it still is,
 * {@linkcode verifyCheckpoint} says. Beside the folders, `best/` holds the best model of each checkpoint that is kept.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { basename, dirname, join } from "@std/path";
import { z } from "zod";
import { loadArchitecture, type LoadOptions } from "../load.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { replaceFile, syncDirectory, writeSynced } from "./atomic.ts";
import { fromFlatForm } from "./flat_form.ts";
import { flatten, meaningOf } from "./meaning.ts";
import { packFields, unpackFields } from "../gpu/transfer.ts";
import { CONTROL_STATE, type ControlState } from "../ops/control.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import {
  SafetensorsFile,
  type TensorSource,
  writeSafetensors,
  type WrittenFile,
} from "./safetensors.ts";

/** Name of the weights' file. */
export const MODEL_FILE = "model.safetensors";
const OPTIMIZER_FILE = "optimizer.safetensors";
const STATE_FILE = "state.json";

/** The state that a checkpoint holds besides tensors. */
interface CheckpointState {
  /** Version of the format. */
  readonly format: "ethos-checkpoint-2";
  /** Updates done. */
  readonly step: number;
  /** Loss scale and counters; in the file an array in the order of {@linkcode CONTROL_STATE}. */
  readonly control: ControlState;
  /** The best model so far; null before the first evaluation. */
  readonly best: BestModel | null;
  /** The checkpoint's files, by name. */
  readonly files: {
    /** Weights and running statistics. */
    readonly "model.safetensors": WrittenFile;
    /** First and second moments. */
    readonly "optimizer.safetensors": WrittenFile;
  };
}

/** The model with the lowest validation loss so far; see {@linkcode bestModelPath}. */
export interface BestModel extends WrittenFile {
  /** The update after which it was measured. */
  readonly step: number;
  /** Its validation loss, nats. */
  readonly nats: number;
}

const writtenFile = { bytes: z.int().min(1), sha256: z.string().regex(/^[0-9a-f]{64}$/) };
const stateSchema = z.strictObject({
  format: z.literal("ethos-checkpoint-2"),
  step: z.int().min(0),
  control: z.array(z.number()).length(CONTROL_STATE.length)
    .transform((numbers) => unpackFields(CONTROL_STATE, numbers)),
  best: z.strictObject({ step: z.int(), nats: z.number(), ...writtenFile }).nullable(),
  files: z.strictObject({
    [MODEL_FILE]: z.strictObject(writtenFile),
    [OPTIMIZER_FILE]: z.strictObject(writtenFile),
  }),
});

/** Writes the weights and running statistics of a trainer to one file, readable by any safetensors reader. */
export async function saveModel(path: string, trainer: TrainingState): Promise<WrittenFile> {
  const { architecture } = trainer;
  const values = [...parameterSpecs(architecture), ...statisticSpecs(architecture)]
    .map(({ name, shape }) => ({ kind: "value", name, shape, key: name } as const));
  return await writeSafetensors(path, sources(trainer, values), {
    metadata: { format: "ethos", config: JSON.stringify(architecture.config) },
  });
}

/** Where the best model goes that was measured after `step` updates: by its update, so that each checkpoint finds its own. */
export function bestModelPath(folder: string, step: number): string {
  return join(folder, "best", `step-${String(step).padStart(9, "0")}.safetensors`);
}

/** Writes the model as the best of the checkpoints in `folder`, atomically. */
export async function saveBestModel(
  folder: string,
  trainer: TrainingState,
  measured: { step: number; nats: number },
): Promise<BestModel> {
  const path = bestModelPath(folder, measured.step);
  await Deno.mkdir(dirname(path), { recursive: true });
  const written = await replaceFile(path, (partial) => saveModel(partial, trainer));
  return { ...measured, ...written };
}

/** Writes a whole checkpoint as `directory`, atomically. */
export async function saveCheckpoint(
  directory: string,
  trainer: TrainingState,
  state: Pick<CheckpointState, "step" | "best">,
): Promise<void> {
  const temporary = `${directory}.partial`;
  await remove(temporary);
  await Deno.mkdir(temporary, { recursive: true });
  const model = await saveModel(join(temporary, MODEL_FILE), trainer);
  const moments = parameterSpecs(trainer.architecture).flatMap(({ name, shape }) =>
    (["m", "v"] as const).map((kind) => ({ kind, name, shape, key: `${kind}.${name}` }))
  );
  const optimizer = await writeSafetensors(
    join(temporary, OPTIMIZER_FILE),
    sources(trainer, moments),
  );
  const complete: z.input<typeof stateSchema> = {
    format: "ethos-checkpoint-2",
    ...state,
    control: Array.from(packFields(CONTROL_STATE, await trainer.readControl())),
    files: { [MODEL_FILE]: model, [OPTIMIZER_FILE]: optimizer },
  };
  const signed = { ...complete, sha256: stateDigest(complete) };
  await writeSynced(join(temporary, STATE_FILE), JSON.stringify(signed, null, 2) + "\n");
  await syncDirectory(temporary);
  await remove(directory);
  await Deno.rename(temporary, directory);
  await syncDirectory(join(directory, ".."));
}

/** Puts a trainer where a checkpoint left off. Throws when the checkpoint is of another model, naming the difference. */
export async function loadCheckpoint(
  directory: string,
  trainer: TrainingState,
): Promise<CheckpointState> {
  const state = await readState(join(directory, STATE_FILE));
  const model = join(directory, MODEL_FILE);
  await assertSameModel(model, trainer.architecture);
  await loadTensors(join(directory, MODEL_FILE), trainer, ["value"]);
  await loadTensors(join(directory, OPTIMIZER_FILE), trainer, ["m", "v"]);
  await trainer.resume(state.step, state.control);
  return state;
}

/**
 * Reads a checkpoint's state, and every byte of its files and of the best model that it names.
 *
 * @throws {Error} If one is missing, can't be read, or is not what was written: which file, and what is wrong with it.
 */
export async function verifyCheckpoint(directory: string): Promise<CheckpointState> {
  const state = await readState(join(directory, STATE_FILE));
  for (const [name, written] of Object.entries(state.files)) {
    await verifyFile(join(directory, name), written);
  }
  const { best } = state;
  if (best) await verifyFile(bestModelPath(dirname(directory), best.step), best);
  return state;
}

async function verifyFile(path: string, written: WrittenFile): Promise<void> {
  const hash = createHash("sha256");
  try {
    using file = await Deno.open(path);
    const { size } = await file.stat();
    if (size !== written.bytes) {
      throw new DamagedFileError(`${path} has ${size} bytes, expected ${written.bytes}`);
    }
    const buffer = new Uint8Array(2 ** 20);
    for (let count; (count = await file.read(buffer)) !== null;) {
      hash.update(buffer.subarray(0, count));
    }
  } catch (error) {
    throw explainRead(path, error);
  }
  const sha256 = hash.digest("hex");
  if (sha256 === written.sha256) return;
  throw new DamagedFileError(
    `${path} has the SHA-256 ${sha256.slice(0, 12)}…, expected ${written.sha256.slice(0, 12)}…`,
  );
}

/** A file that is not what was written. */
class DamagedFileError extends Error {}

/** The system's error, with the file that it concerns. */
function explainRead(path: string, error: unknown): Error {
  if (error instanceof DamagedFileError) return error;
  const what = error instanceof Deno.errors.NotFound
    ? "is missing"
    : `can't be read: ${error instanceof Error ? error.message : error}`;
  return new DamagedFileError(`${path} ${what}`, { cause: error });
}

/**
 * Reads a checkpoint's state, and not its files.
 *
 * @throws {Error} If it can't be read, or is not what was written.
 */
export async function readCheckpointState(directory: string): Promise<CheckpointState> {
  return await readState(join(directory, STATE_FILE));
}

async function readState(path: string): Promise<CheckpointState> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    throw explainRead(path, error);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    const { message } = cause as SyntaxError;
    throw new Error(`${path} is not a checkpoint's state: ${message}`, { cause });
  }
  const { sha256, ...state } = Object(json) as Record<string, unknown>;
  const parsed = stateSchema.safeParse(state);
  if (!parsed.success) {
    const problems = z.prettifyError(parsed.error).replace(/\s*\n\s*/g, " ");
    throw new Error(`${path} is not a checkpoint's state: ${problems}`);
  }
  if (sha256 !== stateDigest(state)) {
    throw new Error(`${path} does not have the SHA-256 that it says`);
  }
  return parsed.data;
}

/** SHA-256 of a state: a changed digit would otherwise go unseen. */
function stateDigest(state: object): string {
  return createHash("sha256").update(JSON.stringify(state)).digest("hex");
}

/**
 * Checks that a file is of a model with the same stored numbers. Keys that change the run alone may differ.
 *
 * @throws {Error} Naming the keys that differ.
 */
export async function assertSameModel(path: string, expected: Architecture): Promise<void> {
  const different = await modelDifferences(path, await readConfig(path), expected);
  if (different.length === 0) return;
  throw new Error(`${path} is of another model: ${different.join("; ")}`);
}

/**
 * The keys in which a model's configuration differs from that of another, as `d_model is 16, expected 32`. Keys that change the run
 * alone are left out. No kind is loaded that `expected` does not name.
 *
 * @param path Names the configuration in errors.
 * @throws {Error} If the configuration is not valid.
 */
export async function modelDifferences(
  path: string,
  config: unknown,
  expected: Architecture,
): Promise<string[]> {
  const kinds = (value: unknown) =>
    new Map([...flatten(value)].filter(([key]) => key.endsWith(".kind")));
  const different = differences(kinds(config), kinds(expected.config));
  if (different.length > 0) return different;
  const found = (await parseArchitecture(path, config)).forGeneration();
  return differences(meaningOf(found.config), meaningOf(expected.forGeneration().config));
}

function differences(
  found: ReadonlyMap<string, unknown>,
  expected: ReadonlyMap<string, unknown>,
): string[] {
  return [...new Set([...expected.keys(), ...found.keys()])]
    .filter((key) => found.get(key) !== expected.get(key))
    .map((key) => `${key} is ${found.get(key)}, expected ${expected.get(key)}`);
}

/** The configuration in a model file's header, in today's form, not yet checked. */
export async function readConfig(path: string): Promise<unknown> {
  using file = await SafetensorsFile.open(path);
  const text = file.metadata["config"];
  if (text === undefined) {
    throw new Error(`${path} has no model configuration in its header (__metadata__.config)`);
  }
  try {
    return fromFlatForm(JSON.parse(text));
  } catch (cause) {
    throw new Error(`${path} has a model configuration that is not JSON: ${text}`, { cause });
  }
}

async function parseArchitecture(
  path: string,
  config: unknown,
  options: LoadOptions = {},
): Promise<Architecture> {
  try {
    return await loadArchitecture(config, options);
  } catch (cause) {
    if (!(cause instanceof z.ZodError || cause instanceof RangeError)) throw cause;
    const why = cause instanceof z.ZodError ? z.prettifyError(cause) : cause.message;
    throw new Error(`${path} has a model configuration that is not valid: ${why}`, { cause });
  }
}

/** The layers of the configuration in a model file's header, which may be in the flat form of earlier versions. */
export async function readArchitecture(
  path: string,
  options: LoadOptions = {},
): Promise<Architecture> {
  return await parseArchitecture(path, await readConfig(path), options);
}

/** The numbers of a training that a checkpoint holds: weights and the optimiser's two moments. */
export type StateKind = "value" | "m" | "v";

/** A training that can be saved and put where a checkpoint left off. */
export interface TrainingState extends WeightSink {
  /** Reads a tensor of its state. */
  readState(kind: StateKind, name: string): Promise<Float32Array>;
  /** The loss scale and the counters on the device. */
  readControl(): Promise<ControlState>;
  /** Goes on at update `step`. */
  resume(step: number, control: ControlState): Promise<void>;
}

/** Something whose weights can be replaced from a file. */
export interface WeightSink {
  /** The model whose tensors are filled; says which names and shapes a file must have. */
  readonly architecture: Architecture;
  /** Replaces one tensor by name; `values` are row-major, all of them. Whoever has more waits for the promise, if there is one, before the next. */
  writeState(kind: StateKind, name: string, values: Float32Array): void | Promise<void>;
}

/** Fills weights and running statistics from a model file. */
export async function loadModel(path: string, sink: WeightSink): Promise<void> {
  await loadTensors(path, sink, ["value"]);
}

async function loadTensors(
  path: string,
  sink: WeightSink,
  kinds: readonly StateKind[],
): Promise<void> {
  using file = await SafetensorsFile.open(path);
  for (const kind of kinds) {
    const specs = parameterSpecs(sink.architecture);
    const all = kind === "value" ? [...specs, ...statisticSpecs(sink.architecture)] : specs;
    for (const { name, shape } of all) {
      const key = kind === "value" ? name : `${kind}.${name}`;
      if (!file.tensors.has(key)) throw new Error(`${path} has no tensor ${key}`);
      const tensor = await file.read(key);
      if (tensor.shape.join() !== shape.join() || !(tensor.data instanceof Float32Array)) {
        throw new Error(
          `${path}: tensor ${key} is ${tensor.dtype} [${tensor.shape.join(", ")}], expected F32 [${
            shape.join(", ")
          }]`,
        );
      }
      await sink.writeState(kind, name, tensor.data);
    }
  }
}

/** The checkpoints in a folder by the number of updates, oldest first. Half-written ones have another name. */
export async function listCheckpoints(
  folder: string,
): Promise<{ step: number; path: string }[]> {
  const found: { step: number; path: string }[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) {
      const step = /^step-(\d+)$/.exec(entry.name)?.[1];
      if (step !== undefined) found.push({ step: Number(step), path: join(folder, entry.name) });
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return found.sort((a, b) => a.step - b.step);
}

/** Where the checkpoint after `step` updates goes. */
export function checkpointPath(folder: string, step: number): string {
  return join(folder, `step-${String(step).padStart(9, "0")}`);
}

/** Removes a checkpoint; its best model stays until the next {@linkcode pruneCheckpoints}. */
export async function removeCheckpoint(directory: string): Promise<void> {
  await remove(directory);
}

/**
 * Removes all checkpoints but the last `keep`, best models that none of these names, and what a killed run left half-written.
 */
export async function pruneCheckpoints(folder: string, keep: number): Promise<void> {
  const checkpoints = await listCheckpoints(folder);
  for (const { path } of checkpoints.slice(0, -keep)) await remove(path);
  await removeIn(folder, (name) => name.endsWith(".partial"));
  const named = new Set<string>();
  for (const { path } of checkpoints.slice(-keep)) {
    let state;
    try {
      state = await readState(join(path, STATE_FILE));
    } catch {
      // A damaged checkpoint concerns only who resumes from it; what it names is not known, so all stay.
      return;
    }
    if (state.best) named.add(basename(bestModelPath(folder, state.best.step)));
  }
  await removeIn(join(folder, "best"), (name) => !named.has(name));
}

/** Removes what is in a folder, if it is there, by name. */
async function removeIn(folder: string, which: (name: string) => boolean): Promise<void> {
  try {
    for await (const { name } of Deno.readDir(folder)) {
      if (which(name)) await remove(join(folder, name));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/**
 * Puts a checkpoint, or one of its files, at a second place. Both are the same bytes on disk where the file system has hard
 * links, so that gigabytes take no room and no time; elsewhere it is a copy.
 */
export async function shareCheckpoint(from: string, to: string): Promise<void> {
  if ((await Deno.stat(from)).isDirectory) {
    await Deno.mkdir(to, { recursive: true });
    const names = await Array.fromAsync(Deno.readDir(from), ({ name }) => name);
    for (const name of names.sort()) await shareCheckpoint(join(from, name), join(to, name));
    return;
  }
  try {
    await Deno.link(from, to);
  } catch {
    // Another disk, or a file system without links; whatever else is wrong stops the copy too.
    await Deno.copyFile(from, to);
  }
}

/** A tensor of the trainer, and what a file calls it. */
interface Stored {
  readonly kind: StateKind;
  readonly name: string;
  readonly shape: readonly number[];
  readonly key: string;
}

/** Bytes of tensors that are read before the writer comes to them. */
const READ_AHEAD = 64 * 2 ** 20;

/** Tensors of the trainer, read back ahead of the writer: a read that is waited for alone takes longer than its bytes do. */
function sources(trainer: TrainingState, tensors: readonly Stored[]): TensorSource[] {
  const reads = new Map<number, Promise<Float32Array>>();
  const bytes = ({ shape }: Stored) => 4 * shape.reduce((a, b) => a * b, 1);
  let next = 0;
  let ahead = 0;
  return tensors.map((tensor, i) => ({
    name: tensor.key,
    dtype: "F32",
    shape: tensor.shape,
    data: async function* () {
      for (; next < tensors.length && (next <= i || ahead < READ_AHEAD); next++) {
        const { kind, name } = tensors[next]!;
        const read = trainer.readState(kind, name);
        read.catch(() => {}); // whoever awaits it hears of it
        reads.set(next, read);
        ahead += bytes(tensors[next]!);
      }
      const values = await (reads.get(i) ?? trainer.readState(tensor.kind, tensor.name));
      if (reads.delete(i)) ahead -= bytes(tensor);
      yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    },
  }));
}

async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
