/** A published `config.json` in the project's terms, and the keys that are refused. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { readPretrainedConfig } from "./config.ts";
import { PretrainedError } from "./error.ts";
import { SMALL_LLAMA, SMALL_NEOX } from "./pretrained_testing.ts";

/** As the hub has it for Pythia's smallest model. */
const PYTHIA_70M = {
  architectures: ["GPTNeoXForCausalLM"],
  bos_token_id: 0,
  eos_token_id: 0,
  hidden_act: "gelu",
  hidden_size: 512,
  initializer_range: 0.02,
  intermediate_size: 2048,
  layer_norm_eps: 1e-5,
  max_position_embeddings: 2048,
  model_type: "gpt_neox",
  num_attention_heads: 8,
  num_hidden_layers: 6,
  rotary_emb_base: 10000,
  rotary_pct: 0.25,
  tie_word_embeddings: false,
  torch_dtype: "float16",
  transformers_version: "4.24.0",
  use_cache: true,
  use_parallel_residual: true,
  vocab_size: 50304,
};

/** As the hub has it for Llama 3.1 8B. */
const LLAMA_31_8B = {
  architectures: ["LlamaForCausalLM"],
  attention_bias: false,
  attention_dropout: 0.0,
  bos_token_id: 128000,
  eos_token_id: 128001,
  hidden_act: "silu",
  hidden_size: 4096,
  initializer_range: 0.02,
  intermediate_size: 14336,
  max_position_embeddings: 131072,
  mlp_bias: false,
  model_type: "llama",
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor: 8.0,
    low_freq_factor: 1.0,
    high_freq_factor: 4.0,
    original_max_position_embeddings: 8192,
    rope_type: "llama3",
  },
  rope_theta: 500000.0,
  tie_word_embeddings: false,
  torch_dtype: "bfloat16",
  transformers_version: "4.43.0.dev0",
  use_cache: true,
  vocab_size: 128256,
};

Deno.test("Pythia and Llama 3.1 are read as they are published", () => {
  const pythia = readPretrainedConfig(PYTHIA_70M);
  assertEquals(pythia.model.attention, {
    kind: "mha",
    num_heads: 8,
    d_head: 64,
    bias: true,
    d_rope: 16,
    rope_base: 10000,
    dropout: 0,
  });
  assertEquals(pythia.model.ffn, {
    kind: "dense",
    d_ffn: 2048,
    activation: "gelu_exact",
    biases: true,
  });
  const { norm, residual, head, epsilon } = pythia.model.trunk;
  assertEquals([norm, residual, head, epsilon], ["layer", "parallel", "own", 1e-5]);
  assertEquals(pythia.positions, 2048);
  const parameters = ({ tensors }: ReturnType<typeof readPretrainedConfig>) =>
    tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  // As the model's card counts them.
  assertEquals(parameters(pythia), 70426624);

  const llama = readPretrainedConfig(LLAMA_31_8B);
  assertEquals(parameters(llama), 8030261248);
  const { attention, ffn, trunk } = llama.model;
  assert(attention.kind === "mha");
  assertEquals([attention.num_kv_heads, attention.d_head, attention.d_rope], [8, 128, 128]);
  assertEquals([attention.bias, attention.rope_base], [false, 500000]);
  assertEquals(attention.rope_scaling, {
    type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  });
  assertEquals(ffn, { kind: "dense", d_ffn: 14336, activation: "swiglu", biases: false });
  assertEquals([trunk.norm, trunk.residual, trunk.head], ["rms", "sequential", "own"]);
});

Deno.test("Keys of any year say the same", () => {
  const rest = (keys: Readonly<Record<string, unknown>>, left: readonly string[]) =>
    Object.fromEntries(Object.entries(keys).filter(([key]) => !left.includes(key)));
  const model = (config: unknown) => readPretrainedConfig(config).model;
  assertEquals(
    model({
      ...rest(PYTHIA_70M, ["rotary_emb_base", "rotary_pct"]),
      rope_parameters: { rope_type: "default", rope_theta: 10000, partial_rotary_factor: 0.25 },
      rope_scaling: null,
    }),
    model(PYTHIA_70M),
  );
  assertEquals(
    model({
      ...rest(LLAMA_31_8B, ["rope_theta", "rope_scaling"]),
      rope_parameters: { ...LLAMA_31_8B.rope_scaling, rope_theta: 500000.0 },
    }),
    model(LLAMA_31_8B),
  );
  const linear = { ...SMALL_LLAMA, rope_scaling: { type: "linear", factor: 2 } };
  const { attention } = model(linear);
  assert(attention.kind === "mha");
  assertEquals(attention.rope_scaling, { type: "linear", factor: 2 });
  for (const hidden_act of ["gelu_new", "gelu_fast", "gelu_pytorch_tanh"]) {
    const { ffn } = model({ ...SMALL_NEOX, hidden_act });
    assert(ffn.kind === "dense" && ffn.activation === "gelu");
  }
  // A key that is null or turned off changes nothing.
  const off = { quantization_config: null, use_sliding_window: false, sliding_window: null };
  assertEquals(model({ ...SMALL_LLAMA, ...off }), model(SMALL_LLAMA));
});

const llama = (change: Readonly<Record<string, unknown>>) => ({ ...SMALL_LLAMA, ...change });
const neox = (change: Readonly<Record<string, unknown>>) => ({ ...SMALL_NEOX, ...change });
const scaled = (rope_scaling: unknown) => llama({ rope_scaling });
const LLAMA3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 96,
};

const REFUSED: readonly (readonly [unknown, string])[] = [
  [[], "config.json is []; expected an object"],
  [{}, "config.json: model_type is undefined; expected gpt_neox or llama"],
  [llama({ model_type: "mistral" }), 'model_type is "mistral"; expected gpt_neox or llama'],
  [llama({ model_type: "toString" }), 'model_type is "toString"'],
  [llama({ hidden_size: undefined }), "config.json has no hidden_size"],
  [llama({ hidden_size: null }), "config.json has no hidden_size"],
  [llama({ hidden_size: 26 }), "hidden_size is 26; expected a multiple of 4"],
  [llama({ num_hidden_layers: 1.5 }), "num_hidden_layers is 1.5; expected a whole number"],
  [llama({ num_attention_heads: 5, head_dim: null }), "it does not divide hidden_size 24"],
  [llama({ num_key_value_heads: 3 }), "num_key_value_heads is 3; it does not divide"],
  [
    llama({ head_dim: 260 }),
    "head_dim is 260; a head is 260 wide; expected a multiple of 4, at most 256",
  ],
  [llama({ hidden_act: "gelu" }), 'hidden_act is "gelu"'],
  [neox({ hidden_act: "relu" }), 'hidden_act is "relu"'],
  [neox({ rotary_pct: 0.4 }), "rotary_pct is 0.4; 3 of a head's 8 columns would turn"],
  [neox({ rotary_pct: 1.5 }), "rotary_pct is 1.5; expected a number above 0, at most 1"],
  [
    llama({ sliding_window: 4096 }),
    "sliding_window is 4096; a model with this key is not supported",
  ],
  [llama({ quantization_config: { bits: 4 } }), 'quantization_config is {"bits":4}'],
  [llama({ partial_rotary_factor: 0.5 }), "partial_rotary_factor is 0.5"],
  [scaled({ rope_type: "yarn", factor: 4 }), 'rope_scaling.rope_type is "yarn"; expected default'],
  [scaled({ factor: 4 }), "rope_scaling.factor is 4; it means nothing without a rope_type"],
  [scaled({ rope_type: "linear" }), "rope_scaling.factor is undefined"],
  [scaled({ ...LLAMA3, beta_fast: 3 }), "rope_scaling.beta_fast is 3"],
  [scaled({ ...LLAMA3, high_freq_factor: 1 }), "expected more than low_freq_factor 1"],
  [scaled("linear"), 'rope_scaling is "linear"; expected an object or null'],
  [llama({ rope_theta: "10000" }), 'rope_theta is "10000"'],
  [llama({ rope_theta: 0.5 }), "rope_theta is 0.5; expected a number from 1 to 1e9"],
  [llama({ intermediate_size: 131072 }), "intermediate_size is 131072; expected at most 65536"],
  [llama({ rms_norm_eps: 0 }), "rms_norm_eps is 0"],
  [
    llama({ rope_scaling: LLAMA3, rope_parameters: { rope_theta: 1e4 } }),
    "rope_parameters is there, too; expected one of them",
  ],
];

Deno.test("A key that is missing, wrong or not supported is refused in one line that names it", () => {
  for (const [config, message] of REFUSED) {
    const error = assertThrows(
      () => readPretrainedConfig(JSON.parse(JSON.stringify(config))),
      PretrainedError,
      message,
    );
    assert(!error.message.includes("\n"), error.message);
  }
});
