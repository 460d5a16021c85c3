/**
 * Configurations that must be refused, and the message for each; read by the tests of the schema and of the command
 * line.
 *
 * @module
 */

import { join } from "@std/path";
import { MINIMAL } from "./config_testing.ts";

/** A configuration that must be refused, and its message. */
export interface Malformed {
  readonly what: string;
  /** The whole file; a path is given as is when `path` is set. */
  readonly text?: string | Uint8Array<ArrayBuffer>;
  /** Further files, by name. */
  readonly files?: Readonly<Record<string, string>>;
  readonly path?: string;
  readonly set?: readonly string[];
  readonly says: readonly string[];
  /** The message with the real stages' schemas, where those are not as their stand-ins are. */
  readonly real?: readonly string[];
}

/** The minimal configuration with a section replaced or added. */
export const withLines = (...lines: string[]) => `${MINIMAL}${lines.join("\n")}\n`;
const without = (key: string) => MINIMAL.replace(new RegExp(`^${key}:.*\n`, "m"), "");
const bomb = (levels: number) =>
  Array.from(
    { length: levels },
    (_, i) => `l${i}: &l${i} [${i === 0 ? "1" : Array(10).fill(`*l${i - 1}`).join(", ")}]`,
  ).join("\n");

/** Keys that the section `model` had when it was flat, with the place that each has now. */
const MOVED: Readonly<Record<string, string>> = {
  kind: "model.ffn.kind",
  num_dense_layers: "model.leading_dense.num_layers",
  d_ffn: "model.leading_dense.d_ffn, or model.ffn.d_ffn of a dense model",
  num_heads: "model.attention.num_heads",
  q_lora_rank: "model.attention.q_lora_rank",
  kv_lora_rank: "model.attention.kv_lora_rank",
  d_nope: "model.attention.d_nope",
  d_rope: "model.attention.d_rope",
  d_v: "model.attention.d_v",
  num_experts: "model.ffn.num_experts",
  routing_heads: "model.ffn.routing_heads",
  top_k: "model.ffn.top_k",
  d_query: "model.ffn.d_query",
  d_latent: "model.ffn.d_latent",
  d_hidden: "model.ffn.d_hidden",
  d_context: "model.ffn.d_context",
  execution: "model.ffn.execution",
  router_batch_norm: "model.ffn.router_batch_norm",
  load_balance_coef: "model.ffn.load_balance_coef",
};

/** Each of these keys in a file, with `--set` and as the path of a factor. */
function movedKeys(): Malformed[] {
  return Object.entries(MOVED).flatMap(([key, place]) => {
    const answer = ["kind", "num_dense_layers", "d_ffn"].includes(key)
      ? `the key is now ${place}`
      : `unknown key here; did you mean ${place}?`;
    return [
      {
        what: `the former key model.${key}`,
        text: withLines("model:", `  ${key}: 8`),
        says: [`bad.yaml:6: model.${key}: ${answer}`],
      },
      {
        what: `the former key model.${key} in --set`,
        text: MINIMAL,
        set: [`model.${key}=8`],
        says: [`--set model.${key}=8: model.${key}: ${answer}`],
      },
      {
        what: `the former key model.${key} in an ablation`,
        text: withLines("ablations:", `  - { name: x, path: model.${key}, values: [8, 16] }`),
        says: [`bad.yaml:6: ablations.0.path: 8 gives model.${key}: ${answer}`],
      },
    ];
  });
}

/** Every malformed configuration. */
export const MALFORMED: readonly Malformed[] = [
  // Types.
  {
    what: "text for a whole number",
    text: withLines("model:", "  ffn:", "    kind: ethos", "    d_latent: abc"),
    says: ['bad.yaml:8: model.ffn.d_latent: expected a whole number from 4 to 65536, got "abc"'],
  },
  {
    what: "a quoted number",
    text: withLines('model: { ffn: { kind: ethos, d_latent: "64" } }'),
    says: ["model.ffn.d_latent: expected a whole number", "remove the quotes"],
  },
  {
    what: "a number with underscores",
    text: withLines("model: { ffn: { kind: ethos, num_experts: 65_536 } }"),
    says: ["model.ffn.num_experts", "write 65536"],
  },
  {
    what: "a per cent",
    text: MINIMAL.replace("source: embedded", "source: c4, fraction: 1%"),
    says: ["bad.yaml:2: data.fraction: expected a number", "write 0.01"],
    real: ["data.fraction: unknown key here; did you mean data.c4.fraction or data.hub.fraction?"],
  },
  {
    what: "tokens of single documents",
    text: withLines().replace(/^train:.*$/m, "train: { tokens: 100000000, documents: single }"),
    says: ["train.tokens: 100000000 can't be turned into updates with documents: single"],
  },
  {
    what: "a fraction for a whole number",
    text: withLines("model: { ffn: { kind: ethos, top_k: 2.5 } }"),
    says: ["model.ffn.top_k: expected a whole number from 1 to 64, got 2.5"],
  },
  {
    what: "more experts for a token than there are",
    text: withLines("model: { ffn: { kind: topk_moe, num_experts: 4, top_k: 5 } }"),
    says: ["bad.yaml:5: model.ffn.top_k: 5 is more than num_experts 4; at most 4"],
  },
  {
    what: "a share of an expert's numbers that cannot be",
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
  {
    what: "yes for true",
    text: withLines("model: { ffn: { kind: ethos, router_batch_norm: yes } }"),
    says: ['model.ffn.router_batch_norm: expected true or false, got "yes"', "write true"],
  },
  {
    what: "a list for a number",
    text: withLines("seed: [1, 2]"),
    says: ["bad.yaml:5: seed: expected a whole number", "got a list of 2"],
  },
  {
    what: "a number for a list",
    text: withLines("seeds: 3"),
    says: ["seeds: expected a list of 1 to 64 items, got 3"],
  },
  {
    what: "a number for a section",
    text: withLines("model: 7"),
    says: ["model: expected a section (keys with values), got 7"],
  },
  {
    what: "a section left empty",
    text: withLines("model:"),
    says: ["model: expected a section (keys with values), got nothing"],
  },
  {
    what: "a section for a number",
    text: withLines("seed: { a: 1 }"),
    says: ["seed: expected a whole number", "got a section"],
  },
  // Keys.
  {
    what: "a typo",
    text: withLines("model:", "  ffn: { kind: ethos,", "    d_latnt: 64 }"),
    says: ["bad.yaml:7: model.ffn.d_latnt: unknown key; did you mean d_latent?"],
  },
  {
    what: "a typo in a section's name",
    text: withLines("modle: { d_model: 64 }"),
    says: ["bad.yaml:5: modle: unknown key; did you mean model?"],
  },
  {
    what: "a typo three levels deep",
    text: MINIMAL.replace("warmup_steps: 10", "warmup_step: 10"),
    says: ["train.learning_rate.warmup_step: unknown key; did you mean warmup_steps?"],
  },
  {
    what: "a key in the wrong section",
    text: withLines("d_latent: 64"),
    says: ["d_latent: unknown key here; did you mean model.ffn.d_latent?"],
  },
  {
    what: "a key of another source",
    text: MINIMAL.replace("source: embedded", "source: c4, files: [a]"),
    says: ["bad.yaml:2: data.files: unknown key", "expected one of fraction, source"],
    real: ["data.files: expected a section (keys with values), got a list of 1"],
  },
  {
    what: "a word that is like nothing",
    text: withLines("report: { zzzzzzzz: 1 }"),
    says: ["report.zzzzzzzz: unknown key; expected one of"],
  },
  {
    what: "__proto__",
    text: withLines("__proto__: { seed: 1 }"),
    says: ["bad.yaml:5: __proto__: unknown key"],
  },
  {
    what: "a missing section",
    text: without("data"),
    says: ["data: missing; expected a section"],
  },
  {
    what: "a missing name",
    text: without("name"),
    says: ["name: missing; expected text"],
  },
  {
    what: "a missing length of training",
    text: MINIMAL.replace("steps: 100, ", ""),
    says: ["train.steps: missing; give steps (updates) or tokens"],
  },
  // Words.
  {
    what: "a typo in a choice",
    text: withLines("model: { ffn: { kind: etos } }"),
    says: [
      'model.ffn.kind: expected dense or ethos or peer or switch or topk_moe, got "etos"',
      "did you mean ethos?",
    ],
  },
  {
    what: "a source that doesn't exist",
    text: MINIMAL.replace("embedded", "wikipedia"),
    says: ['bad.yaml:2: data.source: expected embedded or c4 or files, got "wikipedia"'],
    real: ['bad.yaml:2: data.source: expected one of embedded, c4, hub, files, got "wikipedia"'],
  },
  {
    what: "a name that can't be a file's",
    text: MINIMAL.replace("name: test", "name: My Test/1"),
    says: ['name: "My Test/1" is no plain name; use lower-case letters'],
  },
  {
    what: "a results folder outside the project",
    text: withLines("results: ../../etc"),
    says: ['results: "../../etc" is not a folder inside the project'],
  },
  // Impossible sizes.
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
  // Numbers out of range.
  {
    what: "NaN",
    text: withLines("model: { ffn: { kind: ethos, load_balance_coef: .nan } }"),
    says: ["model.ffn.load_balance_coef: expected a number from 0 to 1000, got NaN"],
  },
  {
    what: "infinity",
    text: MINIMAL.replace("steps: 100", "steps: .inf"),
    says: ["train.steps: expected a whole number from 1 to 16777216, got Infinity"],
  },
  {
    what: "a negative size",
    text: withLines("model: { ffn: { kind: ethos, d_hidden: -32 } }"),
    says: ["model.ffn.d_hidden: expected a whole number from 4 to 65536, got -32"],
  },
  {
    what: "zero",
    text: MINIMAL.replace("steps: 100", "steps: 0"),
    says: ["train.steps: expected a whole number from 1 to 16777216, got 0"],
  },
  {
    what: "a number too large to be whole",
    text: withLines("seed: 123456789012345678901234567890"),
    says: ["seed: expected a whole number"],
  },
  {
    what: "beta at its limit",
    text: MINIMAL.replace("steps: 100", "steps: 100, beta1: 1"),
    says: ["train.beta1: expected a number at least 0 and below 1, got 1"],
  },
  {
    what: "a seed given twice",
    text: withLines("seeds: [1, 1]"),
    says: ["seeds: a seed is listed twice"],
  },
  // Ablations.
  {
    what: "a value that the model refuses",
    text: withLines(
      "ablations:",
      "  - name: d_latent",
      "    path: model.ffn.d_latent",
      "    values: [64, 66]",
    ),
    says: [
      "bad.yaml:8: ablations.0.values.1: 66 gives model.ffn.d_latent: 66 is not a multiple of 4",
    ],
  },
  {
    what: "a path that names no key",
    text: withLines(
      "ablations:",
      "  - name: d_latent",
      "    path: model.ffn.d_latnt",
      "    values: [64, 68]",
    ),
    says: [
      "bad.yaml:7: ablations.0.path: 64 gives model.ffn.d_latnt: unknown key; did you mean d_latent?",
    ],
  },
  {
    what: "a path into another section",
    text: withLines("ablations: [{ name: x, path: tokenizer.vocab_size, values: [300] }]"),
    says: ["ablations.0.path", "a factor changes keys of model or train"],
  },
  {
    what: "a factor without values",
    text: withLines("ablations: [{ name: x, path: model.ffn.d_latent }]"),
    says: ["ablations.0.values: missing; expected a list of values for model.ffn.d_latent"],
  },
  {
    what: "a seed that the base lacks",
    text: withLines("ablations: [{ name: x, path: model.ffn.d_latent, values: [64], seeds: [9] }]"),
    says: ["ablations.0.seeds: the base has no run with seed 9", "1, 2, 3"],
  },
  {
    what: "a seed of a variant that the base lacks",
    text: withLines(
      "ablations:",
      "  - { name: x, variants: [{ value: y, set: { model.ffn.d_latent: 64 }, seeds: [1, 9] }] }",
    ),
    says: ["ablations.0.variants.0.seeds: the base has no run with seed 9", "1, 2, 3"],
  },
  {
    what: "seeds of a variant in a grid",
    text: withLines(
      "combine: grid",
      "ablations:",
      "  - { name: x, variants: [{ value: y, set: { model.ffn.d_latent: 64 }, seeds: [1] }] }",
    ),
    says: ["ablations.0.variants.0.seeds: a grid's cells belong to all factors"],
  },
  {
    what: "two factors of one name",
    text: withLines(
      "ablations:",
      "  - { name: x, path: model.ffn.d_latent, values: [64] }",
      "  - { name: x, path: model.ffn.top_k, values: [4] }",
    ),
    says: ["bad.yaml:7: ablations.1.name: two factors are named x"],
  },
  {
    what: "a combination that is impossible",
    text: withLines(
      "combine: grid",
      "model: { ffn: { kind: ethos, num_experts: 1024 } }",
      "ablations:",
      "  - { name: n, path: model.ffn.num_experts, values: [256, 1024] }",
      "  - { name: k, path: model.ffn.top_k, values: [16, 32] }",
    ),
    says: ["ablations: n=256,k=32 gives model.ffn.top_k: 32 is more than the 16 sub-keys"],
  },
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
    what: "a head that is narrower than what turns of it",
    text: withLines("model: { attention: { kind: mha, num_heads: 8, d_head: 16, d_rope: 32 } }"),
    says: ["model.attention.d_rope: 32 is more than the width of a head, d_head 16"],
  },
  {
    what: "slower rotation where nothing turns",
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
    what: "an activation that there is not",
    text: withLines("model: { ffn: { kind: dense, activation: relu } }"),
    says: ["model.ffn.activation: expected one of swiglu, gelu, gelu_exact, got"],
  },
  {
    what: "dropout of everything",
    text: withLines("model: { trunk: { dropout: 1 } }"),
    says: ["model.trunk.dropout: expected a number at least 0 and below 1, got 1"],
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
  ...movedKeys(),
  // Files.
  { what: "a missing file", path: "nope/missing.yaml", says: ["missing.yaml: no such file"] },
  {
    what: "a missing file with a name beside it",
    text: MINIMAL,
    path: "bda.yaml",
    says: ["bda.yaml: no such file; did you mean", "bad.yaml?"],
  },
  { what: "a directory", path: ".", says: ["is a directory; expected a YAML file"] },
  {
    what: "a binary file",
    text: new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 0, 1, 2, 3]),
    says: ["bad.yaml: is a binary file"],
  },
  {
    what: "text that is not UTF-8",
    text: new Uint8Array([0x6e, 0x3a, 0x20, 0xe9, 0x0a]),
    says: ["bad.yaml: is not UTF-8 text"],
  },
  {
    what: "UTF-16",
    text: new Uint8Array([0xff, 0xfe, 0x6e, 0, 0x3a, 0]),
    says: ["bad.yaml: is UTF-16 text"],
  },
  {
    what: "a file too large",
    text: `name: ${"x".repeat(1 << 20)}`,
    says: ["bad.yaml: is 1048582 bytes; a configuration has at most 1048576"],
  },
  { what: "an empty file", text: "", says: ["bad.yaml: the file is empty"] },
  { what: "only comments", text: "# nothing\n\n", says: ["bad.yaml: the file is empty"] },
  {
    what: "a list at the top",
    text: "- a\n- b\n",
    says: ["bad.yaml:1: expected keys with values at the top of the file, got a list"],
  },
  {
    what: "a word at the top",
    text: "hello\n",
    says: ["bad.yaml:1: expected keys with values at the top of the file, got a single value"],
  },
  // YAML.
  {
    what: "a YAML bomb",
    text: bomb(9),
    says: ["bad.yaml:", "more than 10000 values once aliases are expanded"],
  },
  {
    what: "an alias of itself",
    text: "name: &a [*a]\n",
    says: ["bad.yaml:1: name", "nested more than 32 deep"],
  },
  {
    what: "brackets without end",
    text: `name: ${"[".repeat(100_000)}`,
    says: ["bad.yaml", "nested too deeply"],
  },
  {
    what: "tabs",
    text: "name: test\nmodel:\n\td_model: 64\n",
    says: ["bad.yaml:3", "model", "a tab is used to indent; YAML takes spaces only"],
  },
  {
    what: "a key given twice",
    text: withLines("seed: 1", "model: { d_model: 64 }", "seed: 2"),
    says: ["bad.yaml:7: seed: given twice, first at ", "bad.yaml:5; keep one"],
  },
  {
    what: "a bracket left open",
    text: "name: test\nseeds: [1, 2\nmodel: {}\n",
    says: ["bad.yaml:3: model: not valid YAML: flow sequence", "end with a ]"],
  },
  {
    what: "an alias without an anchor",
    text: withLines("seed: *nowhere"),
    says: ["bad.yaml:5: seed: the alias *nowhere has no anchor before it"],
  },
  {
    what: "a tag that runs code elsewhere",
    text: withLines("seed: !!js/function 'function(){}'"),
    says: ["bad.yaml:5: seed: a tag that is not known"],
  },
  {
    what: "two documents",
    text: `${MINIMAL}---\nname: other\n`,
    says: ["bad.yaml:", "a second YAML document starts here"],
  },
  // Extends.
  {
    what: "a file to extend that is missing",
    text: "extends: nope.yaml\n",
    says: ["bad.yaml:1: extends:", "nope.yaml: no such file"],
  },
  {
    what: "a number to extend",
    text: "extends: 3\n",
    says: ["bad.yaml:1: extends: expected the path of a YAML file"],
  },
  {
    what: "a cycle",
    text: "extends: other.yaml\n",
    files: { "other.yaml": "extends: bad.yaml\n" },
    says: ["other.yaml:1: extends: a file can't extend itself", "bad.yaml → "],
  },
  {
    what: "a problem in the file that is extended",
    text: "extends: other.yaml\n",
    files: { "other.yaml": withLines("model: { ffn: { kind: ethos, d_latnt: 3 } }") },
    says: ["other.yaml:5: model.ffn.d_latnt: unknown key; did you mean d_latent?"],
  },
  // --set.
  {
    what: "--set with a typo",
    text: MINIMAL,
    set: ["model.ffn.kind=ethos", "model.ffn.d_latnt=64"],
    says: ["--set model.ffn.d_latnt=64: model.ffn.d_latnt: unknown key; did you mean d_latent?"],
  },
  {
    what: "--set with a wrong type",
    text: MINIMAL,
    set: ["train.steps=many"],
    says: ["--set train.steps=many: train.steps: expected a whole number", 'got "many"'],
  },
  {
    what: "--set without a value",
    text: MINIMAL,
    set: ["model.ffn.d_latent"],
    says: [
      "--set model.ffn.d_latent: model.ffn.d_latent: no value; write model.ffn.d_latent=VALUE",
    ],
  },
  {
    what: "--set with an empty value",
    text: MINIMAL,
    set: ["model.ffn.d_latent="],
    says: ["--set model.ffn.d_latent=: model.ffn.d_latent: no value"],
  },
  {
    what: "--set without a key",
    text: MINIMAL,
    set: ["=3"],
    says: ["--set =3: expected keys joined by dots before the ="],
  },
  {
    what: "--set below a single value",
    text: MINIMAL,
    set: ["name.first=x"],
    says: ['--set name.first=x: name: a single value ("test"), so it has no key "first"'],
  },
  {
    what: "--set beyond a list",
    text: withLines("seeds: [1, 2]"),
    set: ["seeds.2=3"],
    says: ['--set seeds.2=3: seeds: a list of 2; "2" is not an index from 0 to 1'],
  },
  {
    what: "--set with bad YAML",
    text: MINIMAL,
    set: ["seeds=[1, 2"],
    says: ["--set seeds=[1, 2: seeds: not valid YAML"],
  },
  {
    what: "--set of a section",
    text: MINIMAL,
    set: ["model={d_model: 64}"],
    says: ["--set model={d_model: 64}: model: a section can't be set whole"],
  },
  {
    what: "--set of __proto__",
    text: MINIMAL,
    set: ["__proto__.polluted=1"],
    says: ["--set __proto__.polluted=1: __proto__"],
  },
];

/** Writes a malformed configuration to a folder and gives back the path to ask for. */
export async function writeMalformed(
  { text, files = {}, path }: Malformed,
  folder: string,
): Promise<string> {
  const file = join(folder, "bad.yaml");
  if (typeof text === "string") await Deno.writeTextFile(file, text);
  else if (text !== undefined) await Deno.writeFile(file, text);
  for (const [name, content] of Object.entries(files)) {
    await Deno.writeTextFile(join(folder, name), content);
  }
  return path === undefined ? file : join(folder, path);
}
