/**
 * Sizes and operands of attention.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import type { RecordedDropout } from "../dropout/dropout.ts";
import type { HeadWidths } from "./attention_kernels.ts";

/** Sizes of an attention. Widths are per head and multiples of 4, of which `d_rope` may be 0; counts are free. */
export interface AttentionSizes extends HeadWidths {
  /** Sequences; tokens `T = batch · length`. */
  readonly batch: number;
  /** Tokens of a sequence; any count. */
  readonly length: number;
  /** Heads. */
  readonly heads: number;
}

/** Operands of the forward pass; f32 or f16 unless said otherwise. */
export interface AttentionForward {
  /** Counts and widths. */
  readonly sizes: AttentionSizes;
  /** Rotated queries `[T, heads·(nope+rope)]`. */
  readonly q: Tensor;
  /** Keys and values `[T, heads·(nope+v)]`, per head `[k_n | v]`. */
  readonly kv: Tensor;
  /** Rotated keys `[T, rope]`, shared by the heads; absent where `d_rope` is 0. */
  readonly kr?: Tensor | undefined;
  /** Result `[T, heads·v]`. */
  readonly o: Tensor;
  /** Result `[heads, T]`, f32: the logarithm of each row's sum of exponentials. */
  readonly log_sum: Tensor;
  /**
   * Of the probabilities, where heads share no part of their keys: a query's place in `log_sum` is a mask's row, a key's place in its sequence the column.
   */
  readonly dropout?: RecordedDropout | undefined;
}

/** Operands of the backward pass. */
export interface AttentionBackward extends AttentionForward {
  /** Gradient of `o`. */
  readonly d_o: Tensor;
  /** Gradient of `q`. */
  readonly d_q: Tensor;
  /** Gradient of `kv`. */
  readonly d_kv: Tensor;
  /** `[T, heads·rope]`: each head's part of the gradient of `kr`, still to be summed. */
  readonly d_kr?: Tensor | undefined;
}
