/**
 * Cross-entropy of next-token prediction, with its gradient in place of the logits.
 *
 * @module
 */

import countSource from "../../../shaders/elementwise/count_targets.wgsl" with { type: "text" };
import source from "../../../shaders/elementwise/cross_entropy.wgsl" with { type: "text" };
import lanesSource from "../../../shaders/elementwise/cross_entropy_lanes.wgsl" with {
  type: "text",
};
import rowsSource from "../../../shaders/gemm/rows.wgsl" with { type: "text" };
import { f32, grid, read, readFields, readScalar, update, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type Tensor } from "../../gpu/tensor.ts";
import { CONTROL } from "../control.ts";
import { laneBlocks } from "../norm/norm_rows.ts";

/** A target that is not predicted: it has no loss and no gradient. */
export const NO_TARGET = 0xffffffff;

/** Vectors of four logits that an invocation asks for at once, on real GPUs. */
const UNROLL = 4;
/** Vectors of four logits that a lane of a software adapter keeps, at most. */
const KEPT = 16;

/**
 * Records `losses[first + r] = −log softmax(logits[r])[targets[first + r]]` in nats.
 *
 * With `gradient`, the logits become the gradient of `scale · Σ losses`, times the loss scale of the {@linkcode CONTROL} tensor,
 * and with `predictions` divided by that number ({@linkcode countTargets}).
 *
 * @param tensors `logits` `[rows, stride]` of any float type, zero beyond the vocabulary; `targets` `[T]` u32; `losses` `[T]` f32.
 */
export function crossEntropy(
  plan: Plan,
  label: string,
  tensors: { logits: Tensor; targets: Tensor; losses: Tensor },
  options: {
    vocabulary: number;
    rows: number;
    first: number;
    gradient?: { scale: number; control: Tensor; predictions?: Tensor | undefined };
  },
): void {
  const { logits, targets, losses } = tensors;
  const { gradient, rows } = options;
  const { constants, params, ...kernel } = kernelOf(plan, {
    rows,
    columns: logits.width,
    vocabulary: options.vocabulary,
  });
  plan.dispatch({
    label,
    ...kernel,
    constants: {
      ...constants,
      GRADIENT: gradient !== undefined,
      COUNTED: gradient?.predictions !== undefined,
    },
    params: {
      rows,
      vocabulary: options.vocabulary,
      ...params,
      first: options.first,
      scale: f32(gradient?.scale ?? 0),
    },
    bindings: {
      z: gradient ? update(logits) : read(logits),
      targets: readScalar(targets),
      losses: writeScalar(losses),
      ...(gradient ? { control: readFields(gradient.control, CONTROL) } : {}),
      ...(gradient?.predictions ? { predictions: readScalar(gradient.predictions) } : {}),
    },
    flops: 8 * rows * options.vocabulary,
    bytes: rows * logits.width * BYTES[logits.dtype] * (gradient ? 3 : 1),
  });
}

/** The kernel for rows of so many logits: a software adapter's lanes keep rows that are not too long. */
function kernelOf(plan: Plan, x: { rows: number; columns: number; vocabulary: number }) {
  const blocks = laneBlocks(plan, x, KEPT);
  if (blocks) {
    const { LANES, VECTORS } = blocks.constants;
    return {
      name: "cross_entropy_lanes",
      source: blocks.source + lanesSource,
      constants: { ...blocks.constants, WHOLE: x.vocabulary === 4 * LANES * VECTORS },
      params: { block_rows: blocks.rows, columns4: x.columns / 4 },
      workgroups: grid(blocks.blocks),
    };
  }
  const { software } = plan.gpu.capabilities;
  const lanes = software ? 8 : 256;
  return {
    name: "cross_entropy",
    source: rowsSource + source,
    constants: { LANES: lanes, BY_ROW: software, UNROLL: software ? 1 : UNROLL },
    params: { stride: x.columns / 4 },
    workgroups: grid(software ? Math.ceil(x.rows / lanes) : x.rows),
  };
}

/** Invocations that count; losses are summed by as many. */
const COUNT_LANES = 64;

/**
 * Records `predictions[0] =` how many targets are predicted, at least 1 so that it can be divided by.
 *
 * @param tensors `targets` `[T]` u32; `predictions` f32 of one vector of four.
 */
export function countTargets(
  plan: Plan,
  label: string,
  tensors: { targets: Tensor; predictions: Tensor },
): void {
  const { targets, predictions } = tensors;
  plan.dispatch({
    label,
    name: "count_targets",
    source: rowsSource + countSource,
    constants: { LANES: COUNT_LANES, BY_ROW: false },
    params: { count: targets.size },
    bindings: { targets: readScalar(targets), predictions: writeScalar(predictions) },
    workgroups: [1, 1, 1],
  });
}
