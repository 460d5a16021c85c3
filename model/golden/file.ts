/**
 * Reads golden files. A file says itself what it holds: its sizes come from its metadata, never from its name or from this code.
 *
 * @module
 */

import { z } from "zod";
import { architectureOf } from "../config.ts";
import type { AttentionSection, FfnSection } from "../section.ts";
import type { Architecture } from "../trunk/architecture.ts";
import type {
  BeamRouterCase,
  BeamSection,
  CaseBase,
  EthosSection,
  GoldenCase,
  GoldenTensor,
  MhaSection,
  MixtureCase,
  MixtureSection,
  MlaSection,
  ModelCase,
  OptimizerCase,
  PeerSection,
  PretrainedCase,
} from "./golden.ts";
import {
  beamContents,
  type Contents,
  gptAttentionContents,
  layerContents,
  mixtureContents,
  mlaContents,
  modelContents,
  optimizerContents,
  pretrainedContents,
  routerContents,
} from "./contents.ts";
import { parseSafetensors, toFloat64 } from "../checkpoint/safetensors.ts";
import { publishedModelOf, storedParameters } from "./published/stored.ts";
import { EXPANDED_KIND, expandedCase } from "./published/expanded.ts";
import { SPARSE_KINDS, sparseCase } from "./sparse.ts";

const count = z.int().min(1).max(2 ** 24);
const positive = z.number().positive();

/** The metadata's `config`, every key that a file may have. Counts are free here, even where the model asks for multiples of 4. */
const metadataSchema = z.object({
  kind: z.string().optional(),
  vocab: count.optional(),
  d_model: count.optional(),
  layers: count.optional(),
  dense_layers: z.int().min(0).optional(),
  d_ffn: count.optional(),
  heads: count.optional(),
  q_rank: count.optional(),
  kv_rank: count.optional(),
  d_nope: count.optional(),
  d_rope: count.multipleOf(2).optional(),
  d_v: count.optional(),
  positions: count.optional(),
  tied: z.boolean().optional(),
  decay: z.enum(["matrices", "all"]).optional(),
  layer_norm_eps: positive.optional(),
  sub_keys: count.optional(),
  routing_heads: count.optional(),
  top_k: count.optional(),
  d_query: count.multipleOf(2).optional(),
  load_balance_coef: z.number().min(0).optional(),
  d_latent: count.optional(),
  d_hidden: count.optional(),
  d_context: z.int().min(0).optional(),
  axes: count.optional(),
  axis_query: count.multipleOf(4).optional(),
  axis_size: count.optional(),
  axis_candidates: count.optional(),
  experts: count.optional(),
  // 0: as wide as a dense layer.
  d_expert: z.int().min(0).max(2 ** 24).optional(),
  moe_top_k: count.optional(),
  dynamic_top_k: count.optional(),
  top_p: z.number().min(0).max(1).optional(),
  switch_coef: z.number().min(0).optional(),
  beam_width: count.optional(),
  // The beam router's file has the letters of its specification.
  D: count.optional(),
  H: count.optional(),
  A: count.optional(),
  r: count.multipleOf(4).optional(),
  S: count.optional(),
  b: count.optional(),
  T: count.optional(),
  B: count.optional(),
  L: count.optional(),
  steps: count.optional(),
  lr: positive.optional(),
  clip: positive.optional(),
  weight_decay: z.number().min(0).optional(),
  beta1: z.number().min(0).lt(1).optional(),
  beta2: z.number().min(0).lt(1).optional(),
  eps: positive.optional(),
  decayed: z.array(z.string()).optional(),
  // A published model's config.json.
  model: z.record(z.string(), z.unknown()).optional(),
  // Constants of the specification: a file computed with others would be about another model.
  rms_eps: z.literal(1e-6).optional(),
  rope_theta: z.literal(10000).optional(),
  bn_eps: z.literal(1e-5).optional(),
  bn_momentum: z.literal(0.1).optional(),
});

/** The `config` of a golden file's metadata. */
type GoldenMetadata = z.infer<typeof metadataSchema>;

/** Reads keys that a file of its kind must have. */
function required<Key extends keyof GoldenMetadata>(
  metadata: GoldenMetadata,
  keys: readonly Key[],
  file: string,
): { [K in Key]: NonNullable<GoldenMetadata[K]> } {
  for (const key of keys) {
    if (metadata[key] === undefined) {
      throw new SyntaxError(`${file}: the metadata's config has no ${key}`);
    }
  }
  return metadata as { [K in Key]: NonNullable<GoldenMetadata[K]> };
}

/** A reader of sections from metadata, for a file of this name. */
type SectionReader<Section> = (metadata: GoldenMetadata, file: string) => Section;

/** Attention of a file's metadata. */
function mlaOf(metadata: GoldenMetadata): MlaSection {
  return {
    kind: "mla",
    num_heads: metadata.heads ?? 1,
    q_lora_rank: metadata.q_rank ?? 4,
    kv_lora_rank: metadata.kv_rank ?? 4,
    d_nope: metadata.d_nope ?? 4,
    d_rope: metadata.d_rope ?? 8,
    d_v: metadata.d_v ?? 4,
    rope_base: metadata.rope_theta ?? 10000,
  };
}

/** Multi-head attention of a file's metadata. */
function mhaOf({ heads = 1 }: GoldenMetadata): MhaSection {
  const turning = { d_rope: 0, rope_base: 10000 };
  return { kind: "mha", num_heads: heads, bias: true, dropout: 0, ...turning };
}

/** The product-key router of a file's metadata. */
function productKeyOf(metadata: GoldenMetadata, file: string) {
  const { sub_keys = 2, top_k = 1, layers = 1, dense_layers = 0 } = metadata;
  if (top_k > sub_keys) {
    throw new SyntaxError(`${file}: top_k ${top_k} is more than the ${sub_keys} sub_keys`);
  }
  if (dense_layers >= layers) {
    throw new SyntaxError(`${file}: dense_layers ${dense_layers} leaves none of ${layers} layers`);
  }
  return {
    num_experts: sub_keys ** 2,
    routing_heads: metadata.routing_heads ?? 1,
    top_k,
    d_query: metadata.d_query ?? 8,
    router_batch_norm: true,
    load_balance_coef: metadata.load_balance_coef ?? 0,
  };
}

/** PEER of a file's metadata. */
function peerOf(metadata: GoldenMetadata, file: string): PeerSection {
  return { kind: "peer", ...productKeyOf(metadata, file), execution: "auto" };
}

/** ETHOS of a file's metadata; of the router alone with experts of the smallest size. */
function ethosOf(metadata: GoldenMetadata, file: string): EthosSection {
  return {
    kind: "ethos",
    router: "product_key",
    ...productKeyOf(metadata, file),
    d_latent: metadata.d_latent ?? 4,
    d_hidden: metadata.d_hidden ?? 4,
    d_context: metadata.d_context ?? 0,
    execution: "auto",
  };
}

/** ETHOS behind a beam router; of the router alone with experts of the smallest size. */
function beamOf(metadata: GoldenMetadata, file: string): BeamSection {
  const keys = [
    "routing_heads",
    "top_k",
    "axes",
    "axis_query",
    "axis_size",
    "axis_candidates",
    "beam_width",
  ] as const;
  const found = required(metadata, keys, file);
  const sizes = Object.fromEntries(keys.map((key) => [key, found[key]])) as Pick<
    typeof found,
    typeof keys[number]
  >;
  const { top_k, beam_width } = sizes;
  if (top_k > beam_width) {
    throw new SyntaxError(`${file}: top_k ${top_k} is more than the beam_width ${beam_width}`);
  }
  return {
    kind: "ethos",
    router: "beam",
    ...sizes,
    d_latent: metadata.d_latent ?? 4,
    d_hidden: metadata.d_hidden ?? 4,
    d_context: metadata.d_context ?? 0,
    execution: "auto",
  };
}

/** Experts of a file's metadata, and their width. */
function expertsOf(metadata: GoldenMetadata, file: string) {
  const { experts, d_expert } = required(metadata, ["experts", "d_expert"], file);
  const width = d_expert || required(metadata, ["d_ffn"], file).d_ffn;
  return { num_experts: experts, d_expert: width };
}

/** Switch of a file's metadata. */
function switchOf(metadata: GoldenMetadata, file: string): MixtureSection {
  const load_balance_coef = metadata.switch_coef ?? 0;
  return { kind: "switch", ...expertsOf(metadata, file), load_balance_coef };
}

/** The section `model.ffn` of the top-k mixture. */
type TopkMoeSection = Extract<MixtureSection, { kind: "topk_moe" }>;

/** The top-k mixture of a file's metadata. */
function topkMoeOf(metadata: GoldenMetadata, file: string): TopkMoeSection {
  return {
    kind: "topk_moe",
    ...expertsOf(metadata, file),
    top_k: required(metadata, ["moe_top_k"], file).moe_top_k,
    biases: true,
    gelu: "tanh",
    // These files have no such term, though the program has a coefficient for other kinds.
    load_balance_coef: 0,
    expert_dropout: 0,
    choice: "top_k",
    expert_init: "normal",
  };
}

/** The experts of the sparse transformer in a file's metadata. */
function sparseTransformerOf(metadata: GoldenMetadata, file: string): TopkMoeSection {
  const { load_balance_coef } = required(metadata, ["load_balance_coef"], file);
  return {
    ...topkMoeOf(metadata, file),
    biases: false,
    gelu: "exact",
    load_balance_coef,
    expert_init: "fan_in",
  };
}

/** The mixtures of the sparse transformer in a file's metadata: one of k experts, one of as many as it takes. */
function sparseMoeOf(metadata: GoldenMetadata, file: string): MixtureCase["passes"] {
  const { dynamic_top_k, top_p } = required(metadata, ["dynamic_top_k", "top_p"], file);
  const section = sparseTransformerOf(metadata, file);
  return [
    { prefix: "", section },
    { prefix: "dynamic.", section: { ...section, top_k: dynamic_top_k, choice: "top_p", top_p } },
  ];
}

/** The feed-forward layers that models in golden files have, by the metadata's `kind`. */
const FFN_OF: Readonly<Record<string, SectionReader<FfnSection>>> = {
  beam: beamOf,
  dense: ({ d_ffn = 4 }) => ({ kind: "dense", d_ffn }),
  ethos: ethosOf,
  peer: peerOf,
  sparse_moe: sparseTransformerOf,
  switch: switchOf,
  topk_moe: topkMoeOf,
};

/** The mixtures that a layer's file is about, by the metadata's `kind`. */
const MIXTURES_OF: Readonly<Record<string, SectionReader<MixtureCase["passes"]>>> = {
  switch: (...of) => [{ prefix: "", section: switchOf(...of) }],
  topk_moe: (...of) => [{ prefix: "", section: topkMoeOf(...of) }],
  sparse_moe_layer: sparseMoeOf,
};

/**
 * The model of a golden file's metadata, whose names are shorter: `heads`, `q_rank`, `sub_keys`. A size that the file
 * leaves out, since its case does not need it, becomes the smallest that there is.
 */
function goldenModel(
  metadata: GoldenMetadata,
  file: string,
  sections: { attention?: AttentionSection; ffn?: FfnSection } = {},
): Architecture {
  const { layers = 1, dense_layers = 0 } = metadata;
  const { attention = mlaOf(metadata), ffn = { kind: "dense", d_ffn: 4 } } = sections;
  return architectureOf({
    vocab_size: metadata.vocab ?? 2,
    d_model: required(metadata, ["d_model"], file).d_model,
    num_layers: layers,
    // Only a dense model may have nothing but leading layers, which are then as its others.
    leading_dense: { num_layers: Math.min(dense_layers, layers - 1), d_ffn: metadata.d_ffn ?? 4 },
    attention,
    ffn,
    trunk: {
      norm: metadata.layer_norm_eps === undefined ? "rms" : "layer",
      epsilon: metadata.layer_norm_eps ?? metadata.rms_eps ?? 1e-6,
      positions: metadata.positions === undefined ? "none" : "learned",
      max_positions: metadata.positions ?? 1,
      residual: "sequential",
      head: metadata.tied === false ? "own" : "tied",
      dropout: 0,
    },
  });
}

/** Splits a file's tensors into inputs and results, and checks that those of its kind are there in their shapes. */
function take(
  tensors: ReadonlyMap<string, GoldenTensor>,
  contents: Contents,
  file: string,
): CaseBase {
  for (const [name, shape] of [...contents.inputs, ...contents.results]) {
    const found = tensors.get(name);
    if (found === undefined) throw new SyntaxError(`${file}: the tensor ${name} is missing`);
    if (found.shape.join() !== shape.join()) {
      throw new SyntaxError(
        `${file}: ${name} has the shape [${found.shape.join(", ")}], expected [${
          shape.join(", ")
        }]`,
      );
    }
  }
  const inputs = new Map<string, GoldenTensor>();
  const expected = new Map<string, GoldenTensor>();
  for (const [name, tensor] of tensors) {
    (contents.inputs.has(name) ? inputs : expected).set(name, tensor);
  }
  return { file, inputs, expected };
}

/** A file's `config`, whatever is in it. */
function parseConfig(text: string | undefined, file: string): unknown {
  if (text === undefined) {
    throw new SyntaxError(`${file} is not a golden file: its metadata has no config`);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new SyntaxError(`${file}: the metadata's config is not JSON`, { cause });
  }
}

/** A file's `config`, checked. */
function parseMetadata(json: unknown, file: string): GoldenMetadata {
  const parsed = metadataSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new SyntaxError(
    `${file}: the metadata's config ${issue.path.join(".") || "as a whole"}: ${issue.message}`,
  );
}

/**
 * Reads a golden file.
 *
 * @param file Its name in tables and errors.
 * @throws {SyntaxError} If the file is malformed or of no known kind: what is wrong with which tensor or key.
 */
export function parseGolden(bytes: Uint8Array, file: string): GoldenCase {
  const parsed = parseSafetensors(bytes, file);
  const config = parseConfig(parsed.metadata["config"], file);
  const metadata = parseMetadata(config, file);
  const { kind, vocab } = metadata;
  const reader = kind !== undefined && Object.hasOwn(FFN_OF, kind) ? FFN_OF[kind] : undefined;
  const tensors = new Map<string, GoldenTensor>();
  for (const [name, tensor] of parsed.tensors) {
    const whole = !["F16", "BF16", "F32", "F64"].includes(tensor.dtype);
    tensors.set(name, { shape: tensor.shape, data: toFloat64(tensor), whole });
  }
  const sparse = SPARSE_KINDS.find((known) => known === kind);
  const parts = { config, file, take: (contents: Contents) => take(tensors, contents, file) };
  if (sparse) return sparseCase(sparse, parts);
  if (kind === EXPANDED_KIND) return expandedCase(parts);
  if (kind === undefined && metadata.beta1 !== undefined) {
    return optimizerCase(metadata, tensors, file);
  }
  if (reader && vocab !== undefined) {
    return modelCase(metadata, tensors, { file, ffn: reader(metadata, file) });
  }
  if (kind !== undefined && Object.hasOwn(MIXTURES_OF, kind)) {
    const { T: tokens } = required(metadata, ["d_model", "T"], file);
    const passes = MIXTURES_OF[kind]!(metadata, file);
    const architecture = goldenModel(metadata, file, { ffn: passes[0]!.section });
    const contents = mixtureContents(architecture, passes, tokens);
    return { kind: "mixture", architecture, tokens, passes, ...take(tensors, contents, file) };
  }
  if (kind === undefined && metadata.heads !== undefined) {
    const keys = ["d_model", "q_rank", "kv_rank", "d_nope", "d_rope", "d_v", "B", "L"] as const;
    const { B: batch, L: length } = required(metadata, keys, file);
    const mla = mlaOf(metadata);
    const architecture = goldenModel(metadata, file, { attention: mla });
    const base = take(tensors, mlaContents(architecture, batch, length), file);
    return { kind: "mla", architecture, mla, batch, length, ...base };
  }
  if (kind === "tiny") return pretrainedCase(metadata, tensors, file);
  if (kind === "gpt_attention") {
    const keys = ["d_model", "heads", "layer_norm_eps", "B", "L"] as const;
    const { B: batch, L: length } = required(metadata, keys, file);
    const mha = mhaOf(metadata);
    const architecture = goldenModel(metadata, file, { attention: mha });
    const base = take(tensors, gptAttentionContents(architecture, batch, length), file);
    return { kind, architecture, mha, batch, length, ...base };
  }
  if (kind === "router" || kind === "ethos" || kind === "peer") {
    const keys = ["d_model", "sub_keys", "routing_heads", "top_k", "d_query", "T"] as const;
    const { T: tokens } = required(metadata, keys, file);
    if (kind === "router") {
      const ethos = ethosOf(metadata, file);
      const architecture = goldenModel(metadata, file, { ffn: ethos });
      const contents = routerContents(architecture, ethos, tokens);
      return { kind, architecture, ethos, tokens, ...take(tensors, contents, file) };
    }
    if (kind === "ethos") required(metadata, ["d_latent", "d_hidden", "d_context"], file);
    const ffn = kind === "ethos" ? ethosOf(metadata, file) : peerOf(metadata, file);
    const architecture = goldenModel(metadata, file, { ffn });
    const contents = layerContents(architecture, ffn, tokens);
    return { kind: "layer", architecture, ffn, tokens, ...take(tensors, contents, file) };
  }
  if (kind === undefined && metadata.beam_width !== undefined) {
    return beamRouterCase(metadata, tensors, file);
  }
  throw new SyntaxError(
    kind === undefined
      ? `${file}: cannot tell from the metadata's config what it holds`
      : `${file}: unknown kind ${JSON.stringify(kind)}`,
  );
}

function beamRouterCase(
  metadata: GoldenMetadata,
  tensors: ReadonlyMap<string, GoldenTensor>,
  file: string,
): BeamRouterCase {
  const letters = required(metadata, ["B", "D", "H", "A", "r", "S", "b"], file);
  const sizes: GoldenMetadata = {
    ...metadata,
    d_model: letters.D,
    routing_heads: letters.H,
    axes: letters.A,
    axis_query: letters.r,
    axis_size: letters.S,
    axis_candidates: letters.b,
  };
  const beam = beamOf(sizes, file);
  const architecture = goldenModel(sizes, file, { ffn: beam });
  const base = take(tensors, beamContents(architecture, beam, letters.B), file);
  return { kind: "beam_router", architecture, beam, tokens: letters.B, ...base };
}

function modelCase(
  metadata: GoldenMetadata,
  tensors: ReadonlyMap<string, GoldenTensor>,
  { file, ffn }: { file: string; ffn: FfnSection },
): ModelCase {
  const latent = metadata.q_rank !== undefined;
  const dense = ffn.kind === "dense" || (metadata.dense_layers ?? 0) > 0;
  const trunk = [
    "layers",
    "heads",
    ...dense ? ["d_ffn"] as const : [],
    ...latent ? ["kv_rank", "d_nope", "d_rope", "d_v"] as const : [],
  ] as const;
  const run = ["B", "L", "steps", "lr", "clip", "weight_decay"] as const;
  const found = required(metadata, [...trunk, ...run], file);
  const attention = latent ? mlaOf(metadata) : mhaOf(metadata);
  const architecture = goldenModel(metadata, file, { attention, ffn });
  const sizes = { batch: found.B, length: found.L, steps: found.steps };
  return {
    kind: "model",
    architecture,
    ...sizes,
    learningRate: found.lr,
    clip: found.clip,
    weightDecay: found.weight_decay,
    decay: metadata.decay ?? "matrices",
    beta1: metadata.beta1 ?? 0.9,
    beta2: metadata.beta2 ?? 0.999,
    epsilon: metadata.eps ?? 1e-8,
    ...take(tensors, modelContents(architecture, sizes), file),
  };
}

function pretrainedCase(
  metadata: GoldenMetadata,
  tensors: ReadonlyMap<string, GoldenTensor>,
  file: string,
): PretrainedCase {
  const { model, B: batch, L: length } = required(metadata, ["model", "B", "L"], file);
  const published = publishedModelOf(model, { key: "model", file });
  const base = take(tensors, pretrainedContents(published, batch, length), file);
  const architecture = architectureOf(published.published.model);
  const parameters = storedParameters(published, base.inputs);
  return { kind: "pretrained", architecture, parameters, batch, length, ...base };
}

function optimizerCase(
  metadata: GoldenMetadata,
  tensors: ReadonlyMap<string, GoldenTensor>,
  file: string,
): OptimizerCase {
  const keys = ["steps", "beta1", "beta2", "eps", "weight_decay", "clip", "decayed"] as const;
  const found = required(metadata, keys, file);
  const parameters = new Map<string, readonly number[]>();
  for (const [name, { shape }] of tensors) {
    if (name.startsWith("param.")) parameters.set(name.slice("param.".length), shape);
  }
  if (parameters.size === 0) throw new SyntaxError(`${file}: there are no param.* tensors`);
  for (const name of found.decayed) {
    if (!parameters.has(name)) {
      throw new SyntaxError(`${file}: decayed names ${name}, but there is no param.${name}`);
    }
  }
  return {
    kind: "optimizer",
    steps: found.steps,
    beta1: found.beta1,
    beta2: found.beta2,
    epsilon: found.eps,
    weightDecay: found.weight_decay,
    clip: found.clip,
    names: [...parameters.keys()],
    decaying: new Set(found.decayed),
    ...take(tensors, optimizerContents(parameters, found.steps), file),
  };
}
