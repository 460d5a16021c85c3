/**
 * The parameters of a model: names in files, shapes, initial values, which of them decay.
 *
 * Everything that allocates, initialises, optimises, saves or counts parameters walks this one list.
 *
 * @module
 */

import { isSparse, type ModelConfig, subKeys } from "../config.ts";

/** Where a parameter's initial values come from. */
export type Initialisation =
  | { readonly kind: "normal"; readonly std: number }
  | { readonly kind: "ones" }
  | { readonly kind: "zeros" };

/**
 * What a parameter is part of: the tied embedding, norms of the trunk, attention, dense SwiGLU, router, the latent codes of
 * all experts, or the generator that turns codes into experts.
 */
export type ParameterRole =
  | "embedding"
  | "norm"
  | "attention"
  | "dense"
  | "router"
  | "latent"
  | "generator";

/** One tensor of a model. */
export interface ParameterSpec {
  /** Name in files: `layers.3.attn.w_dq`. */
  readonly name: string;
  /** Input × output for matrices. */
  readonly shape: readonly number[];
  /** What it is part of. */
  readonly role: ParameterRole;
  /** Where its values come from. */
  readonly init: Initialisation;
  /** Whether the optimiser decays it: matrices, the embedding, sub-keys and latent codes, never norms and biases. */
  readonly decay: boolean;
  /**
   * True for the router's bias under batch norm: its exact gradient is zero, and it is held at zero gradient, since AdamW
   * would turn rounding noise into full steps.
   */
  readonly held: boolean;
}

/** Standard deviation of every matrix that the specification does not single out. */
const BASE_STD = 0.02;

const normal = (std: number): Initialisation => ({ kind: "normal", std });
const ones: Initialisation = { kind: "ones" };
const zeros: Initialisation = { kind: "zeros" };

/** Number of elements of a tensor. */
export function size(spec: Pick<ParameterSpec, "shape">): number {
  return spec.shape.reduce((product, n) => product * n, 1);
}

/** A decaying matrix. */
function weight(
  name: string,
  shape: readonly number[],
  role: ParameterRole,
  std = BASE_STD,
): ParameterSpec {
  return { name, shape, role, init: normal(std), decay: true, held: false };
}

/** A gain or a bias: one-dimensional, not decaying. */
function vector(
  name: string,
  width: number,
  role: ParameterRole,
  init: Initialisation,
): ParameterSpec {
  return { name, shape: [width], role, init, decay: false, held: false };
}

/** Matrices that write into the residual stream start smaller, the more layers add to it. */
function residualStd(config: ModelConfig): number {
  return BASE_STD / Math.sqrt(2 * config.num_layers);
}

function attention(config: ModelConfig, at: string): ParameterSpec[] {
  const { d_model, num_heads, q_lora_rank, kv_lora_rank, d_nope, d_rope, d_v } = config;
  return [
    weight(`${at}.w_dq`, [d_model, q_lora_rank], "attention"),
    vector(`${at}.q_norm.weight`, q_lora_rank, "attention", ones),
    weight(`${at}.w_uq`, [q_lora_rank, num_heads * (d_nope + d_rope)], "attention"),
    weight(`${at}.w_dkv`, [d_model, kv_lora_rank + d_rope], "attention"),
    vector(`${at}.kv_norm.weight`, kv_lora_rank, "attention", ones),
    weight(`${at}.w_ukv`, [kv_lora_rank, num_heads * (d_nope + d_v)], "attention"),
    weight(`${at}.w_o`, [num_heads * d_v, d_model], "attention", residualStd(config)),
  ];
}

function dense(config: ModelConfig, at: string): ParameterSpec[] {
  const { d_model, d_ffn } = config;
  return [
    weight(`${at}.w_gate`, [d_model, d_ffn], "dense"),
    weight(`${at}.w_up`, [d_model, d_ffn], "dense"),
    weight(`${at}.w_down`, [d_ffn, d_model], "dense", residualStd(config)),
  ];
}

function router(config: ModelConfig, at: string): ParameterSpec[] {
  const { d_model, routing_heads, d_query, router_batch_norm } = config;
  const width = routing_heads * d_query;
  const keys = [subKeys(config), d_query / 2];
  const keyStd = 1 / Math.sqrt(d_query / 2);
  return [
    weight(`${at}.w_q`, [d_model, width], "router"),
    { ...vector(`${at}.b_q`, width, "router", zeros), held: router_batch_norm },
    ...(router_batch_norm
      ? [
        vector(`${at}.bn.gamma`, width, "router", ones),
        vector(`${at}.bn.beta`, width, "router", zeros),
      ]
      : []),
    weight(`${at}.k1`, keys, "router", keyStd),
    weight(`${at}.k2`, keys, "router", keyStd),
  ];
}

function experts(config: ModelConfig, at: string): ParameterSpec[] {
  const { d_model, num_experts, d_latent, d_hidden, d_context } = config;
  return [
    weight(`${at}.z`, [num_experts, d_latent], "latent", 1),
    weight(`${at}.w1`, [d_latent + d_context, d_hidden], "generator", 1 / Math.sqrt(d_latent)),
    weight(`${at}.w_u`, [d_model, d_hidden], "generator"),
    weight(`${at}.w_v`, [d_hidden, d_model], "generator", residualStd(config)),
    ...(d_context > 0 ? [weight(`${at}.w_c`, [d_model, d_context], "generator")] : []),
  ];
}

/**
 * The trained parameters of a model, in the order of the forward pass.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { modelSchema } from "../config.ts";
 * import { parameterSpecs } from "./parameters.ts";
 * const specs = parameterSpecs({ ...modelSchema.parse({}), vocab_size: 100277 });
 * assert(specs[0]?.name === "embed.weight");
 * ```
 */
export function parameterSpecs(config: ModelConfig): ParameterSpec[] {
  const { d_model, vocab_size, num_layers } = config;
  const specs = [weight("embed.weight", [vocab_size, d_model], "embedding")];
  for (let i = 0; i < num_layers; i++) {
    const at = `layers.${i}`;
    specs.push(
      vector(`${at}.attn_norm.weight`, d_model, "norm", ones),
      ...attention(config, `${at}.attn`),
      vector(`${at}.ffn_norm.weight`, d_model, "norm", ones),
      ...(isSparse(config, i)
        ? [...router(config, `${at}.ffn.router`), ...experts(config, `${at}.ffn`)]
        : dense(config, `${at}.ffn`)),
    );
  }
  specs.push(vector("final_norm.weight", d_model, "norm", ones));
  return specs;
}

/** A tensor that a model keeps but no gradient trains: batch norm's running statistics. */
export interface StatisticSpec {
  /** Name in files: `layers.3.ffn.router.bn.mean`. */
  readonly name: string;
  /** One size: the features. */
  readonly shape: readonly number[];
  /** Where its values come from. */
  readonly init: Initialisation;
}

/** The running statistics of a model, in the order of the forward pass; none without `router_batch_norm`. */
export function statisticSpecs(config: ModelConfig): StatisticSpec[] {
  if (!config.router_batch_norm) return [];
  const shape = [config.routing_heads * config.d_query];
  return Array.from({ length: config.num_layers }, (_, i) => i)
    .filter((i) => isSparse(config, i))
    .flatMap((i) => [
      { name: `layers.${i}.ffn.router.bn.mean`, shape, init: zeros },
      { name: `layers.${i}.ffn.router.bn.var`, shape, init: ones },
    ]);
}

/** Everything that a model of this configuration allocates: parameters, then running statistics, which are not trained. */
export function weightSpecs(
  config: ModelConfig,
): { name: string; shape: readonly number[]; decay: boolean; trained: boolean }[] {
  return [
    ...parameterSpecs(config).map((spec) => ({ ...spec, trained: true })),
    ...statisticSpecs(config).map((spec) => ({ ...spec, decay: false, trained: false })),
  ];
}
