/**
 * Checkpoints: a folder that holds a model, and what it takes to train on as if nothing had happened.
 *
 * ```text
 * model.safetensors      weights and running statistics, by the specification's names; the configuration in the header
 * optimizer.safetensors  first and second moments, `m.<name>` and `v.<name>`
 * state.json             update, loss scale, counters, what was best so far
 * ```
 *
 * A folder is written under another name, synced and renamed, so one that is there is whole.
 *
 * @module
 */

import { basename, join } from "@std/path";
import { z } from "zod";
import { type ModelConfig, modelSchema } from "./config.ts";
import { CONTROL_STATE } from "./ops/optimizer.ts";
import { parameterSpecs, statisticSpecs } from "./parameters.ts";
import { SafetensorsFile, type TensorSource, writeSafetensors } from "./safetensors.ts";
import type { StateKind, Trainer } from "./trainer.ts";

/** Name of the weights' file. */
export const MODEL_FILE = "model.safetensors";
const OPTIMIZER_FILE = "optimizer.safetensors";
const STATE_FILE = "state.json";

/** What a checkpoint holds besides tensors. */
export interface CheckpointState {
  /** Version of the format. */
  readonly format: "ethos-checkpoint-1";
  /** Updates done. */
  readonly step: number;
  /** Loss scale and counters of `shaders/control.wgsl`. */
  readonly control: readonly number[];
  /** Lowest validation loss so far, nats, and the update after which it was measured; null before the first evaluation. */
  readonly best: { readonly step: number; readonly nats: number } | null;
}

const stateSchema: z.ZodType<CheckpointState> = z.strictObject({
  format: z.literal("ethos-checkpoint-1"),
  step: z.int().min(0),
  control: z.array(z.number()).length(CONTROL_STATE),
  best: z.strictObject({ step: z.int(), nats: z.number() }).nullable(),
});

/** Writes the weights and running statistics of a trainer to one file, readable by any safetensors reader. */
export async function saveModel(path: string, trainer: Trainer): Promise<void> {
  const { config } = trainer;
  const values = [...parameterSpecs(config), ...statisticSpecs(config)]
    .map(({ name, shape }) => ({ kind: "value", name, shape, key: name } as const));
  await writeSafetensors(path, sources(trainer, values), {
    metadata: { format: "ethos", config: JSON.stringify(config) },
  });
}

/** Writes a whole checkpoint as `directory`, atomically. */
export async function saveCheckpoint(
  directory: string,
  trainer: Trainer,
  state: Omit<CheckpointState, "format" | "control">,
): Promise<void> {
  const temporary = `${directory}.partial`;
  await remove(temporary);
  await Deno.mkdir(temporary, { recursive: true });
  await saveModel(join(temporary, MODEL_FILE), trainer);
  const moments = parameterSpecs(trainer.config).flatMap(({ name, shape }) =>
    (["m", "v"] as const).map((kind) => ({ kind, name, shape, key: `${kind}.${name}` }))
  );
  await writeSafetensors(join(temporary, OPTIMIZER_FILE), sources(trainer, moments));
  const complete: CheckpointState = {
    format: "ethos-checkpoint-1",
    ...state,
    control: await trainer.readControl(),
  };
  await writeSynced(join(temporary, STATE_FILE), JSON.stringify(complete, null, 2) + "\n");
  await syncDirectory(temporary);
  await remove(directory);
  await Deno.rename(temporary, directory);
  await syncDirectory(join(directory, ".."));
}

/** Puts a trainer where a checkpoint left off. Throws when the checkpoint is of another model, naming the difference. */
export async function loadCheckpoint(
  directory: string,
  trainer: Trainer,
): Promise<CheckpointState> {
  const state = await readState(join(directory, STATE_FILE));
  const model = join(directory, MODEL_FILE);
  assertSameModel(model, await readModelConfig(model), trainer.config);
  await loadTensors(join(directory, MODEL_FILE), trainer, ["value"]);
  await loadTensors(join(directory, OPTIMIZER_FILE), trainer, ["m", "v"]);
  await trainer.resume(state.step, state.control);
  return state;
}

async function readState(path: string): Promise<CheckpointState> {
  let json: unknown;
  try {
    json = JSON.parse(await Deno.readTextFile(path));
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) {
      throw new Error(`${path} is missing: its folder is not a checkpoint`, { cause });
    }
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new Error(`${path} is not a checkpoint's state: ${cause.message}`, { cause });
  }
  const parsed = stateSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new Error(`${path} is not a checkpoint's state: ${z.prettifyError(parsed.error)}`);
}

/** How experts run changes nothing that is stored. */
function assertSameModel(path: string, found: ModelConfig, expected: ModelConfig): void {
  const keys = Object.keys(expected) as (keyof ModelConfig)[];
  const different = keys.filter((key) => key !== "execution" && found[key] !== expected[key]);
  if (different.length === 0) return;
  const list = different.map((key) => `${key} is ${found[key]}, expected ${expected[key]}`);
  throw new Error(`${path} is of another model: ${list.join("; ")}`);
}

/** The configuration in a model file's header. */
export async function readModelConfig(path: string): Promise<ModelConfig> {
  using file = await SafetensorsFile.open(path);
  const text = file.metadata["config"];
  if (text === undefined) {
    throw new Error(`${path} has no model configuration in its header (__metadata__.config)`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new Error(`${path} has a model configuration that is not JSON: ${text}`, { cause });
  }
  const { vocab_size, ...model } = Object(json) as Record<string, unknown>;
  const size = z.int().min(1).safeParse(vocab_size);
  const parsed = modelSchema.safeParse(model);
  if (!parsed.success || !size.success) {
    const why = parsed.success ? `vocab_size is ${vocab_size}` : z.prettifyError(parsed.error);
    throw new Error(`${path} has a model configuration that is not valid: ${why}`);
  }
  return { ...parsed.data, vocab_size: size.data };
}

/** Something whose weights can be replaced from a file. */
export interface WeightSink {
  /** The model whose tensors are filled; says which names and shapes a file must have. */
  readonly config: ModelConfig;
  /** Replaces one tensor by name; `values` are row-major, all of them. */
  writeState(kind: StateKind, name: string, values: Float32Array): void;
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
    const specs = parameterSpecs(sink.config);
    const all = kind === "value" ? [...specs, ...statisticSpecs(sink.config)] : specs;
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
      sink.writeState(kind, name, tensor.data);
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

/** Removes all checkpoints but the last `keep`, and what a killed run left half-written. */
export async function pruneCheckpoints(folder: string, keep: number): Promise<void> {
  const checkpoints = await listCheckpoints(folder);
  for (const { path } of checkpoints.slice(0, -keep)) await remove(path);
  for await (const entry of Deno.readDir(folder)) {
    if (entry.name.endsWith(".partial")) await remove(join(folder, basename(entry.name)));
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
function sources(trainer: Trainer, tensors: readonly Stored[]): TensorSource[] {
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

async function writeSynced(path: string, text: string): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
  await file.sync();
}

async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open folders; its rename is durable without.
  if (Deno.build.os === "windows") return;
  using directory = await Deno.open(path);
  await directory.sync();
}

async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
