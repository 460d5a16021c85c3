/**
 * Tuning: measures every way in which a device can compute what a training asks about.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { buildPlans } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { type AskedQuestion, Plan } from "../gpu/plan.ts";
import type { MakeTensor, Question } from "../gpu/question.ts";
import { type DType, Tensor } from "../gpu/tensor.ts";
import { Trainer, type TrainerOptions } from "../trainer.ts";
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

/** Seconds that each candidate of a question takes, by its name. What it allocates is freed. */
export async function measureCandidates(
  gpu: Gpu,
  question: Question,
  options: TimingOptions & { readonly settle: number },
): Promise<Map<string, number>> {
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
  const built = await buildPlans(gpu, plans);
  try {
    const timings = await timeInTurns(gpu, built.plans, options);
    return new Map(question.candidates.map((name, i) => [name, timings[i]!.median]));
  } finally {
    built.destroy();
  }
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
