/**
 * The figures that a report has of its own run, for the claims that they decide.
 *
 * @module
 */

import { median } from "../../ablate/statistics.ts";
import { executionTimings } from "../../benchmark/result.ts";
import { latentPoints } from "../ablation.ts";
import { comparedFactors } from "../architectures.ts";
import { baseEvaluations, baseModels, curve } from "../data.ts";
import type { SectionContext } from "../sections/context.ts";
import { compact } from "../figures/series.ts";
import { fitLog } from "../theory/fit.ts";
import { latentLaw, widthsAbove } from "../theory/latent_law.ts";
import { PAPER } from "../theory/paper.ts";
import type { Claim, Estimate, Open, RunQuantity } from "./claim.ts";

/** A figure of the run, or why it has none that decides the claim. */
export type RunFigure = (Estimate & { readonly label: string }) | Open;

/** Vocabulary and parameters of the published sparse mixture. */
const MOE_PUBLISHED = { vocabulary: "gpt2", stored: 158_623_744 } as const;

/** Tokens below which a loss is not the one that a source claims, of those that the source trained on. */
const ENOUGH = 0.9;

/** The run's figure for a claim; nothing when the claim is about no quantity of a run. */
export function runFigure(
  { run, source }: Pick<Claim, "run" | "source">,
  context: SectionContext,
): RunFigure | undefined {
  return run && QUANTITIES[run](context, source);
}

type Quantity = (context: SectionContext, source: Claim["source"]) => RunFigure;

const QUANTITIES: Readonly<Record<RunQuantity, Quantity>> = {
  stored: (context, source) => sized(context, source, ({ stored }) => stored),
  active: (context, source) => sized(context, source, ({ active }) => active),
  theoretical: (context, source) => sized(context, source, ({ theoretical }) => theoretical),
  tokens_per_second: (context, source) => {
    const rates = baseModels(context.data).flatMap((model) =>
      curve(model, "tokens_per_second").map(({ value }) => value)
    );
    if (rates.length === 0) return unmeasured("the speed of training");
    return otherSize(context, source) ?? { value: median(rates), label: "median of the base" };
  },
  fit_r2: (context) => fitted(context, (fit) => ({ value: fit.r2, label: steps(fit) })),
  fit_b: (context, source) =>
    otherText(context, source) ??
      fitted(context, (fit) => ({ value: fit.b, label: steps(fit) })),
  perplexity: (context, source) => {
    const text = otherText(context, source) ?? otherSize(context, source);
    if (text !== undefined) return text;
    const seen = tokensSeen(context);
    if (seen < ENOUGH * PAPER.tokens) {
      return {
        verdict: "not testable here",
        reason: `${
          (100 * seen / PAPER.tokens).toPrecision(2)
        } % of the tokens that it is claimed for`,
      };
    }
    return meanOf(
      baseEvaluations(context.data).flatMap(({ result }) => result.perplexity ?? []),
      "mean over seeds",
    );
  },
  nats: (context, source) =>
    otherText(context, source) ?? otherSize(context, source) ??
      meanOf(baseEvaluations(context.data).map(({ result }) => result.nats), "mean over seeds"),
  expert_usage: (context) =>
    meanOf(
      layers(context).map(({ expert_usage }) => expert_usage),
      "held-out text, mean over layers and seeds",
    ),
  expert_variation: (context) =>
    meanOf(
      layers(context).map(({ routing_histogram }) => variation(routing_histogram)),
      "held-out text, mean over layers and seeds",
    ),
  execution_speed: (context, source) =>
    execution(context, source, (timing) => timing.forward_backward_seconds),
  execution_memory: (context, source) => execution(context, source, (timing) => timing.peak_bytes),
  batch_norm: (context) =>
    difference(context, { factor: "batch_norm", value: "false", label: "without it − with it" }),
  dense: (context) =>
    againstDense(context) ??
      difference(context, { factor: "architecture", value: "dense", label: "dense − the base" }),
  latent_exponent: ({ data, latentTolerance }) => {
    const found = latentLaw(latentPoints(data), { tolerance: latentTolerance });
    if (found === undefined) return unmeasured("a grid of d_model and d_latent");
    if (found.law === undefined || found.interval === undefined) {
      return {
        verdict: "not measured yet",
        reason: "the grid of d_model and d_latent gives no exponent with an interval",
      };
    }
    const above = widthsAbove(found).map(({ d_model }) => d_model);
    if (above.length > 0) {
      return {
        verdict: "not measured yet",
        reason: `at d_model ${above.join(", ")} the widest code that was trained does not suffice`,
      };
    }
    return { value: found.law.exponent, ...found.interval, label: "exponent of d_model" };
  },
};

function sized(
  context: SectionContext,
  source: Claim["source"],
  take: (arithmetic: NonNullable<SectionContext["facts"]>["arithmetic"]) => number,
): RunFigure {
  return otherSize(context, source) ??
    { value: take(context.facts!.arithmetic), label: "counted of the base" };
}

/** Why a claim about a model's size does not apply; nothing when the run has that size. */
function otherSize({ facts, paper }: SectionContext, source: Claim["source"]): Open | undefined {
  if (facts === undefined) return unmeasured("a model");
  const wanted = source === "sparse_moe" ? MOE_PUBLISHED.stored : paper.arithmetic.stored;
  return Math.abs(facts.arithmetic.stored / wanted - 1) <= 0.01 ? undefined : {
    verdict: "not testable here",
    reason: `the base has ${compact(facts.arithmetic.stored)} parameters, and the claim is about ${
      compact(wanted)
    }`,
  };
}

/** Why a loss does not compare; nothing when the vocabulary is the source's. */
function otherText({ data }: SectionContext, source: Claim["source"]): Open | undefined {
  const wanted = source === "sparse_moe" ? MOE_PUBLISHED.vocabulary : PAPER.vocabulary;
  const own = data.dataset?.result.vocabulary;
  return own === wanted ? undefined : {
    verdict: "not testable here",
    reason: `nats a token compare only with the vocabulary ${wanted}`,
  };
}

function fitted(
  { data }: SectionContext,
  take: (fit: NonNullable<ReturnType<typeof fitLog>>) => RunFigure,
): RunFigure {
  const fit = fitLog(
    baseModels(data).flatMap((model) =>
      curve(model, "loss").filter(({ step, value }) => step >= 1 && Number.isFinite(value))
        .map(({ step, value }) => ({ x: step, y: value }))
    ),
  );
  return fit === undefined ? unmeasured("a curve that is long enough") : take(fit);
}

function steps({ from, to }: { from: number; to: number }): string {
  return `steps ${from} to ${to}`;
}

function execution(
  context: SectionContext,
  source: Claim["source"],
  take: (timing: ReturnType<typeof executionTimings>[number]) => number,
): RunFigure {
  const timings = executionTimings(context.data.benchmark?.timings ?? []);
  const fused = timings.findLast(({ execution }) => execution === "fused");
  const naive = timings.find(({ execution, tokens }) =>
    execution === "naive" && tokens === fused?.tokens
  );
  if (fused === undefined || naive === undefined) return unmeasured("both executions");
  return otherSize(context, source) ?? {
    value: take(naive) / take(fused),
    label: `with backward, ${fused.tokens.toLocaleString("en-US")} tokens`,
  };
}

function difference(
  { data }: SectionContext,
  { factor, value, label }: { factor: string; value: string; label: string },
): RunFigure {
  const found = data.ablation?.result.factors.find(({ name }) => name === factor)?.values
    .find((each) => String(each.value) === value)?.difference?.nats;
  if (found === undefined) return unmeasured(`the ablation ${factor}`);
  const { n, mean, low, high } = found;
  if (low === null || high === null) return unmeasured(`the ablation ${factor} over several seeds`);
  return { value: mean, low, high, label: `${label}, paired over ${n} seeds` };
}

/** Dense − PEER where both were trained, in the comparison in which their operations are closest. */
function againstDense({ data }: SectionContext): RunFigure | undefined {
  const found = comparedFactors(data).comparisons.flatMap(({ title, values }) => {
    const dense = values.find(({ kind }) => kind === "dense");
    const peer = values.find(({ kind }) => kind === "peer");
    const { mean, low, high } = peer?.againstDense ?? {};
    if (mean === undefined || typeof low !== "number" || typeof high !== "number") return [];
    const ratio = (peer?.costs.flops ?? NaN) / (dense?.costs.flops ?? NaN);
    const apart = Number.isFinite(ratio) ? Math.abs(Math.log(ratio)) : Infinity;
    const label = `dense − PEER, paired over ${peer!.againstDense!.n} seeds: ${title}`;
    return [{ apart, figure: { value: -mean, low: -high, high: -low, label } }];
  });
  return found.toSorted((a, b) => a.apart - b.apart)[0]?.figure;
}

function layers({ data }: SectionContext) {
  return baseEvaluations(data).flatMap(({ result }) => result.layers);
}

/** Population deviation over mean. */
function variation(counts: readonly number[]): number {
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  const square = counts.reduce((sum, count) => sum + (count - mean) ** 2, 0) / counts.length;
  return Math.sqrt(square) / mean;
}

function tokensSeen({ data, facts }: SectionContext): number {
  const last = baseModels(data).map((model) => curve(model, "loss").at(-1)?.step ?? 0);
  return Math.max(0, ...last) * (facts?.tokensPerStep ?? 0);
}

function meanOf(values: readonly number[], label: string): RunFigure {
  if (values.length === 0) return unmeasured("it");
  return { value: values.reduce((sum, value) => sum + value, 0) / values.length, label };
}

function unmeasured(what: string): Open {
  return { verdict: "not measured yet", reason: `this run has not measured ${what}` };
}
