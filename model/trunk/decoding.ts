/**
 * The network for generation, recorded into a plan: the next tokens of sequences, with a cache for each layer.
 *
 * @module
 */

import type { Tensor } from "../gpu/tensor.ts";
import type { LayerContext } from "../layer/context.ts";
import type { CacheSizes, Decoder } from "../layer/kind.ts";
import { embeddingForward } from "../ops/elementwise/embedding.ts";
import type { Architecture } from "./architecture.ts";
import { headLogits } from "./head.ts";
import { recordEmbedding } from "./network.ts";
import { recordNorm } from "./norm.ts";

/** Inputs of {@linkcode recordDecoding}. */
export interface DecodingInput {
  /** The next tokens, `[T]` u32, sequence after sequence. */
  readonly tokens: Tensor;
  /** Position of the first of each sequence, `[B]` u32. */
  readonly position: Tensor;
  /** The token whose logits are wanted, by its row, `[1]` u32; without it those of all are. */
  readonly row?: Tensor;
  /** One a layer; see {@linkcode decoders}. */
  readonly decoders: readonly Decoder[];
}

/** The caches of all layers, without memory, and their steps. */
export function decoders(
  { config, attention }: Architecture,
  sizes: CacheSizes,
): readonly Decoder[] {
  return Array.from(
    { length: config.num_layers },
    (_, i) => attention.decoder(`layers.${i}.attn`, sizes),
  );
}

/**
 * Records the forward pass of the next tokens, in a context in evaluation mode whose batch are the decoders' sequences, and appends them to the caches.
 *
 * @returns The logits after token `row`, or after every one, `[rows, V rounded up to 4]` f32.
 */
export function recordDecoding(
  context: LayerContext,
  architecture: Architecture,
  input: DecodingInput,
): Tensor {
  const { plan } = context;
  const { config } = architecture;
  const { tokens, position, row, decoders } = input;
  let x = recordEmbedding(context, architecture, { tokens, position });
  decoders.forEach((decoder, i) => {
    const at = `layers.${i}`;
    const norm = (name: string, x: Tensor) =>
      recordNorm(context, `${at}.${name}`, { architecture, x }).y;
    const attention = decoder.record(context, { x: norm("attn_norm", x), residual: x, position });
    const read = config.trunk.residual === "parallel" ? x : attention;
    x = architecture.feedForward(i).forward(context, `${at}.ffn`, {
      x: norm("ffn_norm", read),
      residual: attention,
    }).y;
  });
  if (!row) return headLogits(context, { architecture, x });
  // Only one row's logits are wanted, and picking a row by number is what an embedding does.
  const last = context.activation("last", 1, config.d_model);
  embeddingForward(plan, "last", { tokens: row, parts: [x], x: last });
  return headLogits(context, { architecture, x: last });
}
