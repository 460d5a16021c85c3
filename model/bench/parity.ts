/**
 * The proof that precisions and runtimes train alike: the same updates of the same model on the same text, way after way.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { ModelConfig } from "../config.ts";
import { type Gpu, openGpu, type Runtime } from "../gpu/device.ts";
import {
  batchesOfUpdate,
  Sampler,
  type TokenBatch,
  type TokenSource,
} from "../training/sampler.ts";
import { tokensPerStep, type TrainSection } from "../training/config.ts";
import { compareGradient, type GradientParity, saveGradient } from "./gradient_parity.ts";
import {
  compareCurves,
  type CurveComparison,
  differentParts,
  referenceWay,
} from "./parity_compare.ts";
import {
  comparedSteps,
  type IdentityOptions,
  measureWay,
  type Way,
  wayName,
  type WayResult,
} from "./parity_way.ts";

/** Options of {@linkcode measureParity}. */
export interface ParityOptions {
  /** Sizes of the model. */
  readonly config: ModelConfig;
  /** How it is trained. Its precision gives way to each way's; its schedule stays, whatever `steps` says. */
  readonly train: TrainSection;
  /** Chooses weights and the order of the text. */
  readonly seed: number;
  /** The text, and what to call it. */
  readonly text: { readonly name: string; readonly source: TokenSource };
  /** What is held against each other. */
  readonly ways: readonly Way[];
  /** Updates of each way. */
  readonly steps: number;
  /** Whether a way gives the same bits again. */
  readonly identity?: IdentityOptions | undefined;
  /** Whether gradients of the first micro-batch are compared, parameter by parameter. */
  readonly gradients?: boolean | undefined;
  /**
   * Folder for what does not fit a device twice: a checkpoint (12 bytes a parameter) and a gradient (4). The gradient of the f32 way
   * stays there, so that a later call with the same folder compares others with it.
   */
  readonly folder: string;
  /** Opens a device; {@linkcode openGpu} unless given. */
  open?(runtime: Runtime): Promise<Gpu>;
  /** Says what is being done. */
  progress?(line: string): void;
  /** Told after each way what is known so far, so that it can be kept. */
  measured?(sofar: ParityResult): void | Promise<void>;
  /**
   * What an earlier call with the same training found, and what to call it: it is part of the result, and only those of its ways are
   * measured again that were stopped or lack what is asked for.
   */
  readonly known?: { readonly name: string; readonly result: ParityResult } | undefined;
  /** Stops between updates. What was measured until then is told first. */
  readonly signal?: AbortSignal | undefined;
}

/** What was the same in every way. */
export interface ParitySetup {
  /** Sizes of the model. */
  readonly config: ModelConfig;
  /** How it was trained, without the precision. */
  readonly train: Omit<TrainSection, "precision">;
  /** Chose weights and the order of the text. */
  readonly seed: number;
  /** Updates. */
  readonly steps: number;
  /** Tokens of an update. */
  readonly tokens_per_update: number;
  /** The text. */
  readonly text: {
    /** What it is called. */
    readonly name: string;
    /** Tokens that there are. */
    readonly tokens: number;
    /** Times that the run goes through it. */
    readonly epochs: number;
    /** SHA-256 of all tokens and targets that the updates are given, as little-endian u32. */
    readonly sha256: string;
  };
}

/** What {@linkcode measureParity} found. */
export interface ParityResult {
  /** Version of the format. */
  readonly format: "ethos-parity-1";
  /** What was the same. */
  readonly setup: ParitySetup;
  /** Each way: in the order in which they were measured, and after them those that were known before and not asked for. */
  readonly ways: readonly WayResult[];
  /** Each curve held against the first f32 one. */
  readonly curves: readonly CurveComparison[];
}

/**
 * Trains the same model on the same text in several ways, one after another: each opens its device, trains, and frees everything before
 * the next begins. A way that is f32 goes first, since others are held against it.
 *
 * @throws {RangeError} If there is no text for a sequence, it has tokens outside the vocabulary, a way is named twice, nothing is in
 * f32 to compare gradients with, or what is known is of another training.
 *
 * @example
 * ```ts ignore
 * import { measureParity } from "./parity.ts";
 * import { openTokenFile } from "../text/token_file.ts";
 * using source = openTokenFile("c4.tokens", { vocab_size: config.vocab_size });
 * const { ways, curves } = await measureParity({
 *   config, train, seed: 1, steps: 200, folder: "/tmp/parity", gradients: true,
 *   text: { name: "C4", source },
 *   ways: [{ runtime: "dawn", precision: "f32" }, { runtime: "dawn", precision: "mixed" }],
 *   identity: { steps: 20, twice: true, resume: true },
 *   progress: console.log,
 * });
 * ```
 */
export async function measureParity(options: ParityOptions): Promise<ParityResult> {
  const { config, train, seed, steps, identity, text, folder, signal } = options;
  const { open = (runtime) => openGpu({ runtime }), progress = () => {} } = options;
  const ways = inOrder(options.ways);
  if (identity?.resume && comparedSteps(options)! < 2) {
    throw new RangeError("A run of fewer than 2 updates can't be stopped at half");
  }
  await Deno.mkdir(folder, { recursive: true });
  const sampler = new Sampler(text.source, { length: train.sequence_length, seed });
  const setup = describe(options, sampler);
  const batch = sampler.batch(0, train.micro_batch);
  const reference = `${folder}/gradient-${referenceKey(setup, batch)}.safetensors`;
  const names = ways.map(wayName);
  const found = new Map<string, WayResult>();
  const result = (): ParityResult => {
    const asked = names.flatMap((name) => found.get(name) ?? []);
    const all = [...asked, ...[...found.values()].filter(({ way }) => !names.includes(way))];
    return { format: "ethos-parity-1", setup, ways: all, curves: compareCurves(all) };
  };
  if (options.known) {
    const { name, result: { setup: other, ways } } = options.known;
    const different = differentParts(setup, other);
    if (different.length > 0) {
      throw new RangeError(`${name} is of another training: ${different.join(", ")} differ`);
    }
    for (const way of ways) found.set(way.way, way);
  }
  const missing = new Set(ways.filter((way) => !isFinished(found.get(wayName(way)), options)));
  if (options.gradients && missing.size > 0 && !await exists(reference)) {
    const first = referenceWay(ways);
    if (!first) {
      throw new RangeError("None of the ways is f32, so there is no gradient to compare with");
    }
    // Measured before, it left its gradient in another folder.
    if ([...missing].some(({ rounded }) => !rounded)) missing.add(first);
  }
  for (const way of ways) {
    const name = wayName(way);
    if (!missing.has(way)) {
      progress(`${name}: measured before, ${found.get(name)!.date}`);
      continue;
    }
    progress(`${name}: opening the device`);
    const gpu = await open(way.runtime);
    try {
      let gradients: GradientParity | undefined;
      let rounding: GradientParity | undefined;
      // What rounding does to a gradient is measured with the reference's.
      if (options.gradients && !way.rounded) {
        const ofWay = {
          config,
          train: { ...train, precision: way.precision },
          seed,
          batch,
          path: reference,
          way: name,
        };
        progress(`${name}: gradient of the first micro-batch on ${gpu.adapter.description}`);
        if (await exists(reference)) gradients = await compareGradient(gpu, ofWay);
        else {
          await saveGradient(gpu, ofWay);
          progress(`${name}: gradient of its weights rounded to halves`);
          rounding = await compareGradient(gpu, { ...ofWay, rounded: true });
        }
        const { lowest } = (gradients ?? rounding)!;
        progress(`${name}: lowest cosine ${lowest.cosine.toFixed(6)}, of ${lowest.name}`);
      }
      const measured = await measureWay(gpu, {
        config,
        train,
        precision: way.precision,
        rounded: way.rounded,
        seed,
        sampler,
        steps,
        identity,
        folder,
        progress,
        signal,
      });
      found.set(name, {
        ...measured,
        ...gradients && { gradients },
        ...rounding && { rounding },
      });
    } finally {
      gpu.close();
    }
    await options.measured?.(result());
    signal?.throwIfAborted();
  }
  return result();
}

/** Whether a way was measured to the end, with all that is asked for. */
function isFinished(way: WayResult | undefined, options: ParityOptions): boolean {
  const { identity, gradients } = options;
  const compared = comparedSteps(options);
  return way !== undefined && !way.stopped &&
    (compared === undefined || way.identity?.steps === compared) &&
    (!identity?.twice || way.identity?.twice !== undefined) &&
    (!identity?.resume || way.identity?.resumed !== undefined) &&
    (!gradients || way.rounded === true || (way.gradients ?? way.rounding) !== undefined);
}

/** The first f32 way ahead of the others. */
function inOrder(ways: readonly Way[]): Way[] {
  if (ways.length === 0) throw new RangeError("There is no way to measure");
  const names = ways.map(wayName);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new RangeError(`The way ${twice} is named twice`);
  const first = referenceWay(ways);
  return first ? [first, ...ways.filter((way) => way !== first)] : [...ways];
}

function describe(options: ParityOptions, sampler: Sampler): ParitySetup {
  const { config, train, seed, steps, text } = options;
  const { precision: _, ...rest } = train;
  const hash = createHash("sha256");
  for (let step = 0; step < steps; step++) {
    for (const { tokens, targets } of batchesOfUpdate(sampler, step, train)) {
      for (const ids of [tokens, targets]) {
        const outside = ids.find((id) => id >= config.vocab_size);
        if (outside !== undefined) {
          throw new RangeError(
            `${text.name} has the token ${outside}, outside the vocabulary of ${config.vocab_size}`,
          );
        }
        hash.update(new Uint8Array(ids.buffer));
      }
    }
  }
  const sequences = steps * train.gradient_accumulation * train.micro_batch;
  return {
    config,
    train: rest,
    seed,
    steps,
    tokens_per_update: tokensPerStep(train),
    text: {
      name: text.name,
      tokens: text.source.length,
      epochs: sequences / sampler.sequences,
      sha256: hash.digest("hex"),
    },
  };
}

/** Names what a gradient follows from. */
function referenceKey(
  { config, train, seed }: ParitySetup,
  { tokens, targets }: TokenBatch,
): string {
  return createHash("sha256")
    .update(JSON.stringify({ config, length: train.sequence_length, seed }))
    .update(new Uint8Array(tokens.buffer))
    .update(new Uint8Array(targets.buffer))
    .digest("hex").slice(0, 16);
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
