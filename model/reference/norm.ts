/**
 * RMS norm and layer norm (statistics of each row), and batch norm (statistics of each column).
 *
 * @module
 */

import {
  addScaled,
  columnSums,
  dot,
  type Matrix,
  matrix,
  row,
  type Weights,
  zip,
} from "./matrix.ts";

const BATCH_EPSILON = 1e-5;
const BATCH_MOMENTUM = 0.1;

/** The result of {@linkcode rmsNormForward}; the input of {@linkcode rmsNormBackward}. */
export interface RmsNorm {
  /** Output, shaped as the input. */
  readonly y: Matrix;
  /** Input, one vector a row. */
  readonly x: Matrix;
  /** One factor a column. */
  readonly gain: Float64Array;
  /** `1 / sqrt(mean(x²) + ε)` of each row. */
  readonly inverse: Float64Array;
}

/** `y = x / sqrt(mean(x²) + ε) ⊙ gain`, row by row. */
export function rmsNormForward(
  x: Matrix,
  gain: Float64Array,
  { epsilon = 1e-6 }: { epsilon?: number } = {},
): RmsNorm {
  const y = matrix(x.rows, x.columns);
  const inverse = new Float64Array(x.rows);
  for (let t = 0; t < x.rows; t++) {
    const v = row(x, t);
    const scale = 1 / Math.sqrt(dot(v, v) / x.columns + epsilon);
    inverse[t] = scale;
    row(y, t).set(v.map((value, i) => value * scale * gain[i]!));
  }
  return { y, x, gain, inverse };
}

/** Gradients of the input and of the gain. */
export function rmsNormBackward(
  saved: RmsNorm,
  gradient: Matrix,
): { x: Matrix; gain: Float64Array } {
  const { x, gain, inverse } = saved;
  const gx = matrix(x.rows, x.columns);
  const gGain = new Float64Array(x.columns);
  for (let t = 0; t < x.rows; t++) {
    const scale = inverse[t]!;
    const normalised = row(x, t).map((value) => value * scale);
    const upstream = row(gradient, t);
    const inner = upstream.map((value, i) => value * gain[i]!);
    const mean = dot(inner, normalised) / x.columns;
    row(gx, t).set(inner.map((value, i) => scale * (value - normalised[i]! * mean)));
    addScaled(gGain, 1, upstream.map((value, i) => value * normalised[i]!));
  }
  return { x: gx, gain: gGain };
}

/** The result of {@linkcode layerNormForward}; the input of {@linkcode layerNormBackward}. */
export interface LayerNorm {
  /** Output, shaped as the input. */
  readonly y: Matrix;
  /** One factor a column. */
  readonly gain: Float64Array;
  /** The input with its row's statistics taken out, before gain and bias. */
  readonly normalised: Matrix;
  /** `1 / sqrt(variance + ε)` of each row. */
  readonly inverse: Float64Array;
}

/** `y = (x − mean) / sqrt(variance + ε) ⊙ gain + bias`, row by row, with the biased variance. */
export function layerNormForward(
  x: Matrix,
  weights: Weights<"weight" | "bias">,
  { epsilon = 1e-5 }: { epsilon?: number } = {},
): LayerNorm {
  const { weight: gain, bias } = weights;
  const y = matrix(x.rows, x.columns);
  const normalised = matrix(x.rows, x.columns);
  const inverse = new Float64Array(x.rows);
  for (let t = 0; t < x.rows; t++) {
    const mean = row(x, t).reduce((sum, value) => sum + value, 0) / x.columns;
    const centred = row(x, t).map((value) => value - mean);
    const variance = dot(centred, centred) / x.columns;
    inverse[t] = 1 / Math.sqrt(variance + epsilon);
    const unit = centred.map((value) => value * inverse[t]!);
    row(normalised, t).set(unit);
    row(y, t).set(unit.map((value, i) => value * gain[i]! + bias[i]!));
  }
  return { y, gain, normalised, inverse };
}

/** Gradients of the input, of the gain and of the bias. */
export function layerNormBackward(
  saved: LayerNorm,
  gradient: Matrix,
): { x: Matrix; weight: Float64Array; bias: Float64Array } {
  const { gain, normalised, inverse } = saved;
  const gx = matrix(gradient.rows, gradient.columns);
  for (let t = 0; t < gradient.rows; t++) {
    const unit = row(normalised, t);
    const inner = row(gradient, t).map((value, i) => value * gain[i]!);
    const mean = inner.reduce((sum, value) => sum + value, 0) / inner.length;
    const along = dot(inner, unit) / inner.length;
    row(gx, t).set(inner.map((value, i) => inverse[t]! * (value - mean - unit[i]! * along)));
  }
  return {
    x: gx,
    weight: columnSums(zip(gradient, normalised, (g, n) => g * n)),
    bias: columnSums(gradient),
  };
}

/** Running statistics of a batch norm. */
export interface RunningStatistics {
  /** One a feature. */
  readonly mean: Float64Array;
  /** One a feature; unbiased. */
  readonly variance: Float64Array;
}

/** Names of a batch norm's trained parameters and running statistics. */
type BatchNormName = "bn.gamma" | "bn.beta" | "bn.mean" | "bn.var";

/** The result of {@linkcode batchNormForward}; the input of {@linkcode batchNormBackward}. */
export interface BatchNorm {
  /** Output, shaped as the input. */
  readonly y: Matrix;
  /** Running statistics after this pass; in evaluation those that were used. */
  readonly running: RunningStatistics;
  /** Whether the statistics are those of the batch. */
  readonly training: boolean;
  /** One factor a column. */
  readonly gamma: Float64Array;
  /** The input with the statistics taken out, before γ and β. */
  readonly normalised: Matrix;
  /** `1 / sqrt(variance + 1e-5)` of each column. */
  readonly inverse: Float64Array;
}

/**
 * `y = (x − mean) / sqrt(variance + 1e-5) ⊙ γ + β`, column by column.
 *
 * In training the statistics are those of the rows (biased variance), and the running ones move a tenth of the way
 * (with the unbiased variance); in evaluation the running ones are used.
 *
 * @throws {RangeError} In training with a single row: there is no unbiased variance.
 */
export function batchNormForward(
  x: Matrix,
  weights: Weights<BatchNormName>,
  options: { training: boolean },
): BatchNorm {
  const { training } = options;
  const gamma = weights["bn.gamma"];
  const beta = weights["bn.beta"];
  let running: RunningStatistics = { mean: weights["bn.mean"], variance: weights["bn.var"] };
  let { mean, variance } = running;
  if (training) {
    const count = x.rows;
    if (count < 2) {
      throw new RangeError(
        `Cannot take batch norm's statistics over ${count} token: the unbiased variance needs at least 2`,
      );
    }
    mean = columnSums(x).map((sum) => sum / count);
    const squares = new Float64Array(x.columns);
    for (let t = 0; t < count; t++) {
      addScaled(squares, 1, row(x, t).map((value, i) => (value - mean[i]!) ** 2));
    }
    variance = squares.map((sum) => sum / count);
    const move = (old: number, seen: number) => (1 - BATCH_MOMENTUM) * old + BATCH_MOMENTUM * seen;
    running = {
      mean: running.mean.map((old, i) => move(old, mean[i]!)),
      variance: running.variance.map((old, i) => move(old, squares[i]! / (count - 1))),
    };
  }
  const inverse = variance.map((value) => 1 / Math.sqrt(value + BATCH_EPSILON));
  const normalised = matrix(x.rows, x.columns);
  const y = matrix(x.rows, x.columns);
  for (let t = 0; t < x.rows; t++) {
    const unit = row(x, t).map((value, i) => (value - mean[i]!) * inverse[i]!);
    row(normalised, t).set(unit);
    row(y, t).set(unit.map((value, i) => value * gamma[i]! + beta[i]!));
  }
  return { y, running, training, gamma, normalised, inverse };
}

/** Gradients of the input, γ and β. In training the statistics depend on the input too. */
export function batchNormBackward(
  saved: BatchNorm,
  gradient: Matrix,
): { x: Matrix; gamma: Float64Array; beta: Float64Array } {
  const { training, gamma, normalised, inverse } = saved;
  const beta = columnSums(gradient);
  const gGamma = columnSums(zip(gradient, normalised, (g, n) => g * n));
  const gx = matrix(gradient.rows, gradient.columns);
  const count = gradient.rows;
  for (let t = 0; t < count; t++) {
    const unit = row(normalised, t);
    row(gx, t).set(
      row(gradient, t).map((g, i) => {
        const centred = training ? g - beta[i]! / count - unit[i]! * gGamma[i]! / count : g;
        return centred * gamma[i]! * inverse[i]!;
      }),
    );
  }
  return { x: gx, gamma: gGamma, beta };
}
