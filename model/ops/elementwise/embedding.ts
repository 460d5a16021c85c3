/**
 * The embedding: rows of a table by token, and the gradient of the table.
 *
 * @module
 */

import forwardSource from "../../../shaders/elementwise/embedding_forward.wgsl" with {
  type: "text",
};
import { grid, read, readScalar, update, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { matrix } from "../gemm/matrix.ts";
import { rowsOf, segmentSum } from "../routing/segment_sum.ts";
import type { Sorted } from "../routing/sort.ts";

/**
 * Records `x[t] = E[tokens[t]]`.
 *
 * @param tensors `tokens` `[T]` u32, `parts` of the table `[V, D]`, `x` `[T, D]` f32.
 */
export function embeddingForward(
  plan: Plan,
  label: string,
  tensors: { tokens: Tensor; parts: readonly Tensor[]; x: Tensor },
): void {
  const { tokens, parts, x } = tensors;
  // A part leaves the other parts' rows alone, which is an update in the plan's eyes.
  if (parts.length > 1) plan.clear(x);
  let first = 0;
  for (const part of parts) {
    plan.dispatch({
      label,
      name: "embedding_forward",
      source: forwardSource,
      params: { tokens: tokens.size, width: x.width / 4, first, rows: part.rows },
      bindings: {
        tokens: readScalar(tokens),
        e: read(part),
        x: parts.length > 1 ? update(x) : write(x),
      },
      workgroups: grid(Math.ceil(x.size / 256)),
      bytes: 2 * x.bytes,
    });
    first += part.rows;
  }
}

/**
 * Records `dE[id] += Σ dx[t]` over the positions of each token. Text repeats few tokens often: their sums are made in pieces.
 *
 * @param tensors The tokens, sorted; `dx` `[T, D]`, `parts` of the gradient `[V, D]`, which hold what the output head wrote.
 */
export function embeddingBackward(
  plan: Plan,
  label: string,
  tensors: { sorted: Sorted; dx: Tensor; parts: readonly Tensor[] },
): void {
  const { sorted, dx, parts } = tensors;
  const entries = rowsOf(matrix(dx));
  let first = 0;
  for (const part of parts) {
    segmentSum(plan, label, { sorted, entries, out: matrix(part), first, accumulate: true });
    first += part.rows;
  }
}
