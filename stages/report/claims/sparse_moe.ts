/**
 * Claims of the README of the sparse mixture-of-experts transformer (`jamclaug/llm-foundation`, `models/sparse_moe`).
 *
 * @module
 */

import type { Claim, Evidence, FileValue } from "./claim.ts";

const claim = (more: Omit<Claim, "source">): Claim => ({ source: "sparse_moe", ...more });

/** Runtimes whose benchmark of whole models is kept. */
const RUNTIMES = [["dawn", "Dawn"], ["deno", "Deno"]] as const;

/** A number of the benchmark of whole models in f32 on one H200. */
const measured = (
  runtime: "dawn" | "deno",
  id: string,
  take: { readonly of: "median" | "peak_bytes"; readonly scale?: number },
): FileValue => ({
  json: `h200/measured/${runtime}-model-f32.json`,
  at: ["entries", { id: `model.${id}` }, take.of],
  ...take.scale !== undefined && { scale: take.scale },
});

/** The sparse model's latency as a multiple of its dense equivalent's. */
const latencies = (tokens: number): Evidence[] =>
  RUNTIMES.map(([runtime, name]) => ({
    label: `${tokens} tokens, f32, one H200, ${name}`,
    ratio: [
      measured(runtime, `base.forward.${tokens}x1`, { of: "median" }),
      measured(runtime, `dense.forward.${tokens}x1`, { of: "median" }),
    ],
  }));

/** The test of sparse activation on one H200. */
const ACTIVATION = "h200-sparse-moe/activation/sparse_activation.json";

/** A number of a layer, of the untrained or the trained model. */
const activation = (
  model: "untrained" | "trained",
  layer: number,
  key: "most_experts" | "cv",
): Evidence => ({
  label: `layer ${layer}, ${model}`,
  value: { json: ACTIVATION, at: ["models", model, "layers", { layer }, key] },
});

/** The claims, in the order of the README. */
export const SPARSE_MOE_CLAIMS: readonly Claim[] = [
  claim({
    place: "Architecture",
    statement: "Attention is causal.",
    claimed: { value: 1, unit: "number", ours: true },
    rule: { kind: "at_least" },
    figures: [],
    open: {
      verdict: "not testable here",
      reason: "the published code passes no mask, which reading shows and no figure of ours",
    },
  }),
  claim({
    place: "Architecture",
    statement: "12.5 % of the feed-forward parameters are active.",
    claimed: { value: 0.125, unit: "share" },
    rule: { kind: "near", relative: 0.02 },
    figures: [{ label: "the experts", count: "moe.ffn_share" }],
  }),
  claim({
    place: "Architecture",
    statement: "It saves 87.5 % of the computation of its dense equivalent.",
    claimed: { value: 0.875, unit: "share" },
    rule: { kind: "near", relative: 0.02 },
    figures: [
      { label: "against 16 experts at once, experts alone", count: "moe.saving_ffn" },
      { label: "against 16 experts at once, whole model", count: "moe.saving_model" },
      { label: "against the dense layer that it draws", count: "moe.saving_dense" },
    ],
  }),
  claim({
    place: "Performance",
    statement: "It has 158.62 M parameters.",
    claimed: { value: 158.62e6, unit: "parameters" },
    rule: { kind: "near", relative: 0.001 },
    figures: [{ label: "the sizes given", count: "moe.stored" }],
    run: "stored",
  }),
  claim({
    place: "Performance",
    statement: "About 20 M of them are active a token.",
    claimed: { value: 20e6, unit: "parameters" },
    rule: { kind: "near", relative: 0.1 },
    figures: [
      { label: "layers alone", count: "moe.active_layers" },
      { label: "with the head that every token is multiplied by", count: "moe.active_head" },
    ],
  }),
  claim({
    place: "Performance",
    statement: "A forward pass of 128 tokens takes 8.05 GFLOP.",
    claimed: { value: 8.05e9, unit: "FLOP" },
    rule: { kind: "near", relative: 0.05 },
    figures: [
      { label: "products of the model, causal", count: "moe.flops" },
      { label: "the published formula", count: "moe.flops_formula" },
    ],
  }),
  claim({
    place: "Performance",
    statement: "That is 6 times less than a dense model of 158 M.",
    claimed: { value: 6, unit: "times" },
    rule: { kind: "near", relative: 0.1 },
    figures: [
      { label: "with all 16 experts, counted", count: "moe.gain_counted" },
      { label: "with all 16 experts, the published formula", count: "moe.gain_formula" },
      { label: "two operations a parameter", count: "moe.gain_parameters" },
    ],
  }),
  claim({
    place: "Performance",
    statement: "The validation loss is 2.2 nats a token on TinyStories.",
    claimed: { value: 2.2, unit: "nats" },
    rule: { kind: "at_most" },
    figures: [],
    open: {
      verdict: "not testable here",
      reason:
        "the published model sees its targets, so its loss is no language model's; the causal one was trained on other text",
    },
    run: "nats",
  }),
  claim({
    place: "Performance",
    statement: "A forward pass takes 37.42 ms on a Quadro T1000.",
    claimed: { value: 37.42, unit: "milliseconds" },
    rule: { kind: "at_most" },
    figures: [],
    open: {
      verdict: "not testable here",
      reason: "no Quadro T1000 is at hand",
      beside: {
        label: "4 tokens, f32, one H200, Dawn",
        value: measured("dawn", "base.forward.4x1", { of: "median", scale: 1000 }),
      },
    },
  }),
  claim({
    place: "Performance",
    statement: "The throughput is 26.7 samples a second.",
    claimed: { value: 26.7, unit: "number" },
    rule: { kind: "near", relative: 0.01 },
    figures: [{
      label: "the reciprocal of the latency, a sample being 4 tokens",
      count: "moe.samples",
    }],
  }),
  claim({
    place: "Performance",
    statement: "It takes 706.1 MB of memory.",
    claimed: { value: 706.1e6, unit: "bytes" },
    rule: { kind: "near", relative: 0.1 },
    figures: [
      ...RUNTIMES.map(([runtime, name]): Evidence => ({
        label: `a forward pass of 128 tokens, f32, ${name}`,
        value: measured(runtime, "base.forward.128x1", { of: "peak_bytes" }),
      })),
      { label: "weights in f32", count: "moe.weight_bytes" },
    ],
  }),
  claim({
    place: "Comparison",
    statement: "A dense model for the same compute has about 35 M parameters.",
    claimed: { value: 35e6, unit: "parameters" },
    rule: { kind: "near", relative: 0.1 },
    figures: [
      { label: "with a head of its own", count: "moe.dense_stored" },
      { label: "with a tied head", count: "moe.dense_tied" },
    ],
  }),
  claim({
    place: "Comparison",
    statement: "The sparse model has 4.5 times more parameters than it.",
    claimed: { value: 4.5, unit: "times" },
    rule: { kind: "near", relative: 0.1 },
    figures: [{ label: "against the equivalent of the same trunk", count: "moe.parameter_ratio" }],
  }),
  claim({
    place: "Comparison",
    statement: "The dense equivalent's loss is about 4 to 5 (estimated).",
    claimed: { value: 4.5, unit: "nats" },
    rule: { kind: "between", low: 4, high: 5 },
    figures: [],
    open: {
      verdict: "not testable here",
      reason: "it is estimated for TinyStories",
      beside: {
        label: "its loss on other text, 2,500 updates, where the sparse model reaches 4.880",
        value: {
          csv: "h200-sparse-moe/figures/ablation_architecture.csv",
          where: { value: "dense" },
          column: "nats",
        },
      },
    },
  }),
  claim({
    place: "Comparison",
    statement: "It costs 1.8 times the latency of the dense equivalent.",
    claimed: { value: 1.8, unit: "times" },
    rule: { kind: "at_most" },
    figures: [...latencies(4), ...latencies(128)],
  }),
  claim({
    place: "Comparison",
    statement: "The dense equivalent takes 191 MB of memory.",
    claimed: { value: 191e6, unit: "bytes" },
    rule: { kind: "near", relative: 0.1 },
    figures: RUNTIMES.map(([runtime, name]) => ({
      label: `a forward pass of 128 tokens, f32, ${name}`,
      value: measured(runtime, "dense.forward.128x1", { of: "peak_bytes" }),
    })),
  }),
  claim({
    place: "How it works",
    statement: "2,048 of 16,384 hidden units are active.",
    claimed: { value: 0.125, unit: "share" },
    rule: { kind: "near", relative: 0.001 },
    figures: [{ label: "the sizes given", count: "moe.hidden_share" }],
  }),
  claim({
    place: "Testing",
    statement: "Only 2 experts are active for a token.",
    claimed: { value: 2, unit: "number" },
    rule: { kind: "near", relative: 0 },
    figures: [activation("untrained", 0, "most_experts"), activation("trained", 5, "most_experts")],
  }),
  claim({
    place: "Load balancing",
    statement: "The coefficient of variation of the experts' use is 0.062.",
    claimed: { value: 0.062, unit: "number" },
    rule: { kind: "at_most" },
    figures: [activation("untrained", 1, "cv"), activation("trained", 3, "cv")],
    open: {
      verdict: "not testable here",
      reason:
        "the published figure is an untrained gate's on random vectors; ours are the most even layers on text, without a balance loss",
    },
    run: "expert_variation",
  }),
  claim({
    place: "Memory",
    statement: "Memory a sample falls with the batch, to 4 MB at 32.",
    claimed: { value: 4e6, unit: "bytes" },
    rule: { kind: "at_most" },
    figures: [{
      label: "a layer at 32 sequences of 256, weights included",
      value: {
        json: ACTIVATION,
        at: ["memory", "points", { sequences: 32 }, "bytes"],
        scale: 1 / 32,
      },
    }],
  }),
  claim({
    place: "Interpretation",
    statement: "5,000 steps are less than 1 % of the data set.",
    claimed: { value: 0.01, unit: "share" },
    rule: { kind: "at_most" },
    figures: [
      { label: "a step being an update of 32 stories", count: "moe.coverage_updates" },
      { label: "a step being a micro-batch of 4, as the code counts", count: "moe.coverage_micro" },
    ],
  }),
  claim({
    place: "Usage",
    statement: "An epoch is about 66,000 steps.",
    claimed: { value: 66000, unit: "number" },
    rule: { kind: "near", relative: 0.02 },
    figures: [
      { label: "a step being an update of 32 stories", count: "moe.epoch_updates" },
      { label: "a step being a micro-batch of 4, as the code counts", count: "moe.epoch_micro" },
    ],
  }),
  claim({
    place: "Performance",
    statement: "The learning rate follows a cosine (to 0 at the end).",
    claimed: { value: 0.01, unit: "share", ours: true },
    rule: { kind: "at_most" },
    figures: [{ label: "of its peak at the end, as the code counts", count: "moe.final_rate" }],
  }),
  claim({
    place: "Limitations",
    statement: "The gates add 1 to 2 % of the operations.",
    claimed: { value: 0.015, unit: "share" },
    rule: { kind: "between", low: 0.01, high: 0.02 },
    figures: [{ label: "of the layers' operations", count: "moe.gate_share" }],
  }),
];
