/**
 * Batch norm over tokens, and the plain bias that takes its place when it is off.
 *
 * Every sum over tokens is made in two stages, chunks of rows and then the chunks in a fixed order, so that it is the same bits each time.
 *
 * @module
 */

import applySource from "../../../shaders/norm/batch_norm_apply.wgsl" with { type: "text" };
import backwardSource from "../../../shaders/norm/batch_norm_backward.wgsl" with { type: "text" };
import gradientSource from "../../../shaders/norm/batch_norm_gradient.wgsl" with { type: "text" };
import mergeSource from "../../../shaders/norm/batch_norm_merge.wgsl" with { type: "text" };
import momentsSource from "../../../shaders/norm/batch_norm_moments.wgsl" with { type: "text" };
import sumsSource from "../../../shaders/norm/batch_norm_sums.wgsl" with { type: "text" };
import { f32, grid, read, update, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

const EPSILON = 1e-5;
const MOMENTUM = 0.1;
/** Rows that an invocation does. */
const ROWS = 8;

/** Parameters and running statistics, f32 `[F]` each. */
interface BatchNormWeights {
  /** Scale. */
  readonly gamma: Tensor;
  /** Shift. */
  readonly beta: Tensor;
  /** The bias of the layer before; `x` comes without it. */
  readonly bias: Tensor;
  /** Moves towards the mean of `x + bias`. */
  readonly running_mean: Tensor;
  /** Moves towards the unbiased variance. */
  readonly running_variance: Tensor;
}

/** The statistics that normalised the batch, f32 `[F]` each. */
export interface BatchStatistics {
  /** Of `x`, without the bias. */
  readonly mean: Tensor;
  /** `1 / √(variance + 1e-5)`. */
  readonly inverse: Tensor;
}

/** Where the gradient of a vector goes. */
export interface VectorGradient {
  /** f32 `[F]`. */
  readonly tensor: Tensor;
  /** Whether it is overwritten or added to. */
  readonly epilogue: "none" | "accumulate";
}

function sizes(plan: Plan, x: Tensor) {
  const width = x.width / 4;
  const chunk = Math.max(32, Math.ceil(x.rows / 256));
  const chunks = Math.ceil(x.rows / chunk);
  const { software } = plan.gpu.capabilities;
  const workgroup = 64;
  return {
    width,
    chunk,
    chunks,
    constants: { WORKGROUP: workgroup },
    groups: (invocations: number) => grid(Math.ceil(invocations / workgroup)),
    /** Of what does every element: some rows of a column an invocation, which then reads what belongs to the column once. */
    each: {
      constants: { WORKGROUP: workgroup, ROWS },
      workgroups: grid(Math.ceil(Math.ceil(x.rows / ROWS) * width / workgroup)),
    },
    /** Of what adds up chunks: features are few, so several invocations share one. */
    over: {
      constants: { COLUMNS: 8, LANES: software ? 1 : 16 },
      workgroups: grid(Math.ceil(width / 8)),
    },
  };
}

/**
 * Records `y = batchnorm(x + bias)`.
 *
 * In training the statistics are the batch's, and the running ones move by 0.1 towards them (unbiased variance). In evaluation they
 * are the running ones, which stay as they are.
 *
 * @param input `x` and `y` `[T, F]` of any float type.
 * @throws {RangeError} In training with a single token, which has no unbiased variance.
 */
export function batchNorm(
  plan: Plan,
  label: string,
  input: {
    x: Tensor;
    y: Tensor;
    weights: BatchNormWeights;
    training: boolean;
    /** False for a pass that is computed again, whose batch the running statistics already know; defaults to true. */
    updateRunning?: boolean;
  },
): BatchStatistics {
  const { x, y, weights, training, updateRunning = true } = input;
  const { width, chunk, chunks, constants, groups, each, over } = sizes(plan, x);
  const rows = x.rows;
  if (training && rows < 2) {
    throw new RangeError(
      `${label}: batch norm in training needs at least 2 tokens, got ${rows}: one has no unbiased variance`,
    );
  }
  const statistics: BatchStatistics = {
    mean: plan.tensor(`${label}.mean`, [x.width]),
    inverse: plan.tensor(`${label}.inverse`, [x.width]),
  };
  const common = { bias: read(weights.bias) };
  const results = { mean: write(statistics.mean), inverse: write(statistics.inverse) };
  const merge = {
    label: `${label}.statistics`,
    name: "batch_norm_merge",
    source: mergeSource,
    constants: { ...over.constants, ...(!training && { LANES: 1 }), TRAINING: training },
    workgroups: over.workgroups,
  };
  if (training) {
    const partial = plan.tensor(`${label}.partial`, [chunks, 2, x.width]);
    plan.dispatch({
      label: `${label}.moments`,
      name: "batch_norm_moments",
      source: momentsSource,
      constants,
      params: { rows, width, chunk, chunks },
      bindings: { x: read(x), partial: write(partial) },
      workgroups: groups(chunks * width),
    });
    plan.dispatch({
      ...merge,
      params: {
        rows,
        width,
        chunk,
        chunks,
        epsilon: f32(EPSILON),
        momentum: f32(updateRunning ? MOMENTUM : 0),
      },
      bindings: {
        ...common,
        partial: read(partial),
        running_mean: update(weights.running_mean),
        running_variance: update(weights.running_variance),
        ...results,
      },
    });
  } else {
    plan.dispatch({
      ...merge,
      params: { width, epsilon: f32(EPSILON) },
      bindings: {
        ...common,
        running_mean: read(weights.running_mean),
        running_variance: read(weights.running_variance),
        ...results,
      },
    });
  }
  plan.dispatch({
    label: `${label}.apply`,
    name: "batch_norm_apply",
    source: applySource,
    constants: { ...each.constants, NORM: true },
    params: { rows, width },
    bindings: {
      x: read(x),
      mean: read(statistics.mean),
      inverse: read(statistics.inverse),
      gamma: read(weights.gamma),
      beta: read(weights.beta),
      y: write(y),
    },
    workgroups: each.workgroups,
  });
  return statistics;
}

/**
 * Records the gradients of {@linkcode batchNorm} in training.
 *
 * @param input `x` as given forward, `dy` and `dx` `[T, F]` of any float type.
 */
export function batchNormBackward(
  plan: Plan,
  label: string,
  input: {
    x: Tensor;
    dy: Tensor;
    dx: Tensor;
    gamma: Tensor;
    statistics: BatchStatistics;
    gradients: { gamma: VectorGradient; beta: VectorGradient };
  },
): void {
  const { x, dy, dx, statistics, gradients } = input;
  const { width, chunk, chunks, constants, groups, each, over } = sizes(plan, x);
  const rows = x.rows;
  const partial = plan.tensor(`${label}.partial`, [chunks, 2, x.width]);
  const sums = plan.tensor(`${label}.sums`, [2, x.width]);
  const mean = read(statistics.mean);
  const inverse = read(statistics.inverse);
  plan.dispatch({
    label: `${label}.partial_sums`,
    name: "batch_norm_sums",
    source: sumsSource,
    constants: { ...constants, NORM: true },
    params: { rows, width, chunk, chunks },
    bindings: { dy: read(dy), x: read(x), mean, inverse, partial: write(partial) },
    workgroups: groups(chunks * width),
  });
  plan.dispatch({
    label: `${label}.sums`,
    name: "batch_norm_gradient",
    source: gradientSource,
    constants: { ...over.constants, NORM: true },
    params: { width, chunks, accumulate: gradients.beta.epilogue === "accumulate" ? 1 : 0 },
    bindings: {
      partial: read(partial),
      dgamma: update(gradients.gamma.tensor),
      dbeta: update(gradients.beta.tensor),
      sums: write(sums),
    },
    workgroups: over.workgroups,
  });
  plan.dispatch({
    label: `${label}.dx`,
    name: "batch_norm_backward",
    source: backwardSource,
    constants: each.constants,
    params: { rows, width },
    bindings: {
      dy: read(dy),
      x: read(x),
      mean,
      inverse,
      gamma: read(input.gamma),
      sums: read(sums),
      dx: write(dx),
    },
    workgroups: each.workgroups,
  });
}

/** Records `y = x + bias`, `x` f32 `[T, F]`, `y` of any float type. */
export function addBias(
  plan: Plan,
  label: string,
  input: { x: Tensor; bias: Tensor; y: Tensor },
): void {
  const { width, each } = sizes(plan, input.x);
  plan.dispatch({
    label,
    name: "batch_norm_apply",
    source: applySource,
    constants: { ...each.constants, NORM: false },
    params: { rows: input.x.rows, width },
    bindings: { x: read(input.x), beta: read(input.bias), y: write(input.y) },
    workgroups: each.workgroups,
  });
}

/** Records the gradient of a bias: the sums of `dy`'s columns. */
export function biasGradient(
  plan: Plan,
  label: string,
  input: { dy: Tensor; gradient: VectorGradient },
): void {
  const { dy, gradient } = input;
  const { width, chunk, chunks, constants, groups, over } = sizes(plan, dy);
  const partial = plan.tensor(`${label}.partial`, [chunks, 2, dy.width]);
  plan.dispatch({
    label: `${label}.partial_sums`,
    name: "batch_norm_sums",
    source: sumsSource,
    constants: { ...constants, NORM: false },
    params: { rows: dy.rows, width, chunk, chunks },
    bindings: { dy: read(dy), partial: write(partial) },
    workgroups: groups(chunks * width),
  });
  plan.dispatch({
    label: `${label}.sums`,
    name: "batch_norm_gradient",
    source: gradientSource,
    constants: { ...over.constants, NORM: false },
    params: { width, chunks, accumulate: gradient.epilogue === "accumulate" ? 1 : 0 },
    bindings: { partial: read(partial), dbeta: update(gradient.tensor) },
    workgroups: over.workgroups,
  });
}
