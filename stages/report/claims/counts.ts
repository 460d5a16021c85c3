/**
 * The counts that claims are held against. They come from the code that allocates a model, or from a formula that
 * `count_keys.ts` states.
 *
 * @module
 */

import { loadArchitecture } from "../../../model/load.ts";
import type { Architecture } from "../../../model/trunk/architecture.ts";
import { countFlops, countParameters } from "../../../model/trunk/counts.ts";
import { loadPaper, PAPER_SIZES } from "../theory/arithmetic.ts";
import { cachedExperts, GH200, hitRate } from "../theory/cache.ts";
import { evaluateFit } from "../theory/fit.ts";
import { layerParameters } from "../theory/memory.ts";
import { PAPER } from "../theory/paper.ts";
import type { CountKey } from "./count_keys.ts";

/** Every count. */
export type Counts = Readonly<Record<CountKey, number>>;

/** Sizes of the published sparse mixture of experts. */
const MOE = {
  vocabulary: 50257,
  positions: 256,
  d_model: 512,
  layers: 6,
  heads: 8,
  experts: 16,
  top_k: 2,
  d_expert: 1024,
} as const;

/** Its training as the README states it; stories are those of TinyStories. */
const MOE_TRAINING = {
  stories: 2_119_719,
  steps: 5000,
  micro_batch: 4,
  accumulation: 8,
  warmup: 200,
} as const;

/** Tokens of the forward pass that its FLOP are stated for. */
const MOE_TOKENS = 128;

/** Computes every count. */
export async function countAll(): Promise<Counts> {
  return { ...await ethosCounts(), ...await moeCounts() };
}

async function ethosCounts() {
  const { architecture, arithmetic: paper } = await loadPaper();
  const { num_experts: N, d_latent, d_model } = PAPER_SIZES;
  const { config } = architecture;
  const sparse = config.num_layers - config.leading_dense.num_layers;
  const zipf = { law: "zipf", alpha: 1 } as const;
  const codes = cachedExperts(GH200, N, 2 * d_latent);
  const whole = cachedExperts(GH200, N, 2 * 2 * d_model);
  return {
    "ethos.stored": paper.stored,
    "ethos.active": paper.active,
    "ethos.theoretical": paper.theoretical,
    "ethos.theoretical_all": config.num_layers * paper.storedExperts + config.vocab_size * d_model,
    "ethos.flops_gain": paper.gain,
    "ethos.flops_gain_shared": 2 * paper.theoretical / paper.flopsShared,
    "ethos.peer_layer": paper.storedExperts,
    "ethos.latent_layer": paper.latentCodes,
    "ethos.latent_ratio": paper.storedExperts / paper.latentCodes,
    "ethos.layer_ratio": layerParameters("PEER", N, PAPER_SIZES) /
      layerParameters("ETHOS", N, PAPER_SIZES),
    "ethos.latent_share": sparse * paper.latentCodes / paper.stored,
    "ethos.attention": paper.attention,
    "ethos.scores": 2 * Math.sqrt(N) / N,
    "ethos.law_at_end": evaluateFit(PAPER.fit, PAPER.tokens / PAPER.tokensPerStep),
    "ethos.codes_cached": codes / N,
    "ethos.hit_ratio": hitRate(codes, N, zipf) / hitRate(whole, N, zipf),
  };
}

/** The published model with other experts. */
function moeModel(experts: { num_experts: number; top_k: number; d_expert: number }) {
  return loadArchitecture({
    d_model: MOE.d_model,
    num_layers: MOE.layers,
    leading_dense: { num_layers: 0 },
    trunk: {
      norm: "layer",
      epsilon: 1e-5,
      positions: "learned",
      max_positions: MOE.positions,
      head: "own",
    },
    attention: { kind: "mha", num_heads: MOE.heads },
    ffn: { kind: "topk_moe", biases: false, gelu: "exact", ...experts },
    vocab_size: MOE.vocabulary,
  });
}

async function moeCounts() {
  const { top_k, experts, d_expert, d_model: D, layers, heads } = MOE;
  const sparse = await moeModel({ num_experts: experts, top_k, d_expert });
  const all = await moeModel({ num_experts: experts, top_k: experts, d_expert });
  // One expert as wide as those that are kept; its gate is no part of a dense layer.
  const dense = await moeModel({ num_experts: 1, top_k: 1, d_expert: top_k * d_expert });
  const gates = 2 * layers * D * experts * MOE_TOKENS;
  const { stored, active } = countParameters(sparse);
  const table = MOE.vocabulary * D;
  const inLayers = active - 2 * table - MOE.positions * D;
  const denseStored = countParameters(dense).stored - layers * D;
  const flops = forward(sparse);
  const headFlops = 2 * D * MOE.vocabulary * MOE_TOKENS;
  const expertFlops = (k: number) => 4 * k * D * d_expert;
  const formula = (k: number) => MOE_TOKENS * layers * (4 * heads * D * D + 2 * k * D * d_expert);
  const { stories, steps, micro_batch, accumulation, warmup } = MOE_TRAINING;
  const update = micro_batch * accumulation;
  return {
    "moe.stored": stored,
    "moe.active_layers": inLayers,
    "moe.active_head": inLayers + table,
    "moe.ffn_share": top_k / experts,
    "moe.saving_ffn": 1 - expertFlops(top_k) / expertFlops(experts),
    "moe.saving_model": 1 - flops / forward(all),
    "moe.saving_dense": 1 - expertFlops(top_k) / (4 * D * 2048),
    "moe.flops": flops,
    "moe.flops_formula": formula(top_k),
    "moe.gain_counted": forward(all) / flops,
    "moe.gain_formula": formula(experts) / formula(top_k),
    "moe.gain_parameters": 2 * stored * MOE_TOKENS / 8.05e9,
    "moe.dense_stored": denseStored,
    "moe.dense_tied": denseStored - table,
    "moe.parameter_ratio": stored / denseStored,
    "moe.hidden_share": top_k * d_expert / (experts * d_expert),
    "moe.gate_share": gates / (flops - headFlops),
    "moe.samples": 1000 / 37.42,
    "moe.coverage_updates": steps * update / stories,
    "moe.coverage_micro": steps * micro_batch / stories,
    "moe.epoch_updates": stories / update,
    "moe.epoch_micro": stories / micro_batch,
    "moe.final_rate": (1 + Math.cos(Math.PI * (steps / accumulation - warmup) / (steps - warmup))) /
      2,
    "moe.weight_bytes": 4 * stored,
  };
}

/** FLOP of a forward pass of {@linkcode MOE_TOKENS} tokens. */
function forward(architecture: Architecture): number {
  return MOE_TOKENS * countFlops(architecture, { sequenceLength: MOE_TOKENS }).total;
}
