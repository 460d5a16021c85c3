/**
 * `tune`: measures every way of computing what a training asks about, and takes the fastest.
 *
 * @module
 */

import {
  bestCandidate,
  candidateCode,
  measureCandidates,
  trainingQuestions,
} from "../../../model/bench/tune.ts";
import type { TimingOptions } from "../../../model/bench/timing.ts";
import type { Gpu } from "../../../model/gpu/device.ts";
import type { AskedQuestion } from "../../../model/gpu/plan.ts";
import type { Question } from "../../../model/gpu/question.ts";
import type { Tuning } from "../../../model/training/tuning.ts";
import { UserError } from "../../../pipeline/errors.ts";
import type { Store } from "../../../pipeline/store/store.ts";
import { formatTable } from "../../../pipeline/terminal/table.ts";
import { readTunings, type TunedDevice, writeTunings } from "../../../pipeline/store/tunings.ts";
import type { BaseModel } from "./base_model.ts";
import { type MeasuredOn, measuredOn } from "./measured_on.ts";
import { showSeconds, showShare, threeDigits } from "./quantities.ts";

/** What a tuning is about. */
export interface TuneSubject {
  readonly gpu: Gpu;
  readonly model: BaseModel;
  /** Takes the questions whose ids hold one of these texts; all without any. */
  readonly only: readonly string[];
}

/** Options of {@linkcode tune}. */
export interface TuneOptions extends TuneSubject {
  /** Folder of the project. */
  readonly root: string;
  /** Where measurements are kept. */
  readonly store: Store;
  /** Measures again what was measured before. */
  readonly force: boolean;
  readonly timing: TimingOptions & { readonly settle: number };
  /** Is told of each question as it is answered. */
  progress(line: string): void;
}

/** A way and its time. */
export interface TimedWay {
  readonly name: string;
  /** Seconds of one run: a median. */
  readonly seconds: number;
}

/** A question that was answered. */
export interface TunedQuestion {
  readonly id: string;
  /** How often an update asks it. */
  readonly times: number;
  /** Whether it had been measured before. */
  readonly cached: boolean;
  /** What the rule takes. */
  readonly rule: TimedWay;
  /** What is taken: the fastest, or the rule's where that is as fast to within 2 %. */
  readonly best: TimedWay;
  /** All ways that give what the rule's gives. */
  readonly ways: readonly TimedWay[];
}

/** What was measured, as JSON. */
export interface TuneResult {
  readonly measured_on: MeasuredOn;
  readonly config: string;
  readonly questions: readonly TunedQuestion[];
  /** Seconds of an update that what was asked about takes: by the rules, and by the best ways. */
  readonly seconds: { readonly rules: number; readonly best: number };
  readonly failures: readonly { readonly id: string; readonly error: string }[];
}

/** The questions that `--only` asks for. @throws {UserError} If there are none. */
export function chooseQuestions({ gpu, model, only }: TuneSubject): AskedQuestion[] {
  if (gpu.capabilities.software) {
    throw new UserError(
      `There is nothing to tune on ${gpu.adapter.description}: a software device computes each product in one way.`,
      { exitCode: 1 },
    );
  }
  const questions = trainingQuestions(gpu, model);
  const chosen = only.length === 0
    ? questions
    : questions.filter(({ question }) => only.some((text) => question.id.includes(text)));
  if (chosen.length > 0) return chosen;
  throw new UserError(
    only.length === 0
      ? `A training of ${model.path} asks nothing that ${gpu.adapter.description} has several answers to.`
      : `--only ${
        only.join(" --only ")
      } matches none of ${questions.length} questions; --list shows them.`,
  );
}

/** Answers each question by measurement, unless it was measured before. One that fails is noted, and the others go on as long as the device does. */
export async function tune(options: TuneOptions): Promise<TuneResult> {
  const { gpu, model, root, store, force, timing } = options;
  const questions = chooseQuestions(options);
  const measured_on = await measuredOn(gpu, root);
  const device = tunedDevice(measured_on);
  const known = force ? new Map<string, number>() : await knownSeconds(store, device);
  const answered: TunedQuestion[] = [];
  const failures: { id: string; error: string }[] = [];
  for (const [i, { question, times }] of questions.entries()) {
    timing.signal?.throwIfAborted();
    const { id, candidates } = question;
    const place = `[${i + 1}/${questions.length}] ${id}`;
    try {
      const codes = candidates.map((name) => candidateCode(gpu, question, name));
      const found = candidates.map((name, j) => known.get(keyOf(id, name, codes[j]!)));
      const cached = found.every((seconds) => seconds !== undefined);
      const { seconds, wrong } = cached
        ? { seconds: new Map(candidates.map((name, j) => [name, found[j]!])), wrong: new Map() }
        : await measureCandidates(gpu, question, timing);
      for (const [name, error] of wrong) {
        const message = `${name} gives other results than the rule's way, ${
          threeDigits(error)
        } of the largest apart; it is left out`;
        failures.push({ id, error: message });
        options.progress(`${place}: ${message}`);
      }
      if (!cached) {
        // What was measured stays, should the rest be cut short.
        await writeTunings(
          store.catalogue,
          device,
          candidates.flatMap((candidate, j) => {
            const time = seconds.get(candidate);
            if (time === undefined) return [];
            return [{ code: codes[j]!, question: id, candidate, seconds: time }];
          }),
        );
      }
      const entry = tuned(question, { times, cached, seconds });
      answered.push(entry);
      options.progress(`${place}: ${showAnswer(entry)}${cached ? ", measured before" : ""}`);
    } catch (error) {
      if (timing.signal?.aborted) throw error;
      const message = error instanceof Error ? error.message : String(error);
      failures.push({ id, error: message });
      options.progress(`${place}: ${message.split("\n")[0]}`);
      gpu.check();
    }
  }
  const total = (way: "rule" | "best") =>
    answered.reduce((sum, entry) => sum + entry.times * entry[way].seconds, 0);
  return {
    measured_on,
    config: model.path,
    questions: answered,
    seconds: { rules: total("rule"), best: total("best") },
    failures,
  };
}

/** What measurements are kept by: another compiler of shaders makes them another device's. */
export function tunedDevice({ adapter, runtime, driver = "", deno }: MeasuredOn): TunedDevice {
  const version = runtime === "dawn"
    ? /\bwebgpu@([^/]+)/.exec(import.meta.resolve("webgpu"))?.[1] ?? ""
    : deno;
  return { adapter, runtime: `${runtime} ${version}`.trim(), driver };
}

const keyOf = (question: string, candidate: string, code: string) =>
  [question, candidate, code].join(" ");

async function knownSeconds(store: Store, device: TunedDevice): Promise<Map<string, number>> {
  const rows = await readTunings(store.catalogue, device);
  return new Map(
    rows.map(({ question, candidate, code, seconds }) => [
      keyOf(question, candidate, code),
      seconds,
    ]),
  );
}

function tuned(
  question: Question,
  { times, cached, seconds }: {
    times: number;
    cached: boolean;
    seconds: ReadonlyMap<string, number>;
  },
): TunedQuestion {
  const timed = (name: string): TimedWay => ({ name, seconds: seconds.get(name)! });
  const ways = question.candidates.filter((name) => seconds.has(name)).map(timed);
  return {
    id: question.id,
    times,
    cached,
    rule: ways[0]!,
    best: timed(bestCandidate(question, seconds)),
    ways,
  };
}

/** The file that `train.tuning` takes: an answer to each question, the rule's ones too, so that a later rule changes nothing. */
export function tuningOf({ measured_on, config, questions }: TuneResult): Tuning {
  const choices = questions.map(({ id, best }) => [id, best.name] as const)
    .sort(([a], [b]) => a < b ? -1 : 1);
  return {
    format: "ethos-tuning",
    version: 1,
    measured_on: { ...measured_on },
    config,
    choices: Object.fromEntries(choices),
  };
}

function showAnswer({ rule, best }: TunedQuestion): string {
  const time = `${rule.name} ${showSeconds(rule.seconds)}`;
  return rule.name === best.name
    ? `${time} stays`
    : `${best.name} ${showSeconds(best.seconds)} instead of ${time}`;
}

/** Everything that was measured as text: what saves most comes first. */
export function renderTune(result: TuneResult): string {
  const { measured_on, questions, seconds, failures } = result;
  const saved = ({ times, rule, best }: TunedQuestion) => times * (rule.seconds - best.seconds);
  const parts = [
    `${measured_on.adapter} (${measured_on.runtime}${
      measured_on.driver === undefined ? "" : `, ${measured_on.driver}`
    }), ${measured_on.date}, ${result.config}`,
    formatTable(
      ["question", "times", "rule", "takes", "best", "takes", "ratio", "saved an update"],
      questions.toSorted((a, b) => saved(b) - saved(a)).map((entry) => [
        entry.id,
        String(entry.times),
        entry.rule.name,
        showSeconds(entry.rule.seconds),
        entry.rule.name === entry.best.name ? "the rule's" : entry.best.name,
        showSeconds(entry.best.seconds),
        `× ${(entry.rule.seconds / entry.best.seconds).toFixed(2)}`,
        saved(entry) > 0 ? showSeconds(saved(entry)) : "–",
      ]),
    ),
    `An update's products and attention by blocks: ${showSeconds(seconds.rules)} by the rules, ${
      showSeconds(seconds.best)
    } by the best ways, ${showShare(1 - seconds.best / seconds.rules)} less.`,
  ];
  if (failures.length > 0) {
    parts.push(
      ["Not measured:", ...failures.map(({ id, error }) => `  ${id}: ${error.split("\n")[0]}`)]
        .join("\n"),
    );
  }
  return parts.join("\n\n");
}
