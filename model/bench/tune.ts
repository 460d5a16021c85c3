/**
 * Tuning: measures every way in which a device can compute what a training asks about.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { buildPlans, type BuiltPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { type AskedQuestion, Plan, type Step } from "../gpu/plan.ts";
import type { MakeTensor, Question } from "../gpu/question.ts";
import { type DType, Tensor } from "../gpu/tensor.ts";
import { download } from "../gpu/transfer.ts";
import { Trainer, type TrainerOptions } from "../training/trainer.ts";
import { Operands } from "./ceilings.ts";
import { timeInTurns, type TimingOptions } from "./timing.ts";

/** How much faster than the rule's way another has to be to take its place: less than that is noise. */
export const WORTH = 1.02;

/** Questions of one update of a training that have more than one answer, and how often each is asked in it. */
export function trainingQuestions(
  gpu: Gpu,
  { config, train }: Pick<TrainerOptions, "config" | "train">,
): AskedQuestion[] {
  // What is pinned so far is no answer: every way is measured.
  const { tuning: _, ...free } = train;
  const asked = new Map<string, AskedQuestion>();
  for (const plan of Trainer.record(gpu, { config, train: free })) {
    // An evaluation's products are those of a forward pass, and not what the time goes into.
    if (plan.label === "evaluate") continue;
    const runs = plan.label === "next" ? train.gradient_accumulation - 1 : 1;
    for (const { question, times } of plan.questions) {
      if (question.candidates.length < 2) continue;
      const before = asked.get(question.id)?.times ?? 0;
      asked.set(question.id, { question, times: before + runs * times });
    }
  }
  return [...asked.values()];
}

/** Records one way of computing what a question is about. */
function recordCandidate(
  gpu: Gpu,
  question: Question,
  options: { candidate: string; tensor: MakeTensor },
): Plan {
  const { candidate, tensor } = options;
  const plan = new Plan(gpu, candidate, { tuning: { [question.id]: candidate } });
  question.record(plan, tensor);
  return plan;
}

/** SHA-256 over what a candidate dispatches: kernels' texts, variants and sizes. As long as it is the same, so is what was measured. */
export function candidateCode(gpu: Gpu, question: Question, candidate: string): string {
  const tensors = new Map<string, Tensor>();
  const tensor = remember(tensors, (name, shape, dtype) => new Tensor(name, shape, { dtype }));
  const hash = createHash("sha256");
  for (const step of recordCandidate(gpu, question, { candidate, tensor }).steps) {
    if (step.kind !== "dispatch") {
      hash.update(step.kind);
      continue;
    }
    const { name, source, constants, params, workgroups } = step.call;
    hash.update(JSON.stringify([name, source, constants, params, workgroups]));
  }
  return hash.digest("hex");
}

/** What measuring a question gave. */
export interface CandidateTimes {
  /** Seconds that each candidate takes, by its name: of all whose results are the rule's. */
  readonly seconds: ReadonlyMap<string, number>;
  /** How far the results of the others are from the rule's, relative to the largest: a compiler or a driver gets them wrong. */
  readonly wrong: ReadonlyMap<string, number>;
}

/** Runs every candidate of a question once, holds its results against the rule's, and times those that agree. What it allocates is freed. */
export async function measureCandidates(
  gpu: Gpu,
  question: Question,
  options: TimingOptions & { readonly settle: number },
): Promise<CandidateTimes> {
  using operands = new Operands(gpu);
  const tensors = new Map<string, Tensor>();
  const tensor = remember(
    tensors,
    (name, shape, dtype) => operands.tensor(name, shape, dtype),
  );
  const plans = question.candidates.map((candidate) =>
    recordCandidate(gpu, question, { candidate, tensor })
  );
  await operands.fill(...tensors.values());
  const results = [...tensors.values()].filter((tensor) => plans[0]!.steps.some(writes(tensor)));
  const built = await buildPlans(gpu, plans);
  try {
    const right: BuiltPlan[] = [];
    const wrong = new Map<string, number>();
    let expected: Float32Array[] | undefined;
    for (const plan of built.plans) {
      // Some are added to what is there.
      await operands.fill(...results);
      plan.run();
      const actual = await Promise.all(results.map((tensor) => glance(gpu, tensor)));
      expected ??= actual;
      const error = Math.max(...actual.map((values, i) => relativeError(values, expected![i]!)));
      if (error <= TOLERANCE) right.push(plan);
      else wrong.set(plan.plan.label, error);
    }
    const timings = await timeInTurns(gpu, right, options);
    return {
      seconds: new Map(right.map(({ plan }, i) => [plan.label, timings[i]!.median])),
      wrong,
    };
  } finally {
    built.destroy();
  }
}

/** How far results of two ways may be apart, relative to the largest: halves and sums in another order are closer, what is wrong is not. */
const TOLERANCE = 0.01;
/** Elements of a result that are looked at, at its start, in its middle and at its end. */
const GLANCE = 1 << 16;

/** Whether a step writes a tensor. */
function writes(tensor: Tensor): (step: Step) => boolean {
  return (step) =>
    step.kind === "dispatch" &&
    Object.values(step.call.bindings).some((b) => b.tensor.base === tensor && b.access !== "read");
}

/** Parts of a result: those at the edges of a matrix, and of its tiles, are among them. */
async function glance(gpu: Gpu, tensor: Tensor): Promise<Float32Array> {
  const count = Math.min(tensor.size, GLANCE);
  // Where a view may start.
  const aligned = (element: number) => Math.floor(element / 4) * 4;
  const starts = [0, aligned((tensor.size - count) / 2), aligned(tensor.size - count)];
  const parts: number[] = [];
  for (const start of new Set(starts)) {
    const { dtype } = tensor;
    const part = new Tensor("glance", [count], { dtype, base: tensor, start });
    for (const value of await download(gpu, part)) parts.push(value);
  }
  return Float32Array.from(parts);
}

/** Largest difference over the largest magnitude that was expected; infinite where only one is a number. */
function relativeError(actual: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let magnitude = 0;
  for (const [i, value] of expected.entries()) {
    const other = actual[i]!;
    if (Number.isFinite(value) !== Number.isFinite(other)) return Infinity;
    if (!Number.isFinite(value)) continue;
    difference = Math.max(difference, Math.abs(value - other));
    magnitude = Math.max(magnitude, Math.abs(value));
  }
  return difference / (magnitude || 1);
}

/** The candidate to take: the fastest, unless the rule's is nearly as fast. */
export function bestCandidate(question: Question, seconds: ReadonlyMap<string, number>): string {
  const [rule] = question.candidates as [string];
  const of = (name: string) => seconds.get(name) ?? Infinity;
  const fastest = question.candidates.reduce((a, b) => of(b) < of(a) ? b : a);
  return of(rule) >= WORTH * of(fastest) ? fastest : rule;
}

/** Candidates read and write the same tensors. */
function remember(
  tensors: Map<string, Tensor>,
  make: (name: string, shape: readonly number[], dtype: DType) => Tensor,
): MakeTensor {
  return (name, shape, dtype) => {
    let tensor = tensors.get(name);
    if (!tensor) tensors.set(name, tensor = make(name, shape, dtype));
    return tensor;
  };
}
