/**
 * The softmax over the sums of a routing head's kept experts, backward.
 *
 * @module
 */

import source from "../../../shaders/routing/routing_softmax_backward.wgsl" with { type: "text" };
import { grid, read, readScalar, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/**
 * Records the gradient of the kept sums, `dtotal_j = score_j · (dscore_j − Σ_i score_i dscore_i)` over each `top_k` numbers.
 *
 * @param input `score` and `dscore` f32 `[T, H·k]`; `dropped` says that some experts have score 0 and count as not kept.
 * @returns f32 `[T, H·k]`.
 */
export function softmaxBackward(
  plan: Plan,
  label: string,
  input: {
    readonly score: Tensor;
    readonly dscore: Tensor;
    readonly top_k: number;
    readonly dropped?: boolean;
  },
): Tensor {
  const { score, dscore, top_k, dropped = false } = input;
  const workgroup = 64;
  const rows = score.size / top_k;
  const dtotal = plan.tensor(`${label}.dtotal`, dscore.shape);
  plan.dispatch({
    label: `${label}.softmax`,
    name: "routing_softmax_backward",
    source,
    constants: { WORKGROUP: workgroup, TOP: top_k, DROPPED: dropped },
    params: { rows },
    bindings: top_k % 4 === 0
      ? { score: read(score), dscore: read(dscore), dtotal: write(dtotal) }
      : {
        score: readScalar(score),
        dscore: readScalar(dscore),
        dtotal: writeScalar(dtotal),
      },
    workgroups: grid(Math.ceil(rows / workgroup)),
  });
  return dtotal;
}
