/**
 * `parity`: precisions and runtimes held against each other on the same training.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { COSINE_LIMIT } from "../../../model/bench/gradient_parity.ts";
import {
  measureParity,
  type ParityOptions,
  type ParityResult,
} from "../../../model/bench/parity.ts";
import { mergeParity, NATS_LIMIT } from "../../../model/bench/parity_compare.ts";
import type { SameBits, Way, WayResult } from "../../../model/bench/parity_way.ts";
import {
  type Gpu,
  NoDawnError,
  NoGpuError,
  openGpu,
  type Runtime,
} from "../../../model/gpu/device.ts";
import type { TokenSource } from "../../../model/training/sampler.ts";
import { TokenSplit } from "../../../model/text/shard.ts";
import { openTokenFile } from "../../../model/text/token_file.ts";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import { statOrUndefined } from "../../../pipeline/store/files.ts";
import { formatTable } from "../../../pipeline/terminal/table.ts";
import { filesOf, findRecord } from "../model/checkpoints.ts";
import { parityCurves } from "../../report/figures/parity_curves.ts";
import { renderFigure } from "../../report/figures/render.ts";
import type { BaseModel } from "./base_model.ts";
import { RUNTIMES } from "../gpu_option.ts";
import { type MeasuredOn, measuredOn } from "./measured_on.ts";
import { showBytes, showCount } from "./quantities.ts";

/** A result as `--save` writes it. */
export interface SavedParity extends ParityResult {
  /** What each runtime was measured on; absent in what a script wrote. */
  readonly measured_on?: Readonly<Partial<Record<Runtime, MeasuredOn>>>;
}

/** Text to train on. */
export interface ParityText extends Disposable {
  /** What to call it. */
  readonly name: string;
  readonly source: TokenSource;
  /** Ids of its vocabulary. */
  readonly vocab_size: number;
}

/** Options of {@linkcode parity}. */
export interface ParityCommandOptions extends
  Pick<
    ParityOptions,
    "seed" | "ways" | "steps" | "identity" | "gradients" | "folder" | "progress" | "signal"
  > {
  /** What is trained; its vocabulary is the text's. */
  readonly model: BaseModel;
  readonly text: ParityText;
  /** Folder of the project. */
  readonly root: string;
  /** What `--save` wrote before, to go on with. */
  readonly known?: { readonly name: string; readonly result: SavedParity } | undefined;
  open(runtime: Runtime): Promise<Gpu>;
  /** Told after each way what is known so far. */
  measured(sofar: SavedParity): Promise<void>;
}

const PRECISIONS = ["f32", "mixed"] as const;

/**
 * The ways of a list: `deno:f32,dawn:mixed`.
 *
 * @throws {UserError} Naming the one that is none, or is there twice.
 */
export function parseWays(list: string): Way[] {
  const names = list.split(",").map((name) => name.trim());
  return names.map((name, i) => {
    const [first, second, third, ...more] = name.split(":");
    const runtime = RUNTIMES.find((runtime) => runtime === first);
    const precision = PRECISIONS.find((precision) => precision === second);
    const rounded = third === "rounded" && precision === "f32";
    if (!runtime || !precision || (third !== undefined && !rounded) || more.length > 0) {
      throw new UserError(
        `--ways has "${name}"; expected RUNTIME:PRECISION of deno or dawn, and f32, mixed or f32:rounded.`,
      );
    }
    if (names.indexOf(name) !== i) throw new UserError(`--ways has ${name} twice.`);
    return { runtime, precision, ...rounded && { rounded } };
  });
}

/** Every precision on every runtime that opens a device here. */
export async function availableWays(open: (runtime: Runtime) => Promise<Gpu>): Promise<Way[]> {
  const ways: Way[] = [];
  for (const runtime of RUNTIMES) {
    try {
      (await open(runtime)).close();
    } catch (error) {
      // Dawn is optional, Deno's own WebGPU is not.
      const absent = error instanceof NoGpuError || error instanceof NoDawnError;
      if (runtime === "deno" || !absent) throw error;
      continue;
    }
    for (const precision of PRECISIONS) ways.push({ runtime, precision });
  }
  return ways;
}

/**
 * Gives a function that opens devices, Dawn's with the Vulkan driver of `dawnIcd`.
 *
 * The loader reads the environment when a runtime first opens a device; it is put back, so that Deno's finds what it always does.
 */
export function deviceOpener(dawnIcd: string | undefined): (runtime: Runtime) => Promise<Gpu> {
  if (dawnIcd === undefined) return (runtime) => openGpu({ runtime });
  return async (runtime) => {
    if (runtime !== "dawn") return await openGpu({ runtime });
    const before = ICD_VARIABLES.map((name) => [name, Deno.env.get(name)] as const);
    try {
      return await openGpu({ runtime, icd: dawnIcd });
    } finally {
      for (const [name, value] of before) {
        if (value === undefined) Deno.env.delete(name);
        else Deno.env.set(name, value);
      }
    }
  };
}

const ICD_VARIABLES = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"];

/**
 * Opens a token file as text.
 *
 * @throws {UserError} If it cannot be read, or is no token file.
 */
export function textOfFile(
  path: string,
  options: { vocab_size: number; width?: 2 | 4 },
): ParityText {
  try {
    const source = openTokenFile(path, options);
    const name = path.split(/[\\/]/).at(-1)!;
    return { name, source, vocab_size: source.vocab_size, [Symbol.dispose]: () => dispose(source) };
  } catch (cause) {
    throw new UserError(`--tokens is ${path}, which cannot be used: ${messageOf(cause)}.`, {
      cause,
    });
  }
}

/**
 * Opens the training split of a tokenised dataset of the store.
 *
 * @throws {UserError} If there is none.
 */
export async function textOfDataset(node: string, storeDir: string): Promise<ParityText> {
  const record = await findRecord(node, storeDir);
  const shards = record === undefined ? [] : filesOf(record, { output: "tokens", storeDir })
    .filter(({ path }) => path.startsWith("train/"));
  if (shards.length === 0) {
    throw new UserError(
      `There is no tokenised text ${node} in ${storeDir}. \`reproduce --only tokenize\` makes one, and --tokens reads a file.`,
    );
  }
  try {
    const source = TokenSplit.open(shards.map(({ file }) => file));
    return {
      name: `${record!.node} ${record!.key.slice(0, 12)}`,
      source,
      vocab_size: source.vocab_size,
      [Symbol.dispose]: () => dispose(source),
    };
  } catch (cause) {
    throw new UserError(`The text of ${node} can't be used: ${messageOf(cause)}.`, { cause });
  }
}

function dispose(source: Disposable): void {
  source[Symbol.dispose]();
}

/** Measures each way, and says where. */
export async function parity(options: ParityCommandOptions): Promise<SavedParity> {
  const { model, text, root, open, measured, ...rest } = options;
  const measured_on: Partial<Record<Runtime, MeasuredOn>> = {};
  const on = () => ({ ...options.known?.result.measured_on, ...measured_on });
  try {
    const result = await measureParity({
      ...rest,
      config: { ...model.config, vocab_size: text.vocab_size },
      train: model.train,
      text,
      async open(runtime) {
        const gpu = await open(runtime);
        measured_on[runtime] ??= await measuredOn(gpu, root);
        return gpu;
      },
      measured: (sofar) => measured({ ...sofar, measured_on: on() }),
    });
    return { ...result, measured_on: on() };
  } catch (error) {
    // Ways, text and steps that do not fit each other are found before a device is opened.
    if (error instanceof RangeError && Object.keys(measured_on).length === 0) {
      throw new UserError(`${messageOf(error)}.`, { cause: error });
    }
    throw error;
  }
}

const same = z.looseObject({ same_losses: z.boolean(), same_weights: z.boolean() });
const cosine = z.looseObject({ name: z.string(), cosine: z.number() });
const gradients = z.looseObject({
  reference: z.string(),
  lowest: cosine,
  below: z.array(cosine),
  parameters: z.array(cosine),
});
const numbers = z.array(z.number().nullable());
/** Of a saved result, what is read here. */
const savedSchema = z.looseObject({
  format: z.literal("ethos-parity-1"),
  setup: z.looseObject({
    config: z.looseObject({ num_layers: z.int() }),
    steps: z.int(),
    tokens_per_update: z.int(),
    text: z.looseObject({
      name: z.string(),
      tokens: z.int(),
      epochs: z.number(),
      sha256: z.string(),
    }),
  }),
  ways: z.array(z.looseObject({
    way: z.string().regex(/^(deno|dawn):(f32|mixed|f32:rounded)$/),
    runtime: z.enum(RUNTIMES),
    precision: z.enum(PRECISIONS),
    rounded: z.literal(true).optional(),
    adapter: z.string(),
    losses: numbers,
    tokens_per_second: z.number(),
    peak_bytes: z.int(),
    skipped: z.array(z.int()),
    stopped: z.literal(true).optional(),
    identity: z.looseObject({
      steps: z.int(),
      twice: same.optional(),
      resumed: same.extend({ stopped_at: z.int() }).optional(),
    }).optional(),
    gradients: gradients.optional(),
    rounding: gradients.optional(),
  })).min(1),
});

/**
 * Reads what `--save` wrote, in one file or several, as one result.
 *
 * @throws {UserError} If a file is something else, or they are of different trainings.
 */
export async function readSavedParity(paths: readonly string[]): Promise<SavedParity> {
  const saved: SavedParity[] = [];
  for (const path of paths) saved.push(await readSaved("figure-from", path));
  try {
    const measured_on = Object.assign({}, ...saved.map(({ measured_on }) => measured_on ?? {}));
    return { ...mergeParity(saved), measured_on };
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new UserError(`--figure-from ${paths.join(", ")}: ${messageOf(cause)}.`, { cause });
  }
}

/**
 * What `--save` wrote before into the file that it is to write into now; nothing where there is none.
 *
 * @throws {UserError} If it is something else.
 */
export async function readKnownParity(path: string): Promise<SavedParity | undefined> {
  if (await statOrUndefined(path) === undefined) return undefined;
  return await readSaved("save", path);
}

async function readSaved(option: string, path: string): Promise<SavedParity> {
  let value: unknown;
  try {
    value = JSON.parse(await Deno.readTextFile(path));
  } catch (cause) {
    throw new UserError(`--${option} is ${path}, which cannot be read: ${messageOf(cause)}.`, {
      cause,
    });
  }
  const parsed = savedSchema.safeParse(value);
  if (parsed.success) return value as SavedParity;
  const [issue] = parsed.error.issues;
  throw new UserError(
    `--${option} is ${path}, which is not what parity --save writes: ${
      issue!.path.join(".") || "the file"
    }: ${issue!.message}.`,
  );
}

/**
 * Draws the curves into a folder: SVG, PNG at twice the size, the table as CSV, the specification.
 *
 * @returns The files.
 * @throws {UserError} If there is nothing to draw, or the folder cannot be written.
 */
export async function drawParity(result: ParityResult, folder: string): Promise<string[]> {
  const figure = parityCurves(result);
  if (!figure) throw new UserError("No way is f32, so there is no curve to hold others against.");
  const { name, svg, png, pngScale, sources } = await renderFigure(figure);
  const files: [string, string | Uint8Array][] = [
    [`${name}.svg`, svg],
    [`${name}@${pngScale}x.png`, png],
    ...Object.entries(sources).map(([kind, text]): [string, string] => [`${name}.${kind}`, text]),
  ];
  try {
    await Deno.mkdir(folder, { recursive: true });
    for (const [file, content] of files) {
      const path = join(folder, file);
      if (typeof content === "string") await Deno.writeTextFile(path, content);
      else await Deno.writeFile(path, content);
    }
  } catch (cause) {
    throw new UserError(`Cannot write to ${folder}: ${messageOf(cause)}.`, { exitCode: 1, cause });
  }
  return files.map(([file]) => join(folder, file));
}

/** Everything that is not as it should be, a sentence each; empty when all that was measured agrees. */
export function findFaults({ ways, curves }: ParityResult): string[] {
  const faults: string[] = [];
  const rounding = ways.find(({ rounding }) => rounding)?.rounding;
  // The model's own answer to a change of its last bits: nothing that could be wrong, and what the others are to be seen beside.
  const roundedWays = ways.filter(({ rounded }) => rounded).map(({ way }) => way);
  const own = curves.find(({ way }) => roundedWays.includes(way))?.largest.nats;
  for (const { way, reference, largest, within } of curves) {
    if (within || roundedWays.includes(way)) continue;
    faults.push(
      largest.nats === null
        ? `The loss of ${way} or of ${reference} is not finite in update ${largest.step + 1}.`
        : `${way} is ${nats(largest.nats)} nats from ${reference} in update ${
          largest.step + 1
        }; at most ${NATS_LIMIT}.${
          typeof own === "number"
            ? ` From weights rounded to halves f32 itself is up to ${nats(own)} away.`
            : ""
        }`,
    );
  }
  for (const { way, stopped, losses, identity, gradients } of ways) {
    if (stopped) {
      faults.push(
        `${way} was interrupted after ${losses.length} updates; --continue does it again.`,
      );
    }
    if (identity?.twice && !isSame(identity.twice)) {
      faults.push(`${way} gave other ${what(identity.twice)} in a second run.`);
    }
    if (identity?.resumed && !isSame(identity.resumed)) {
      faults.push(`${way} gave other ${what(identity.resumed)} after it was stopped and resumed.`);
    }
    const [worst] = gradients?.below ?? [];
    if (worst) {
      faults.push(
        `${gradients!.below.length} of ${
          gradients!.parameters.length
        } gradients of ${way} have a cosine below ` +
          `${COSINE_LIMIT} with those of ${gradients!.reference}; the lowest is ${
            worst.cosine.toFixed(6)
          }, of ${worst.name}.` +
          (rounding
            ? ` With its own weights rounded to halves ${
              gradients!.reference
            } has ${rounding.below.length}; the lowest is ${rounding.lowest.cosine.toFixed(6)}.`
            : ""),
      );
    }
  }
  return faults;
}

const isSame = (same: SameBits) => same.same_losses && same.same_weights;
const what = (same: SameBits) =>
  [...same.same_losses ? [] : ["losses"], ...same.same_weights ? [] : ["weights"]].join(" and ");
const nats = (value: number) => value.toPrecision(3);

/** A result as text: a line for each way, and the faults. */
export function renderParity(result: ParityResult): string {
  const { ways, curves, setup } = result;
  const bits = (same: SameBits | undefined) => same ? (isSame(same) ? "same" : "OTHER") : "–";
  const row = (way: WayResult) => {
    const curve = curves.find((curve) => curve.way === way.way);
    const last = way.losses.at(-1);
    return [
      way.way,
      typeof last === "number" ? last.toFixed(4) : "not finite",
      curve ? (curve.largest.nats === null ? "not finite" : nats(curve.largest.nats)) : "–",
      curve
        ? (curve.largest_mean.nats === null ? "not finite" : nats(curve.largest_mean.nats))
        : "–",
      way.gradients ? way.gradients.lowest.cosine.toFixed(6) : "–",
      bits(way.identity?.twice),
      bits(way.identity?.resumed),
      String(way.skipped.length),
      showCount(way.tokens_per_second),
      showBytes(way.peak_bytes),
      way.adapter,
    ];
  };
  const faults = findFaults(result);
  return [
    `${setup.steps} updates of ${showCount(setup.tokens_per_update)} tokens: ${setup.text.name}, ${
      showCount(setup.text.tokens)
    } tokens, gone through ${setup.text.epochs.toFixed(2)} times`,
    formatTable(
      [
        "way",
        "last loss",
        "largest difference",
        "10-step means",
        "lowest cosine",
        "twice",
        "resumed",
        "skipped",
        "tokens/s",
        "memory",
        "adapter",
      ],
      ways.map(row),
    ),
    faults.length === 0 ? "All that was asked for agrees." : faults.join("\n"),
  ].join("\n\n");
}
