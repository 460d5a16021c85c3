/**
 * The network for generation, recorded into a plan: the next tokens of one sequence, with a latent cache for each layer.
 *
 * @module
 */

import { isSparse, type ModelConfig } from "../config.ts";
import type { DType, Tensor } from "../gpu/tensor.ts";
import type { LayerContext } from "../layer/context.ts";
import { ethosForward } from "../ffn/ethos/ethos.ts";
import { headLogits } from "./head.ts";
import { type LatentCache, latentCache, mlaDecode } from "../attention/mla/decode.ts";
import { swigluLayerForward } from "../ffn/dense/swiglu.ts";
import { norm } from "./network.ts";
import { embeddingForward } from "../ops/elementwise/embedding.ts";

/** What {@linkcode recordDecoding} reads. */
export interface DecodingTensors {
  /** The next tokens, `[T]` u32. */
  readonly tokens: Tensor;
  /** Position of the first of them, `[1]` u32. */
  readonly position: Tensor;
  /** Which of them the logits are of, `[1]` u32. */
  readonly row: Tensor;
  /** A cache a layer; see {@linkcode latentCaches}. */
  readonly caches: readonly LatentCache[];
}

/** The caches of all layers, without memory. */
export function latentCaches(
  config: ModelConfig,
  options: { capacity: number; dtype: DType },
): readonly LatentCache[] {
  return Array.from(
    { length: config.num_layers },
    (_, i) => latentCache(`layers.${i}.attn`, config, options),
  );
}

/**
 * Records the forward pass of the next tokens, in a context of one sequence in evaluation mode. Their latents are appended to the caches.
 *
 * @returns The logits after token `row`, `[1, V rounded up to 4]` f32.
 */
export function recordDecoding(context: LayerContext, tensors: DecodingTensors): Tensor {
  const { plan, config } = context;
  const { tokens, position, row, caches } = tensors;
  let x = context.activation("embed", context.tokens, config.d_model);
  const table = context.weights.value("embed.weight").parts;
  embeddingForward(plan, "embed", { tokens, parts: table, x });
  for (let i = 0; i < config.num_layers; i++) {
    const at = `layers.${i}`;
    const attention = mlaDecode(context, `${at}.attn`, {
      x: norm(context, `${at}.attn_norm`, x).y,
      residual: x,
      cache: caches[i]!,
      position,
    });
    const { y: input } = norm(context, `${at}.ffn_norm`, attention);
    x = isSparse(config, i)
      ? ethosForward(context, `${at}.ffn`, input, attention).y
      : swigluLayerForward(context, `${at}.ffn`, { x: input, residual: attention }).y;
  }
  // Only one row's logits are wanted, and picking a row by number is what an embedding does.
  const last = context.activation("last", 1, config.d_model);
  embeddingForward(plan, "last", { tokens: row, parts: [x], x: last });
  return headLogits(context, last);
}
