/**
 * Models and trainings that cannot be.
 *
 * @module
 */

import { MINIMAL } from "../config_testing.ts";
import { type Malformed, withLines } from "./malformed_testing.ts";

/** Models and trainings that cannot be. */
export const MALFORMED_MODELS: readonly Malformed[] = [
  // Sizes of experts and routers.
  {
    what: "experts that are no square",
    text: withLines("model: { ffn: { kind: ethos, num_experts: 1000 } }"),
    says: ["bad.yaml:5: model.ffn.num_experts: 1000 is not a perfect square; 961 and 1024 are"],
  },
  {
    what: "a width that is no multiple of 4",
    text: withLines("model: { d_model: 66 }"),
    says: ["model.d_model: 66 is not a multiple of 4; 64 and 68 are"],
  },
  {
    what: "more experts kept than sub-keys",
    text: withLines("model: { ffn: { kind: ethos, num_experts: 16, top_k: 8 } }"),
    says: ["model.ffn.top_k: 8 is more than the 4 sub-keys of an axis", "at most 4"],
  },
  {
    what: "keys of the other router",
    text: withLines("model: { ffn: { kind: ethos, router: beam, d_query: 64 } }"),
    says: ["bad.yaml:5: model.ffn.d_query: unknown key", "axis_query"],
  },
  {
    what: "keys of beams behind product keys",
    text: withLines("model: { ffn: { kind: ethos, beam_width: 64 } }"),
    says: ["bad.yaml:5: model.ffn.beam_width: unknown key"],
  },
  {
    what: "a router that does not exist",
    text: withLines("model: { ffn: { kind: ethos, router: beem } }"),
    says: ["model.ffn.router: expected product_key or beam", 'got "beem"', "did you mean beam?"],
  },
  {
    what: "an odd width of codes",
    text: withLines("model: { ffn: { kind: ethos, router: beam, axis_query: 33 } }"),
    says: ["model.ffn.axis_query: 33 is not a multiple of 4; 32 and 36 are"],
  },
  {
    what: "an axis without ids",
    text: withLines("model: { ffn: { kind: ethos, router: beam, axis_size: 0 } }"),
    says: ["model.ffn.axis_size: expected a whole number from 1 to 16384, got 0"],
  },
  {
    what: "fewer beams than experts kept",
    text: withLines("model: { ffn: { kind: ethos, router: beam, beam_width: 4, top_k: 8 } }"),
    says: ["model.ffn.top_k: 8 is more than the 4 beams of beam_width; at most 4"],
  },
  {
    what: "fewer sums than experts kept",
    text: withLines("model: { ffn: { kind: ethos, router: beam, axes: 2, axis_size: 2 } }"),
    says: ["model.ffn.top_k: 8 is more than the 4 sums of 2 candidates on 2 axes; at most 4"],
  },
  {
    what: "more queries than a matrix has columns",
    text: withLines(
      "model: { ffn: { kind: ethos, router: beam, axis_query: 128, routing_heads: 256 } }",
    ),
    says: [
      "model.ffn.axis_query: 128 on 6 axes of 256 heads are 196608 columns; at most 65536",
    ],
  },
  {
    what: "more ids of kept experts than are sorted at once",
    text: MINIMAL.replace(
      /^train:.*$/m,
      "model: { ffn: { kind: ethos, router: beam, top_k: 64, routing_heads: 64 } }\n" +
        "train: { steps: 1, micro_batch: 8, sequence_length: 4096 }",
    ),
    says: [
      "train.micro_batch: 32768 tokens with 64 · 64 experts of 6 ids each are 805306368 assignments",
    ],
  },
  {
    what: "a factored table that is too large",
    text: withLines(
      "model: { ffn: { kind: ethos, router: beam, axis_size: 16384, d_latent: 512 } }",
    ),
    says: [
      "model.ffn.axis_size: 6 axes of 16384 ids with codes of 512 are a table of 50331648 numbers",
      "at most 33554432",
    ],
  },
  {
    what: "every expert generated behind beams",
    text: withLines("model: { ffn: { kind: ethos, router: beam, execution: materialized } }"),
    says: ['model.ffn.execution: expected one of auto, fused, naive, got "materialized"'],
  },
  {
    what: "no layer left for experts",
    text: withLines("model: { num_layers: 2, leading_dense: { num_layers: 2 } }"),
    says: [
      "model.leading_dense.num_layers: 2 leaves none of the 2 layers for model.ffn; at most 1",
    ],
  },
  // Mixtures and dense layers.
  {
    what: "more experts for a token than there are",
    text: withLines("model: { ffn: { kind: topk_moe, num_experts: 4, top_k: 5 } }"),
    says: ["bad.yaml:5: model.ffn.top_k: 5 is more than num_experts 4; at most 4"],
  },
  {
    what: "dropout of all numbers of an expert",
    text: withLines("model: { ffn: { kind: topk_moe, expert_dropout: 1 } }"),
    says: ["model.ffn.expert_dropout"],
  },
  {
    what: "an activation that a dense layer does not have",
    text: withLines("model: { ffn: { kind: dense, activation: relu } }"),
    says: ["model.ffn.activation: expected one of swiglu, gelu, gelu_exact"],
  },
  {
    what: "a sum of probabilities that nothing reads",
    text: withLines("model: { ffn: { kind: topk_moe, top_p: 0.5 } }"),
    says: ["model.ffn.top_p: 0.5 means nothing with choice top_k"],
  },
  {
    what: "a key of another mixture",
    text: withLines("model: { ffn: { kind: switch, top_k: 2 } }"),
    says: ["model.ffn.top_k: unknown key; expected one of d_expert, kind,"],
  },
  // Attention, the trunk and kinds.
  {
    what: "a kind that does not exist",
    text: withLines("model: { attention: { kind: mla2, num_heads: 4 } }"),
    says: ['model.attention.kind: expected mha or mla, got "mla2"'],
  },
  {
    what: "heads that do not divide the model's width into multiples of 4",
    text: withLines("model: { d_model: 64, attention: { kind: mha, num_heads: 6 } }"),
    says: ["model.attention.num_heads: 6 heads of d_model 64", "give d_head"],
  },
  {
    what: "keys and values that heads cannot share",
    text: withLines("model: { attention: { kind: mha, num_heads: 8, num_kv_heads: 3 } }"),
    says: [
      "model.attention.num_kv_heads: 3 heads of keys and values cannot be shared by num_heads 8",
    ],
  },
  {
    what: "a head that is narrower than its rotated columns",
    text: withLines("model: { attention: { kind: mha, num_heads: 8, d_head: 16, d_rope: 32 } }"),
    says: ["model.attention.d_rope: 32 is more than the width of a head, d_head 16"],
  },
  {
    what: "scaled frequencies without rotated columns",
    text: withLines(
      "model: { attention: { kind: mha, num_heads: 8, rope_scaling: { type: linear, factor: 2 } } }",
    ),
    says: ["model.attention.rope_scaling: it means nothing with d_rope 0"],
  },
  {
    what: "frequencies that are kept below those that are divided",
    text: withLines(
      "model: { attention: { kind: mha, num_heads: 8, d_rope: 8, rope_scaling: { type: llama3, factor: 8, low_freq_factor: 4, high_freq_factor: 1, original_max_position_embeddings: 64 } } }",
    ),
    says: ["model.attention.rope_scaling.high_freq_factor: it must be more than low_freq_factor"],
  },
  {
    what: "dropout of everything",
    text: withLines("model: { trunk: { dropout: 1 } }"),
    says: ["model.trunk.dropout: expected a number at least 0 and below 1, got 1"],
  },
  {
    what: "an unknown key of a section that names no kind",
    text: withLines("model: { attention: { num_head: 4 } }"),
    says: ["model.attention.num_head: unknown key; did you mean num_heads?"],
  },
  {
    what: "a key of another kind",
    text: withLines("model: { ffn: { kind: dense, top_k: 4 } }"),
    says: [
      "model.ffn.top_k: unknown key; expected one of activation, biases, d_ffn, kind, weight_init",
    ],
  },
  {
    what: "sequences longer than learned positions",
    text: withLines("model: { trunk: { positions: learned, max_positions: 32 } }"),
    says: [
      "train.sequence_length: 64 is more than the 32 positions that are learned",
      "raise model.trunk.max_positions",
    ],
  },
  // Training.
  {
    what: "samples without how often",
    text: withLines(),
    set: ["train.sample_prompts=[a]"],
    says: ["train.sample_prompts: is given without sample_every"],
  },
  {
    what: "a text for a list of prompts",
    text: withLines(),
    set: ["train.sample_every=10", "train.sample_prompts=once"],
    says: ['train.sample_prompts: expected a list of 1 to 16 items, got "once"'],
  },
  {
    what: "no prompts",
    text: withLines(),
    set: ["train.sample_every=10", "train.sample_prompts=[]"],
    says: ["train.sample_prompts: expected a list of 1 to 16 items"],
  },
  {
    what: "a prompt that is too long",
    text: withLines(),
    set: ["train.sample_every=10", `train.sample_prompts=[${"a".repeat(1001)}]`],
    says: ["train.sample_prompts.0: expected"],
  },
  {
    what: "half a letter as a prompt",
    text: withLines(),
    set: ["train.sample_every=10", 'train.sample_prompts=["\\ud83d"]'],
    says: ["train.sample_prompts.0: has half of a surrogate pair"],
  },
  {
    what: "samples at fractions of updates",
    text: withLines(),
    set: ["train.sample_every=0.5"],
    says: ["train.sample_every: expected a whole number from 0 to 16777216, got 0.5"],
  },
  {
    what: "samples beyond count",
    text: withLines().replace(/^train:.*$/m, "train: { steps: 20000, sample_every: 1 }"),
    says: ["train.sample_every: 1 makes 20001 samples in 20000 updates; at most 10000"],
  },
  {
    what: "a temperature below zero",
    text: withLines(),
    set: ["train.sample_every=10", "train.sample_temperature=-1"],
    says: ["train.sample_temperature: expected a number from 0 to 100, got -1"],
  },
  {
    what: "samples of no tokens",
    text: withLines(),
    set: ["train.sample_every=10", "train.sample_tokens=0"],
    says: ["train.sample_tokens: expected a whole number from 1 to 1024, got 0"],
  },
  {
    what: "tokens of single documents",
    text: withLines().replace(/^train:.*$/m, "train: { tokens: 100000000, documents: single }"),
    says: ["train.tokens: 100000000 can't be turned into updates with documents: single"],
  },
  {
    what: "one token under batch norm",
    text: MINIMAL.replace("sequence_length: 64", "sequence_length: 1, micro_batch: 1"),
    says: ["train.micro_batch: 1 token in a micro-batch has no variance", "at least 2 tokens"],
  },
  {
    what: "a micro-batch beyond any memory",
    text: MINIMAL.replace("sequence_length: 64", "sequence_length: 131072, micro_batch: 512"),
    says: ["train.micro_batch: 512 sequences of 131072 are 67108864 tokens", "at most 4194304"],
  },
  {
    what: "warm-up longer than training",
    text: MINIMAL.replace("warmup_steps: 10", "warmup_steps: 1000"),
    says: [
      "train.learning_rate.warmup_steps: 1000 is more than the 100 updates of the training; at most 100",
    ],
  },
  {
    what: "a rate that falls during warm-up",
    text: MINIMAL.replace("warmup_steps: 10", "initial: 0.1"),
    says: ["train.learning_rate.initial: 0.1 is above the peak 0.0001"],
  },
  {
    what: "steps and tokens",
    text: MINIMAL.replace("steps: 100", "steps: 100, tokens: 1000"),
    says: ["train.steps: given together with tokens; give one of them"],
  },
  {
    what: "the end of a cosine that is none",
    text: MINIMAL.replace("warmup_steps: 10", "warmup_steps: 10, cosine_end: 50"),
    says: ["train.learning_rate.cosine_end: 50 is given, but the schedule is constant"],
  },
  {
    what: "a cosine that ends before it begins",
    text: MINIMAL.replace("warmup_steps: 10", "warmup_steps: 10, schedule: cosine, cosine_end: 9"),
    says: ["train.learning_rate.cosine_end: 9 is not after the warm-up of 10 updates"],
  },
  {
    what: "an extension to fewer updates than there are",
    text: MINIMAL.replace("steps: 100", "steps: 100, extend: 80"),
    says: ["train.extend: 80 is not beyond the 100 updates of the training; expected more"],
  },
  {
    what: "an extension of parts of updates",
    text: MINIMAL.replace("steps: 100", "steps: 100, extend: 120.5"),
    says: ["train.extend: expected a whole number"],
  },
  {
    what: "noise of copies that is beyond the copied",
    text: MINIMAL.replace(
      "steps: 100",
      "steps: 100, initial: { checkpoint: a, upcycle: { noise: 2 } }",
    ),
    says: ["train.initial.upcycle.noise: "],
  },
];
