/**
 * `bench`: measures the kernels, layers, training and inference of a configuration, and compares with an earlier run.
 *
 * @module
 */

import canonicalize from "canonicalize";
import { z } from "zod";
import {
  type BenchCase,
  type BenchEntry,
  LeftOut,
  measureCase,
  overRounds,
  type SuiteContext,
  type SuiteName,
  SUITES,
} from "../../../model/bench/suites/suite.ts";
import { casesOf } from "../../../model/bench/suites/suites.ts";
import { architectureOf } from "../../../model/config.ts";
import { denseEquivalent, joinedExperts } from "../../../model/equal_size.ts";
import type { Gpu } from "../../../model/gpu/device.ts";
import type { Architecture } from "../../../model/trunk/architecture.ts";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import { formatTable } from "../../../pipeline/terminal/table.ts";
import { suggestion } from "../../../pipeline/terminal/suggest.ts";
import type { BaseModel } from "./base_model.ts";
import { type CostGrowth, costGrowths, renderCosts } from "./cost_table.ts";
import { type MeasuredOn, measuredOn } from "./measured_on.ts";
import {
  type ModelComparison,
  modelCounts,
  type ModelLoss,
  renderComparison,
} from "./model_table.ts";
import { showBytes, showCount, showSeconds, showShare, threeDigits } from "./quantities.ts";

/** Options of {@linkcode bench}. */
export interface BenchOptions {
  readonly gpu: Gpu;
  readonly model: BaseModel;
  /** Folder of the project. */
  readonly root: string;
  readonly suites: readonly SuiteName[];
  /** Measures the cases whose ids hold one of these texts; all without any. */
  readonly only: readonly string[];
  readonly warmup: number;
  readonly repeats: number;
  /** Training steps that are timed. */
  readonly steps: number;
  /** Bytes of device memory that a step of the suite `cost` may take; no limit unless given. */
  readonly memory?: number | undefined;
  /** Times that all cases are measured, one after the other; an entry is the median over them. Once unless given. */
  readonly rounds?: number | undefined;
  /** Seconds after which no case is started; no limit unless given. */
  readonly seconds?: number | undefined;
  readonly seed: number;
  /** Losses of trained models for the suite `model`, once the rest is measured. */
  losses?(): Promise<readonly ModelLoss[]>;
  /** Is told each result as it comes, with all that there are so far. */
  progress(line: string, result: BenchResult): Promise<void> | void;
  readonly signal?: AbortSignal;
}

/** A case that could not be measured, or was left out. */
export interface BenchFailure {
  readonly id: string;
  /** Why. */
  readonly error: string;
}

/** How one entry compares with others of the same run: the paper's claim. */
export interface ExecutionRatio {
  /** The entry compared: `experts.8192.mixed.forward`. */
  readonly id: string;
  /** Which execution is held against the naive one. */
  readonly execution: string;
  /** Times faster than naive execution. */
  readonly speed_up: number;
  /** Times less memory than naive execution. */
  readonly memory: number;
}

/** An entry against the best rates of the same run. */
export interface RatedEntry extends BenchEntry {
  /**
   * Fraction of the nearer roof, 0 to 1: the fastest copy for bytes, the fastest square product of the same operands for operations.
   * Absent where neither was measured.
   */
  readonly of_ceiling?: number;
}

/** The measurements, as JSON. */
export interface BenchResult {
  readonly format: "ethos-bench";
  readonly version: 1;
  readonly measured_on: MeasuredOn;
  readonly config: string;
  readonly model: BaseModel["config"];
  readonly train: BaseModel["train"];
  readonly entries: readonly RatedEntry[];
  /** Naive execution against the others, where both were measured. */
  readonly ratios: readonly ExecutionRatio[];
  /** How the steps of the suite `cost` grow. */
  readonly costs: readonly CostGrowth[];
  readonly failures: readonly BenchFailure[];
  /** Cases that the device can't hold, that have no sizes, or that there was no time for. */
  readonly left_out: readonly BenchFailure[];
  /** Of the suite `model`: counts of both models, and losses of trained ones. */
  readonly comparison?: ModelComparison;
}

/** Measures the chosen cases one after the other. One that fails is noted, and the others go on as long as the device does. */
export async function bench(options: BenchOptions): Promise<BenchResult> {
  const { gpu, model, root, rounds = 1, seconds = Infinity, signal } = options;
  const start = performance.now();
  const cases = chooseCases(options);
  const measured_on = await measuredOn(gpu, root);
  const measured = new Map<string, BenchEntry[]>();
  const failures: BenchFailure[] = [];
  const leftOut: BenchFailure[] = [];
  const compared = options.suites.includes("model") ? denseBeside(model) : undefined;
  const counts = options.suites.includes("model")
    ? {
      base: modelCounts(model.architecture),
      ...compared && { dense: modelCounts(compared) },
    }
    : undefined;
  let losses: readonly ModelLoss[] = [];
  const result = (): BenchResult => {
    const entries = [...measured.values()].map(overRounds);
    return {
      format: "ethos-bench",
      version: 1,
      measured_on,
      config: model.path,
      model: model.config,
      train: model.train,
      entries: rateEntries(entries),
      ratios: executionRatios(entries),
      costs: costGrowths(entries),
      failures: [...failures],
      left_out: [...leftOut],
      ...counts && { comparison: { counts, losses } },
    };
  };
  // Cases of one round may share a measurement, so each round has cases of its own.
  const all = Array.from({ length: rounds }, (_, i) => i === 0 ? cases : chooseCases(options))
    .flat();
  for (const [i, benchCase] of all.entries()) {
    signal?.throwIfAborted();
    const place = `[${i + 1}/${all.length}] ${benchCase.id}`;
    const before = measured.get(benchCase.id);
    if (before === undefined && i >= cases.length) continue;
    try {
      if (performance.now() - start > 1000 * seconds) {
        if (before) continue;
        throw new LeftOut(`${seconds} s had passed before it`);
      }
      const entry = await measureCase(benchCase);
      measured.set(benchCase.id, [...before ?? [], entry]);
      await options.progress(`${place}: ${showEntry(entry)}`, result());
    } catch (error) {
      if (signal?.aborted) throw error;
      const message = error instanceof Error ? error.message : String(error);
      const list = error instanceof LeftOut ? leftOut : failures;
      list.push({ id: benchCase.id, error: message });
      await options.progress(`${place}: ${message.split("\n")[0]}`, result());
      if (!usable(gpu)) {
        const left = all.slice(i + 1, cases.length);
        failures.push(...left.map(({ id }) => ({ id, error: "the device is gone" })));
        return result();
      }
    }
  }
  losses = await options.losses?.() ?? [];
  return result();
}

/** The dense model that the suite `model` measures beside a model: none beside a dense one, or where no width matches. */
export function denseBeside({ config }: Pick<BaseModel, "config">): Architecture | undefined {
  if (config.ffn.kind === "dense") return undefined;
  try {
    return architectureOf(joinedExperts(config) ?? denseEquivalent(config));
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** The cases that `--suite` and `--only` ask for. @throws {UserError} If there are none. */
export function chooseCases(
  options: Omit<BenchOptions, "progress" | "root" | "signal">,
): BenchCase[] {
  const { gpu, model, suites, only, warmup, repeats, steps, seed } = options;
  const context: SuiteContext = {
    gpu,
    architecture: model.architecture,
    dense: suites.includes("model") ? denseBeside(model) : undefined,
    train: model.train,
    memory: options.memory,
    timing: { warmup, repeats, minimum: gpu.capabilities.software ? 0.005 : 0.1 },
    steps,
    seed,
  };
  const cases = casesOf(suites, context);
  const chosen = only.length === 0
    ? cases
    : cases.filter(({ id }) => only.some((text) => id.includes(text)));
  if (chosen.length > 0) return chosen;
  throw new UserError(
    only.length === 0
      ? `${
        suites.join(" and ")
      } have nothing to measure in ${model.path}, whose feed-forwards are ${model.config.ffn.kind}.`
      : `--only ${only.join(" --only ")} matches none of ${cases.length} cases; --list shows them.`,
  );
}

/** The suites that `--suite copy,gemm` names, in their order. @throws {UserError} If one has no such name. */
export function parseSuites(text: string): SuiteName[] {
  const names = text.split(",").map((name) => name.trim()).filter((name) => name !== "");
  if (names.includes("all")) return [...SUITES];
  const unknown = names.find((name) => !(SUITES as readonly string[]).includes(name));
  if (unknown !== undefined || names.length === 0) {
    throw new UserError(
      `--suite is ${JSON.stringify(text)}, and ${
        unknown === undefined ? "names no suite" : `${unknown} is no suite`
      }; expected ${SUITES.join(", ")}, or all.${
        unknown === undefined ? "" : suggestion(unknown, SUITES)
      }`,
    );
  }
  return SUITES.filter((name) => names.includes(name));
}

/** How much faster and smaller each execution is than the naive one, of the layer and of the experts alone. */
function executionRatios(entries: readonly BenchEntry[]): ExecutionRatio[] {
  const by = new Map(entries.map((entry) => [entry.id, entry]));
  return entries.flatMap((entry) => {
    const { execution, part, tokens, precision, pass } = entry.params;
    if (execution === undefined || execution === "naive" || part === undefined) return [];
    const naive = by.get(entry.id.replace(`.${execution}.`, ".naive."));
    if (!naive?.peak_bytes || !entry.peak_bytes) return [];
    return [{
      id: `${part}.${tokens}.${precision}.${pass}`,
      execution: String(execution),
      speed_up: naive.median / entry.median,
      memory: naive.peak_bytes / entry.peak_bytes,
    }];
  });
}

/** Holds entries against the fastest copy and the fastest square products among them. */
export function rateEntries(entries: readonly BenchEntry[]): RatedEntry[] {
  const best = (of: readonly BenchEntry[], rate: "gb_per_second" | "tflop_per_second") =>
    of.reduce((most, entry) => Math.max(most, entry[rate] ?? 0), 0);
  const copied = best(entries.filter(({ id }) => /^copy\.\d+MiB\.\d/.test(id)), "gb_per_second");
  const squares = entries.filter(({ params }) => params["name"] === "square");
  return entries.map((entry) => {
    const { tflop_per_second = 0, gb_per_second = 0, params } = entry;
    const peak = best(
      squares.filter((square) => square.params["dtype"] === params["dtype"]),
      "tflop_per_second",
    );
    const share = Math.max(
      peak > 0 ? tflop_per_second / peak : 0,
      copied > 0 ? gb_per_second / copied : 0,
    );
    return share > 0 ? { ...entry, of_ceiling: share } : entry;
  });
}

/** Whether the device still answers: after a loss or running out of memory, nothing more can be measured on it. */
function usable(gpu: Gpu): boolean {
  try {
    gpu.check();
    return true;
  } catch {
    return false;
  }
}

/** An entry's rate in the unit that says most. */
function showRate(entry: BenchEntry): string {
  const { tflop_per_second, gb_per_second, tokens_per_second } = entry;
  if (tflop_per_second !== undefined) return `${threeDigits(tflop_per_second)} TFLOP/s`;
  if (tokens_per_second !== undefined) return `${showCount(tokens_per_second)} tokens/s`;
  return gb_per_second === undefined ? "–" : `${threeDigits(gb_per_second)} GB/s`;
}

function showEntry(entry: BenchEntry): string {
  const memory = entry.peak_bytes === undefined ? "" : `, ${showBytes(entry.peak_bytes)}`;
  return `${showSeconds(entry.median)}, ${showRate(entry)}${memory}`;
}

/** Everything that was measured as text, and the ratios to an earlier measurement. */
export function renderBench(result: BenchResult, against?: Comparison): string {
  const { measured_on, entries, ratios } = result;
  const commit = measured_on.commit === undefined
    ? ""
    : `, commit ${measured_on.commit.slice(0, 10)}${measured_on.modified ? " and changes" : ""}`;
  const parts = [
    `${measured_on.adapter} (${measured_on.runtime}${
      measured_on.driver === undefined ? "" : `, ${measured_on.driver}`
    }), ${measured_on.date}${commit}, ${result.config}`,
  ];
  for (const suite of SUITES) {
    const rows = entries.filter((entry) => entry.suite === suite);
    // The axes have tables of their own.
    if (rows.length === 0 || suite === "cost") continue;
    parts.push(formatTable(
      [suite, "median", "min", "max", "rate", "of ceiling", "memory"],
      rows.map((entry) => [
        entry.id,
        showSeconds(entry.median),
        showSeconds(entry.min),
        showSeconds(entry.max),
        showRate(entry),
        entry.of_ceiling === undefined ? "–" : showShare(entry.of_ceiling),
        entry.peak_bytes === undefined ? "–" : showBytes(entry.peak_bytes),
      ]),
    ));
  }
  if (ratios.length > 0) {
    parts.push(formatTable(
      ["against naive execution", "execution", "times faster", "times less memory"],
      ratios.map(({ id, execution, speed_up, memory }) => [
        id,
        execution,
        threeDigits(speed_up),
        threeDigits(memory),
      ]),
    ));
  }
  parts.push(...renderCosts(result.costs, entries));
  if (result.comparison) parts.push(renderComparison(result.comparison, entries));
  if (against) parts.push(renderDifferences(against));
  const lists = { "Not measured:": result.failures, "Left out:": result.left_out };
  for (const [title, list] of Object.entries(lists)) {
    if (list.length === 0) continue;
    const lines = list.map(({ id, error }) => `  ${id}: ${error.split("\n")[0]}`);
    parts.push([title, ...lines].join("\n"));
  }
  return parts.join("\n\n");
}

const savedSchema = z.object({
  format: z.literal("ethos-bench"),
  version: z.literal(1),
  measured_on: z.object({ adapter: z.string(), runtime: z.string(), date: z.string() }),
  model: z.record(z.string(), z.unknown()),
  train: z.record(z.string(), z.unknown()),
  entries: z.array(z.object({
    id: z.string(),
    median: z.number().positive(),
    peak_bytes: z.number().optional(),
  })),
});

/** The part of an earlier run's file that is compared. */
export type SavedBench = z.infer<typeof savedSchema>;

/** Reads an earlier run's file. @throws {UserError} If the file is not there or holds something else. */
export async function readSavedBench(path: string): Promise<SavedBench> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    throw new UserError(`--against is ${path}, which cannot be read: ${messageOf(cause)}.`, {
      cause,
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new UserError(`--against is ${path}, which is no JSON: ${messageOf(cause)}.`, { cause });
  }
  const parsed = savedSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new UserError(
    `--against is ${path}, which is not what bench --save writes: ${
      issue!.path.join(".") || "the file"
    }: ${issue!.message}.`,
  );
}

/** Two runs side by side. */
export interface Comparison {
  /** Where the earlier run was made. */
  readonly then: SavedBench["measured_on"];
  /** Whether both measured the same sizes of model and training. */
  readonly same_configuration: boolean;
  readonly rows: readonly {
    readonly id: string;
    /** Seconds of the earlier run. */
    readonly then: number;
    /** Seconds of this one. */
    readonly now: number;
    /** Times faster than then. */
    readonly speed_up: number;
    /** Times the memory of then, where both have one. */
    readonly memory?: number;
  }[];
  /** Ids that only one of the runs has. */
  readonly only_then: readonly string[];
  readonly only_now: readonly string[];
}

/** Compares the entries of two runs by id. */
export function compareBench(
  now: Pick<BenchResult, "entries" | "model" | "train">,
  then: SavedBench,
): Comparison {
  const before = new Map(then.entries.map((entry) => [entry.id, entry]));
  const after = new Set(now.entries.map(({ id }) => id));
  return {
    then: then.measured_on,
    same_configuration: canonicalize([now.model, now.train]) ===
      canonicalize([then.model, then.train]),
    rows: now.entries.flatMap(({ id, median, peak_bytes }) => {
      const old = before.get(id);
      if (!old) return [];
      return [{
        id,
        then: old.median,
        now: median,
        speed_up: old.median / median,
        ...old.peak_bytes && peak_bytes !== undefined && { memory: peak_bytes / old.peak_bytes },
      }];
    }),
    only_then: [...before.keys()].filter((id) => !after.has(id)),
    only_now: [...after].filter((id) => !before.has(id)),
  };
}

function renderDifferences(comparison: Comparison): string {
  const { then, same_configuration, rows, only_then, only_now } = comparison;
  const lines = [
    formatTable(
      [
        `against ${then.adapter} (${then.runtime}), ${then.date}`,
        "then",
        "now",
        "faster",
        "memory",
      ],
      rows.map((row) => [
        row.id,
        showSeconds(row.then),
        showSeconds(row.now),
        `× ${row.speed_up.toFixed(2)}`,
        row.memory === undefined ? "–" : `× ${row.memory.toFixed(2)}`,
      ]),
    ),
  ];
  const one = (count: number, where: string) =>
    count === 0 ? [] : [`${count} ${count === 1 ? "entry is" : "entries are"} only ${where}.`];
  if (!same_configuration) {
    lines.push("Model or training differ from then: entries of one name may be of other sizes.");
  }
  return [...lines, ...one(only_then.length, "there"), ...one(only_now.length, "here")].join("\n");
}
