/**
 * The model's configuration: every size of the paper's network, with the rules that tie them together.
 *
 * @module
 */

import { z } from "zod";

/** Widths are bound to the GPU as `vec4`s. */
const VECTOR = 4;

/** A positive whole number. */
const count = (what: string, maximum = 2 ** 24) =>
  z.int(`${what} must be a whole number`).min(1).max(maximum).describe(what);

/** A width of a matrix: a positive multiple of 4. */
const width = (what: string, maximum = 65536) =>
  z.int(`${what} must be a whole number`).min(VECTOR).max(maximum)
    .refine((n) => n % VECTOR === 0, {
      error: (issue) => {
        const n = Number(issue.input);
        const below = Math.floor(n / VECTOR) * VECTOR;
        return `${n} is not a multiple of ${VECTOR}; ${below > 0 ? `${below} and ` : ""}${
          below + VECTOR
        } are`;
      },
    })
    .describe(what);

/** `num_experts` must be a square, since an expert is a pair of sub-keys. */
const squareCount = z.int("num_experts must be a whole number").min(4).max(2 ** 24)
  .refine((n) => Number.isInteger(Math.sqrt(n)), {
    error: (issue) => {
      const root = Math.floor(Math.sqrt(Number(issue.input)));
      return `${issue.input} is not a perfect square; ${root ** 2} and ${(root + 1) ** 2} are`;
    },
  })
  .describe("experts in a layer, N = K²: an expert is a pair of K sub-keys");

const fields = z.strictObject({
  kind: z.enum(["ethos", "dense"]).default("ethos")
    .describe("ethos: generated experts after the leading dense layers; dense: SwiGLU everywhere"),
  d_model: width("width of the residual stream, D").default(1024),
  num_layers: count("layers", 512).default(16),
  num_dense_layers: z.int().min(0).max(512).default(2)
    .describe("leading layers with a dense SwiGLU feed-forward"),
  d_ffn: width("SwiGLU width F of the dense layers").default(4096),
  num_heads: count("attention heads", 1024).default(16),
  q_lora_rank: width("rank of the query's low-rank projection").default(768),
  kv_lora_rank: width("rank of the keys' and values' latent").default(256),
  d_nope: width("per-head query and key width without rotary position").default(64),
  d_rope: width("per-head query and key width with rotary position").default(64),
  d_v: width("per-head value width").default(64),
  num_experts: squareCount.default(262144),
  routing_heads: count("routing heads, H", 256).default(8),
  top_k: count("experts kept per head, k", 64).default(16),
  d_query: width("query width per routing head, both halves together").default(512),
  router_batch_norm: z.boolean().default(true)
    .describe("normalise the router's queries over the micro-batch"),
  load_balance_coef: z.number().min(0).max(1000).default(0)
    .describe("coefficient of the load-balancing loss; 0 turns it off"),
  d_latent: width("width of an expert's latent code").default(128),
  d_hidden: width("hidden width of the hypernetwork").default(512),
  d_context: z.int().min(0).max(65536).default(0)
    .describe("width of the token's context in context-aware generation; 0 is static generation"),
  execution: z.enum(["auto", "materialized", "fused", "naive"]).default("auto").describe(
    "how experts run: every one generated once a step, per kept expert inside the kernel, or with u and v formed; auto picks by tokens",
  ),
});

/** The `model` section, validated. Widths are multiples of 4. */
export interface ModelSection {
  /** `ethos`: generated experts after the leading dense layers; `dense`: SwiGLU everywhere. */
  readonly kind: "ethos" | "dense";
  /** Width of the residual stream, D. */
  readonly d_model: number;
  /** Layers, those with a dense feed-forward included. */
  readonly num_layers: number;
  /** Leading layers with a dense SwiGLU feed-forward; fewer than `num_layers` in an `ethos` model. */
  readonly num_dense_layers: number;
  /** Width F of the dense layers' SwiGLU. */
  readonly d_ffn: number;
  /** Attention heads. */
  readonly num_heads: number;
  /** Rank of the query's low-rank projection. */
  readonly q_lora_rank: number;
  /** Rank of the latent that keys and values are formed from, which is what decoding caches. */
  readonly kv_lora_rank: number;
  /** Per-head width of queries and keys without rotary position. */
  readonly d_nope: number;
  /** Per-head width of queries and keys with rotary position. */
  readonly d_rope: number;
  /** Per-head width of values. */
  readonly d_v: number;
  /** Experts in a layer, `N = K²`: an expert is a pair of K sub-keys. */
  readonly num_experts: number;
  /** Routing heads, H. */
  readonly routing_heads: number;
  /** Experts kept per routing head, k; at most K. */
  readonly top_k: number;
  /** Query width per routing head, both halves together; a multiple of 8. */
  readonly d_query: number;
  /** Whether the router's queries are normalised over the micro-batch. */
  readonly router_batch_norm: boolean;
  /** Coefficient of the load-balancing loss; 0 turns it off. */
  readonly load_balance_coef: number;
  /** Width of an expert's latent code. */
  readonly d_latent: number;
  /** Hidden width of the hypernetwork. */
  readonly d_hidden: number;
  /** Width of the token's context in context-aware generation; 0 is static generation. */
  readonly d_context: number;
  /**
   * How experts run: every one generated once a step (`materialized`), per kept expert inside the kernel (`fused`), or with
   * their two vectors formed in memory (`naive`); `auto` picks by the number of tokens. Changes no stored number.
   */
  readonly execution: "auto" | "materialized" | "fused" | "naive";
}

/**
 * A Zod schema of the `model` section.
 *
 * @ignore Zod's own documentation describes it.
 */
export type ModelSchema = z.ZodType<ModelSection>;

/**
 * Schema of the `model` section. Defaults are the paper's values.
 *
 * @example
 * ```ts
 * import { modelSchema } from "./config.ts";
 * const model = modelSchema.parse({ d_latent: 64 });
 * console.assert(model.num_experts === 262144);
 * ```
 */
export const modelSchema: ModelSchema = fields.superRefine((model, context) => {
  const issue = (key: keyof typeof model, message: string) =>
    context.addIssue({ code: "custom", path: [key], message, input: model[key] });
  const subKeys = Math.sqrt(model.num_experts);
  if (model.kind === "ethos" && model.num_dense_layers >= model.num_layers) {
    issue(
      "num_dense_layers",
      `${model.num_dense_layers} leaves none of the ${model.num_layers} layers for experts; at most ${
        model.num_layers - 1
      }`,
    );
  }
  if (model.top_k > subKeys) {
    issue(
      "top_k",
      `${model.top_k} is more than the ${subKeys} sub-keys of an axis (the square root of num_experts ${model.num_experts}); at most ${subKeys}`,
    );
  }
  if (model.d_query % (2 * VECTOR) !== 0) {
    issue(
      "d_query",
      `${model.d_query} is not a multiple of 8; each half must be a multiple of 4, so ${
        Math.floor(model.d_query / 8) * 8 || 8
      } or ${Math.floor(model.d_query / 8) * 8 + 8}`,
    );
  }
  if (model.d_context % VECTOR !== 0) {
    issue("d_context", `${model.d_context} is not a multiple of ${VECTOR}`);
  }
});

/** A model's configuration: the `model` section with the vocabulary of the tokens that it reads. */
export interface ModelConfig extends ModelSection {
  /** Vocabulary size, V; any count. */
  readonly vocab_size: number;
}

/** Sub-keys on an axis, `K = √N`. */
export function subKeys(config: Pick<ModelSection, "num_experts">): number {
  return Math.round(Math.sqrt(config.num_experts));
}

/** Whether layer `index` has generated experts rather than a dense SwiGLU. */
export function isSparse(
  config: Pick<ModelSection, "kind" | "num_dense_layers">,
  index: number,
): boolean {
  return config.kind === "ethos" && index >= config.num_dense_layers;
}
