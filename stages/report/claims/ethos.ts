/**
 * Claims of the paper and its repository.
 *
 * @module
 */

import { PAPER } from "../theory/paper.ts";
import type { Claim, Evidence } from "./claim.ts";

const H200 = "one H200";

/** Naive over reordered execution in what the benchmark of experts measured. */
function executionRatio(
  runtime: "dawn" | "deno",
  { pass, key, label }: { pass: string; key: "median" | "peak_bytes"; label: string },
): Evidence {
  const entry = (execution: string) => ({
    json: `h200/measured/${runtime}-experts.json`,
    at: ["entries", { id: `experts.${execution}.8192.mixed.${pass}` }, key],
  });
  const name = runtime === "dawn" ? "Dawn" : "Deno";
  return { label: `${label}, 8,192 tokens, ${name}`, ratio: [entry("naive"), entry("fused")] };
}

/** The same at the 32,768 tokens of a step, from the report of the paper's model. */
function reportRatio(quantity: string, label: string): Evidence {
  const of = (execution: string) => ({
    csv: "h200/figures/execution.csv",
    where: { execution, quantity },
    column: "value",
  });
  return {
    label: `${label}, 32,768 tokens, Dawn`,
    ratio: [of("naive (u and v formed)"), of("reordered, fused")],
  };
}

function stepSpeed(runtime: "dawn" | "deno"): Evidence {
  return {
    label: `${runtime === "dawn" ? "Dawn" : "Deno"}, ${H200}`,
    value: {
      json: `h200/measured/${runtime}-step.json`,
      at: ["entries", { id: "step.mixed.none.8x4096" }, "tokens_per_second"],
    },
  };
}

const PAPER_CURVE = { csv: "h200/figures/training_curve.csv", where: { series: "training" } };
const SMALL_CURVE = { csv: "h200-small/figures/training_curve.csv", where: { series: "training" } };
const PAPER_RUN = "the paper's model, steps 1 to 400";
const SMALL_RUN = "8.23 M parameters, steps 1 to 400";

const claim = (more: Omit<Claim, "source">): Claim => ({ source: "ethos", ...more });

/** The claims, in the order of the paper. */
export const ETHOS_CLAIMS: readonly Claim[] = [
  claim({
    place: "Table 1",
    statement: "The model stores 750 M parameters.",
    claimed: { value: PAPER.stored, unit: "parameters" },
    rule: { kind: "near", relative: 0.02 },
    figures: [{ label: "the sizes given", count: "ethos.stored" }],
    run: "stored",
  }),
  claim({
    place: "Table 1",
    statement: "A token uses 258 M of them.",
    claimed: { value: PAPER.active, unit: "parameters" },
    rule: { kind: "near", relative: 0.02 },
    figures: [{ label: "the sizes given", count: "ethos.active" }],
    run: "active",
  }),
  claim({
    place: "Table 1",
    statement: "With every expert stored it would have 8.7 B.",
    claimed: { value: PAPER.theoretical, unit: "parameters" },
    rule: { kind: "near", relative: 0.02 },
    figures: [
      { label: "experts in the 14 sparse layers", count: "ethos.theoretical" },
      { label: "experts in all 16 layers", count: "ethos.theoretical_all" },
    ],
    run: "theoretical",
  }),
  claim({
    place: "not located",
    statement: "A share of 62.5 %.",
    claimed: { value: 0.625, unit: "share" },
    rule: { kind: "near", relative: 0.02 },
    figures: [],
    open: {
      verdict: "not testable here",
      reason: "the quantity that it is a share of is not known here",
      beside: { label: "of the stored parameters are latent codes", count: "ethos.latent_share" },
    },
  }),
  claim({
    place: "README",
    statement: "It takes about 20 times fewer operations than a dense model of 8.7 B.",
    claimed: { value: PAPER.flopsGain, unit: "times" },
    rule: { kind: "near", relative: 0.1 },
    figures: [
      { label: "experts generated for each token", count: "ethos.flops_gain" },
      { label: "every expert generated once a step", count: "ethos.flops_gain_shared" },
    ],
  }),
  claim({
    place: "README",
    statement: "It has the capacity of 8.7 B parameters.",
    claimed: { value: PAPER.theoretical, unit: "parameters" },
    rule: { kind: "at_least" },
    figures: [],
    open: {
      verdict: "not testable here",
      reason:
        "it needs dense models of up to 8.7 B parameters to compare with; the count bounds capacity from above",
    },
  }),
  claim({
    place: "section 5.3",
    statement: "PEER's experts of one layer are 536 M numbers (called MB).",
    claimed: { value: PAPER.peerLayer, unit: "parameters" },
    rule: { kind: "near", relative: 0.02 },
    figures: [{ label: "the sizes given", count: "ethos.peer_layer" }],
  }),
  claim({
    place: "section 5.3",
    statement: "ETHOS's latent codes of one layer are 33 M (called MB).",
    claimed: { value: PAPER.latentLayer, unit: "parameters" },
    rule: { kind: "near", relative: 0.02 },
    figures: [{ label: "the sizes given", count: "ethos.latent_layer" }],
  }),
  claim({
    place: "section 7.1",
    statement: "A layer takes 16 times less memory than PEER's.",
    claimed: { value: PAPER.memoryGain, unit: "times" },
    rule: { kind: "near", relative: 0.02 },
    figures: [
      { label: "experts alone", count: "ethos.latent_ratio" },
      { label: "the whole layer", count: "ethos.layer_ratio" },
    ],
  }),
  claim({
    place: "section 5.4",
    statement: "Attention takes 800 M parameters.",
    claimed: { value: PAPER.attention, unit: "parameters" },
    rule: { kind: "near", relative: 0.02 },
    figures: [{ label: "the sizes given", count: "ethos.attention" }],
  }),
  claim({
    place: "Algorithm 1, README",
    statement: "Reordered execution is 8 times as fast as naive execution.",
    claimed: { value: PAPER.executionGain, unit: "times" },
    rule: { kind: "at_least" },
    figures: [
      ...(["dawn", "deno"] as const).flatMap((runtime) => [
        executionRatio(runtime, { pass: "forward", key: "median", label: "forward" }),
        executionRatio(runtime, {
          pass: "forward_backward",
          key: "median",
          label: "with backward",
        }),
      ]),
      reportRatio("forward_seconds", "forward"),
      reportRatio("forward_backward_seconds", "with backward"),
    ],
    run: "execution_speed",
  }),
  claim({
    place: "Algorithm 1",
    statement: "It takes 4 times less memory.",
    claimed: { value: PAPER.executionMemoryGain, unit: "times" },
    rule: { kind: "at_least" },
    figures: [
      ...(["dawn", "deno"] as const).flatMap((runtime) => [
        executionRatio(runtime, { pass: "forward", key: "peak_bytes", label: "forward" }),
        executionRatio(runtime, {
          pass: "forward_backward",
          key: "peak_bytes",
          label: "with backward",
        }),
      ]),
      reportRatio("peak_bytes", "both passes"),
    ],
    run: "execution_memory",
  }),
  claim({
    place: "training",
    statement: `It trains at 14,308 tokens/s on one ${PAPER.device}.`,
    claimed: { value: PAPER.tokensPerSecond.first, unit: "tokens/s" },
    rule: { kind: "at_least" },
    figures: [stepSpeed("dawn"), stepSpeed("deno")],
    run: "tokens_per_second",
  }),
  claim({
    place: "training, later",
    statement: `It trains at 18,000 tokens/s on one ${PAPER.device}.`,
    claimed: { value: PAPER.tokensPerSecond.later, unit: "tokens/s" },
    rule: { kind: "at_least" },
    figures: [stepSpeed("dawn"), stepSpeed("deno")],
    run: "tokens_per_second",
  }),
  claim({
    place: "figure 4",
    statement: "The loss follows L = a − b ln x with R² 0.9.",
    claimed: { value: PAPER.fit.r2, unit: "number" },
    rule: { kind: "at_least" },
    figures: [
      { label: `R², ${PAPER_RUN}`, fit: { ...PAPER_CURVE, x: "step", y: "nats" }, take: "r2" },
      { label: `R², ${SMALL_RUN}`, fit: { ...SMALL_CURVE, x: "step", y: "nats" }, take: "r2" },
    ],
    run: "fit_r2",
  }),
  claim({
    place: "figure 4",
    statement: "Its slope is b = 0.418 nats an e-fold of steps.",
    claimed: { value: PAPER.fit.b, unit: "nats" },
    rule: { kind: "near", relative: 0.1 },
    figures: [
      { label: `b, ${PAPER_RUN}`, fit: { ...PAPER_CURVE, x: "step", y: "nats" }, take: "b" },
    ],
    open: {
      verdict: "not measured yet",
      reason: "over the paper's 122,070 steps, of which 400 were run",
    },
    run: "fit_b",
  }),
  claim({
    place: "figure 4",
    statement: "At step x the loss is 8.88 − 0.418 ln x: held-out loss over the law's is 1.",
    claimed: { value: 1, unit: "times", ours: true },
    rule: { kind: "near", relative: 0.05 },
    figures: [{
      label: "the paper's model after 400 updates",
      ratio: [
        {
          csv: PAPER_CURVE.csv,
          where: { series: "held-out" },
          column: "nats",
          latest: "step",
        },
        { csv: PAPER_CURVE.csv, where: { series: "paper" }, column: "nats", latest: "step" },
      ],
    }],
  }),
  claim({
    place: "figure 4, README",
    statement: "The law and the perplexity of 34.85 (3.55 nats) after 4 B tokens agree.",
    claimed: { value: Math.log(PAPER.perplexity), unit: "nats" },
    rule: { kind: "near", relative: 0.05 },
    figures: [{ label: "the law at 4 B tokens", count: "ethos.law_at_end" }],
  }),
  claim({
    place: "README",
    statement: "It reaches a perplexity of 34.85 after 4 B tokens of C4.",
    claimed: { value: PAPER.perplexity, unit: "perplexity" },
    rule: { kind: "at_most" },
    figures: [],
    open: {
      verdict: "not measured yet",
      reason: "a training on 4 B tokens; 400 updates were run",
    },
    run: "perplexity",
  }),
  claim({
    place: "section 3",
    statement: "Latent codes are small enough to stay in the cache of 50 MiB.",
    claimed: { value: 1, unit: "share", ours: true },
    rule: { kind: "at_least" },
    figures: [{ label: "of a layer's codes fit", count: "ethos.codes_cached" }],
  }),
  claim({
    place: "section 3",
    statement: "Small experts are read from the cache more often than PEER's.",
    claimed: { value: 1, unit: "times", ours: true },
    rule: { kind: "above" },
    figures: [],
    open: {
      verdict: "not testable here",
      reason: "WebGPU reads no counters of the hardware",
      beside: {
        label: "as often in the report's model, which assumes use by Zipf's law",
        count: "ethos.hit_ratio",
      },
    },
  }),
  claim({
    place: "section 8.5",
    statement: "The latent width that suffices grows with the model's width.",
    claimed: { value: 0, unit: "number", ours: true },
    rule: { kind: "above" },
    figures: [],
    open: {
      verdict: "not measured yet",
      reason:
        "with the model widths 128, 256 and 512 the widest code of 64 numbers does not suffice at 512",
      beside: {
        label: "exponent over 128 and 256 alone, 2 seeds, 1,200 steps",
        value: {
          csv: "h200-latent-law/figures/latent_law.csv",
          where: { panel: "exponent" },
          column: "exponent",
          interval: true,
        },
      },
    },
    run: "latent_exponent",
  }),
];
