/**
 * Recordings of whole models: training, evaluation and decoding.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { LayerContext } from "../../layer/context.ts";
import { Weights } from "../../layer/weights.ts";
import { changedModel, DENSE, type ModelChanges, PEER } from "../../testing.ts";
import { decoders, recordDecoding } from "../../trunk/decoding.ts";
import { recordEvaluation, recordTraining } from "../../trunk/network.ts";
import { weightSpecs } from "../../trunk/parameters.ts";
import { CONTROL, LOSS } from "../control.ts";
import { DROPOUT_KEY } from "../dropout/dropout.ts";
import { countUsage } from "../routing/usage.ts";
import { unallocated as t } from "../testing.ts";

/** A small model with every kind of layer. */
const SMALL: ModelChanges = {
  vocab_size: 101,
  d_model: 32,
  num_layers: 2,
  leading_dense: { num_layers: 1, d_ffn: 40 },
  attention: {
    kind: "mla",
    num_heads: 2,
    q_lora_rank: 16,
    kv_lora_rank: 12,
    d_nope: 8,
    d_rope: 8,
    d_v: 8,
  },
  ffn: {
    kind: "ethos",
    num_experts: 64,
    routing_heads: 2,
    top_k: 4,
    d_query: 16,
    d_latent: 8,
    d_hidden: 24,
  },
};

/** Experts behind beams. */
const BEAM = {
  kind: "ethos",
  router: "beam",
  routing_heads: 2,
  top_k: 4,
  axes: 3,
  axis_query: 8,
  axis_size: 16,
  axis_candidates: 5,
  beam_width: 6,
  d_latent: 8,
  d_hidden: 24,
};

/** Models that between them take every path: each execution with each of these. */
const NETWORKS: readonly (readonly [ModelChanges, "f32" | "mixed"])[] = [
  ...(["materialized", "fused", "naive"] as const).flatMap((execution) => [
    [{ ffn: { execution, load_balance_coef: 0.1 } }, "f32"] as const,
    [{ ffn: { execution, d_context: 4 } }, "mixed"] as const,
    [{ ffn: { execution, d_context: 4, router_batch_norm: false } }, "f32"] as const,
    [
      { ffn: { execution, load_balance_coef: 0.1, router_batch_norm: false } },
      "mixed",
    ] as const,
  ]),
  ...(["f32", "mixed"] as const).flatMap((precision) => [
    [{ ffn: BEAM }, precision] as const,
    [{ ffn: { ...BEAM, execution: "naive", d_context: 4 } }, precision] as const,
    [DENSE, precision] as const,
    [{ ffn: { ...PEER, execution: "naive" } }, precision] as const,
    [{ ffn: { ...PEER, top_k: 4, choice: "threshold", threshold: 0.2 } }, precision] as const,
    [{
      ffn: { execution: "materialized", choice: "mass", mass: 0.8, load_balance_coef: 0.1 },
    }, precision] as const,
    [{ ffn: { ...PEER, execution: "fused", load_balance_coef: 0.1 } }, precision] as const,
    // The other choice of every option of the trunk.
    [{
      ...DENSE,
      trunk: { norm: "layer", positions: "learned", residual: "parallel", head: "own" },
    }, precision] as const,
    // Experts without tokens of their own are most of 8; gates of 8 and of 5 are read with and without padding.
    [{ ffn: { kind: "switch", num_experts: 5, d_expert: 24 } }, precision] as const,
    [{ ffn: { kind: "topk_moe", num_experts: 8, d_expert: 24 } }, precision] as const,
    [{
      ffn: {
        kind: "topk_moe",
        num_experts: 5,
        top_k: 3,
        d_expert: 24,
        biases: false,
        gelu: "exact",
        load_balance_coef: 0.1,
        choice: "top_p",
        top_p: 0.5,
        expert_dropout: 0.1,
      },
    }, precision] as const,
    [{ ...DENSE, ffn: { ...DENSE.ffn, activation: "gelu_exact" } }, precision] as const,
    [
      { ...DENSE, attention: { kind: "mha", num_heads: 4, num_kv_heads: 2, d_rope: 4 } },
      precision,
    ] as const,
    [{
      ...DENSE,
      attention: { kind: "mha", num_heads: 2, bias: false, dropout: 0.1 },
      trunk: { dropout: 0.1 },
    }, precision] as const,
  ]),
];

/** Training, evaluation and decoding of a whole model. */
function network(gpu: Gpu, changes: ModelChanges, precision: "f32" | "mixed"): Plan[] {
  const architecture = changedModel(SMALL, changes);
  const weights = new Weights(gpu, weightSpecs(architecture), { train: true, precision });
  const sizes = { batch: 2, length: 16 };
  const tensors = {
    tokens: t("tokens", [32], "u32"),
    targets: t("targets", [32], "u32"),
    losses: t("losses", [32]),
    control: t("control", [CONTROL.length]),
    loss: t("loss", [LOSS.length]),
  };
  const plans: Plan[] = [];
  const plan = (label: string) => {
    const made = new Plan(gpu, label);
    plans.push(made);
    return made;
  };
  for (const first of [true, false]) {
    const context = new LayerContext(plan("train"), weights, {
      ...sizes,
      mode: "train",
      accumulate: !first,
      microBatches: 2,
      dropout: { seed: 1, control: tensors.control, key: t("key", [DROPOUT_KEY], "u32") },
    });
    recordTraining(context, architecture, { ...tensors, first });
  }
  const evaluation = plan("evaluate");
  const { uses } = recordEvaluation(
    new LayerContext(evaluation, weights, { ...sizes, mode: "evaluate" }),
    architecture,
    tensors,
  );
  for (const { experts, index, statistics } of uses.values()) {
    const counts = t("counts", [experts], "u32");
    countUsage(evaluation, "usage", { index, targets: tensors.targets, counts });
    statistics?.();
  }
  // Few tokens, and enough for products.
  for (const length of [4, 64]) {
    const context = new LayerContext(plan("decode"), weights, {
      batch: 1,
      length,
      mode: "evaluate",
    });
    const dtype = context.operandType;
    recordDecoding(context, architecture, {
      tokens: t("tokens", [length], "u32"),
      position: t("position", [1], "u32"),
      row: t("row", [1], "u32"),
      decoders: decoders(architecture, { capacity: 300, dtype }),
    });
  }
  weights.destroy();
  return plans;
}

/** Records every network. */
export function recordNetworks(gpu: Gpu): Plan[] {
  return NETWORKS.flatMap(([changes, precision]) => network(gpu, changes, precision));
}
