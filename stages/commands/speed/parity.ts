/**
 * `parity`: the same bits twice and after a resume, and loss curves of runtimes and precisions compared.
 *
 * @module
 */

import {
  measureParity,
  type SameBits,
  type Way,
  wayName,
  type WayResult,
} from "../../../model/bench/parity.ts";
import { NoDawnError, NoGpuError, openGpu } from "../../../model/gpu/open.ts";
import { TokenSplit } from "../../../model/text/shard.ts";
import { openTokenFile } from "../../../model/text/token_file.ts";
import type { TokenSource } from "../../../model/text/token_source.ts";
import { architectureOf } from "../../../model/config.ts";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import { formatTable } from "../../../pipeline/terminal/table.ts";
import { RUNTIMES } from "../gpu_option.ts";
import { filesOf, findRecord } from "../model/checkpoints.ts";
import type { BaseModel } from "./base_model.ts";
import { showBytes, showCount } from "./quantities.ts";

/** Nats by which a curve may differ from the first in one update. */
const NATS_LIMIT = 0.02;

const PRECISIONS = ["f32", "mixed"] as const;

/** Text to train on. */
export interface ParityText extends Disposable {
  readonly source: TokenSource;
  /** Ids of its vocabulary. */
  readonly vocab_size: number;
}

/** Options of {@linkcode parity}. */
export interface ParityCommandOptions {
  /** Its vocabulary is the text's. */
  readonly model: BaseModel;
  readonly text: ParityText;
  /** Every way that this machine has unless given. */
  readonly ways?: readonly Way[];
  readonly steps: number;
  readonly seed: number;
  readonly twice: boolean;
  readonly resume: boolean;
  readonly signal: AbortSignal;
  progress(line: string): void;
}

/**
 * The ways of a list: `deno:f32,dawn:mixed`.
 *
 * @throws {UserError} Naming the one that is none, or is there twice.
 */
export function parseWays(list: string): Way[] {
  const names = list.split(",").map((name) => name.trim());
  return names.map((name, i) => {
    const [first, second, ...more] = name.split(":");
    const runtime = RUNTIMES.find((runtime) => runtime === first);
    const precision = PRECISIONS.find((precision) => precision === second);
    if (!runtime || !precision || more.length > 0) {
      throw new UserError(
        `--ways has "${name}"; expected RUNTIME:PRECISION of deno or dawn, and f32 or mixed.`,
      );
    }
    if (names.indexOf(name) !== i) throw new UserError(`--ways has ${name} twice.`);
    return { runtime, precision };
  });
}

/** Every precision on every runtime that opens a device here, f32 first. */
async function availableWays(): Promise<Way[]> {
  const runtimes: Way["runtime"][] = [];
  for (const runtime of RUNTIMES) {
    try {
      (await openGpu({ runtime })).close();
      runtimes.push(runtime);
    } catch (error) {
      // Dawn is optional, Deno's own WebGPU is not.
      const absent = error instanceof NoGpuError || error instanceof NoDawnError;
      if (runtime === "deno" || !absent) throw error;
    }
  }
  return PRECISIONS.flatMap((precision) => runtimes.map((runtime) => ({ runtime, precision })));
}

/**
 * Opens a token file as text.
 *
 * @throws {UserError} If it cannot be read, or is no token file.
 */
export function textOfFile(path: string, options: { vocab_size: number }): ParityText {
  try {
    const source = openTokenFile(path, options);
    return textOf(source, source.vocab_size);
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
    return textOf(source, source.vocab_size);
  } catch (cause) {
    throw new UserError(`The text of ${node} can't be used: ${messageOf(cause)}.`, { cause });
  }
}

function textOf(source: TokenSource & Disposable, vocab_size: number): ParityText {
  return { source, vocab_size, [Symbol.dispose]: () => source[Symbol.dispose]() };
}

/** Trains in every way. @throws {UserError} If text and steps do not fit each other. */
export async function parity(options: ParityCommandOptions): Promise<WayResult[]> {
  const { model, text, ways = await availableWays(), ...rest } = options;
  const folder = await Deno.makeTempDir({ prefix: "parity-" });
  try {
    return await measureParity({
      ...rest,
      architecture: architectureOf({ ...model.config, vocab_size: text.vocab_size }),
      train: model.train,
      text: text.source,
      ways,
      folder,
    });
  } catch (error) {
    if (error instanceof RangeError) throw new UserError(`${error.message}.`, { cause: error });
    throw error;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A sentence for each result that is not as it should be; empty when all that was measured agrees. */
export function findFaults(ways: readonly WayResult[]): string[] {
  const [first] = ways;
  return ways.flatMap((way) => {
    const name = wayName(way);
    const { difference, twice, resumed } = way;
    const faults: string[] = [];
    if (difference && !(difference.nats !== null && difference.nats <= NATS_LIMIT)) {
      faults.push(
        difference.nats === null
          ? `The loss of ${name} or of ${wayName(first!)} is not finite in update ${
            difference.step + 1
          }.`
          : `${name} is ${difference.nats.toPrecision(3)} nats from ${wayName(first!)} in update ${
            difference.step + 1
          }; at most ${NATS_LIMIT}.`,
      );
    }
    if (twice && !isSame(twice)) {
      faults.push(`${name} gave other ${others(twice)} in a second run.`);
    }
    if (resumed && !isSame(resumed)) {
      faults.push(`${name} gave other ${others(resumed)} after it was stopped and resumed.`);
    }
    return faults;
  });
}

const isSame = (same: SameBits) => same.same_losses && same.same_weights;
const others = (same: SameBits) =>
  [...same.same_losses ? [] : ["losses"], ...same.same_weights ? [] : ["weights"]].join(" and ");

/** The result as text: a line for each way, and the faults. */
export function renderParity(ways: readonly WayResult[]): string {
  const bits = (same: SameBits | undefined) => same ? (isSame(same) ? "same" : "OTHER") : "–";
  const nats = (value: number | null | undefined, show: (n: number) => string) =>
    typeof value === "number" ? show(value) : "not finite";
  const faults = findFaults(ways);
  return [
    formatTable(
      [
        "way",
        "last loss",
        "difference",
        "twice",
        "resumed",
        "skipped",
        "tokens/s",
        "memory",
        "weights",
        "adapter",
      ],
      ways.map((way) => [
        wayName(way),
        nats(way.losses.at(-1), (n) => n.toFixed(4)),
        way.difference ? nats(way.difference.nats, (n) => n.toPrecision(3)) : "–",
        bits(way.twice),
        bits(way.resumed),
        String(way.skipped),
        showCount(way.tokens_per_second),
        showBytes(way.peak_bytes),
        way.weights_sha256.slice(0, 12),
        way.adapter,
      ]),
    ),
    faults.length === 0 ? "All that was asked for agrees." : faults.join("\n"),
  ].join("\n\n");
}
