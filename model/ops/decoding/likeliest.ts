/**
 * The likeliest tokens of rows of logits, so that a host reads a few numbers a row instead of a vocabulary.
 *
 * @module
 */

import source from "../../../shaders/decoding/likeliest.wgsl" with { type: "text" };
import partsSource from "../../../shaders/decoding/likeliest_parts.wgsl" with { type: "text" };
import orderSource from "../../../shaders/decoding/logit_order.wgsl" with { type: "text" };
import rowsSource from "../../../shaders/gemm/rows.wgsl" with { type: "text" };
import { grid, read, readScalar, updateScalar, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Words of `asked` a row: the target, and how many choices are wanted. */
export const ASKED_WORDS = 2;

/** Words of `found` a row, with room for so many choices. */
export function foundWords(choices: number): number {
  return 2 + 2 * choices;
}

/**
 * Records, for each row of logits: `Σ exp(logits − largest)`, the logit of a target, and the tokens with the largest logits, of equals the lower number first. A
 * logit that is not finite comes before all others; the sum is no number then.
 *
 * Sums are f32 in parts of about the square root of the vocabulary. A row's bits do not depend on the other rows, nor on how many choices another row wants.
 *
 * @param tensors `logits` `[rows, stride]`; `asked` `[rows, 2]` u32: the target, any number beyond the vocabulary for none, and the choices, from 1 to the room in
 *   `found`; `found` `[rows, 2 + 2·most]` u32, written: the bits of the sum and of the target's logit, then tokens and the bits of their logits. Where the
 *   vocabulary has fewer tokens than are wanted, the token 0xffffffff follows the last one.
 */
export function likeliest(
  plan: Plan,
  label: string,
  tensors: { logits: Tensor; asked: Tensor; found: Tensor },
  { vocabulary }: { vocabulary: number },
): void {
  const { logits, asked, found } = tensors;
  const { rows } = logits;
  const { software } = plan.gpu.capabilities;
  const { orders, tokens, sums, sizes } = likeliestParts(plan, `${label}.parts`, logits, {
    vocabulary,
  });
  const lanes = software ? 8 : 256;
  plan.dispatch({
    label,
    name: "likeliest",
    source: rowsSource + orderSource + source,
    constants: { LANES: lanes, BY_ROW: software },
    params: { ...sizes, width: found.width },
    bindings: {
      z: read(logits),
      asked: readScalar(asked),
      orders: updateScalar(orders),
      tokens: updateScalar(tokens),
      sums: readScalar(sums),
      found: writeScalar(found),
    },
    workgroups: grid(software ? Math.ceil(rows / lanes) : rows),
    bytes: orders.bytes + tokens.bytes + sums.bytes + found.bytes,
  });
}

/** The first choice of each part of a row, and what {@linkcode likeliest} makes of them. */
interface LikeliestParts {
  /** `[rows, parts]` u32: the order of the choice's logit, as `logit_order.wgsl` has it. */
  readonly orders: Tensor;
  /** `[rows, parts]` u32. */
  readonly tokens: Tensor;
  /** `[rows, parts]`: `Σ exp(logits − the choice's)`. */
  readonly sums: Tensor;
  /** Parameters that the kernels share. */
  readonly sizes: Readonly<
    Record<"rows" | "vocabulary" | "stride" | "vectors" | "parts", number>
  >;
}

/** Records the first choice of each part of rows of logits `[rows, stride]`. */
export function likeliestParts(
  plan: Plan,
  label: string,
  logits: Tensor,
  { vocabulary }: { vocabulary: number },
): LikeliestParts {
  const { rows } = logits;
  const { software } = plan.gpu.capabilities;
  const vectors = Math.ceil(vocabulary / 4);
  // A choice looks at all parts and at one of them; a GPU's workgroup looks at many parts at once.
  const parts = Math.min(vectors, Math.ceil(Math.sqrt(vectors)) * (software ? 1 : 4));
  const [orders, tokens] = ["orders", "tokens"].map((name) =>
    plan.tensor(`${label}.${name}`, [rows, parts], { dtype: "u32" })
  ) as [Tensor, Tensor];
  const sums = plan.tensor(`${label}.sums`, [rows, parts]);
  const sizes = { rows, vocabulary, stride: logits.width / 4, vectors, parts };
  const lanes = software ? 8 : 64;
  plan.dispatch({
    label,
    name: "likeliest_parts",
    source: orderSource + partsSource,
    constants: { LANES: lanes },
    params: sizes,
    bindings: {
      z: read(logits),
      orders: writeScalar(orders),
      tokens: writeScalar(tokens),
      sums: writeScalar(sums),
    },
    workgroups: grid(Math.ceil(rows * parts / lanes)),
    flops: 4 * rows * vocabulary,
  });
  return { orders, tokens, sums, sizes };
}
