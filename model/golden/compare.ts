/**
 * Judges an implementation by a golden case: errors beside tolerances, tensor by tensor.
 *
 * @module
 */

import { givenChoice } from "./choice.ts";
import type {
  Comparison,
  GoldenCase,
  GoldenImplementation,
  GoldenResults,
  GoldenTensor,
  GoldenTolerance,
} from "./golden.ts";
import { isSparse, sparseTolerance } from "./sparse.ts";

/** A measure of one tensor's error, and its tolerance. */
type Criterion = Pick<Comparison, "tolerance"> & {
  readonly measure: Exclude<Comparison["measure"], "tokens">;
};

/** One other expert changes the set of a token that keeps several, so this many times the part of experts may be tokens. */
const TOKENS_OF_CHOICES = 4;

/** Below this magnitude a tensor is all but zero, and its error is taken as it is. */
const NEGLIGIBLE = 1e-6;

/** The tolerances that a tensor must keep, with the exceptions that the mathematics asks for. */
function criteria(golden: GoldenCase, name: string, tolerance: GoldenTolerance): Criterion[] {
  const { choices } = tolerance;
  if (golden.expected.get(name)?.whole) {
    return [
      choices === undefined
        ? { measure: "equal", tolerance: 0 }
        : { measure: "share", tolerance: choices },
    ];
  }
  if (golden.kind === "beam_router" && choices === undefined) {
    // The published program forms the angles in another order, and its codes are off by as much.
    return /^out\.codes/.test(name)
      ? [{ measure: "absolute", tolerance: 5e-4 }]
      : [{ measure: "relative", tolerance: 1e-3 }];
  }
  if (isSparse(golden) || golden.kind === "expanded") {
    const precision = tolerance.outputs > 1e-6 ? "gpu" : "float64";
    return [{ measure: "relative", tolerance: sparseTolerance(name, precision) }];
  }
  const model = golden.kind === "model";
  if (golden.kind !== "optimizer" && /(^|\.)grad\.(.*\.)?b_q$/.test(name)) {
    // Exactly zero in training: batch norm removes the bias. The file holds rounding noise.
    return [{ measure: "absolute", tolerance: 1e-3 }];
  }
  if (model && /^after\..*\.b_q$/.test(name)) {
    // AdamW makes full steps of that noise where an implementation does not hold the gradient at zero.
    return [{ measure: "absolute", tolerance: 3 * golden.learningRate }];
  }
  if (model && /^after\..*\.bn\.mean$/.test(name)) {
    return [{ measure: "absolute", tolerance: 1e-3 }]; // the running mean follows the bias
  }
  const running = model && /^after\..*\.bn\.var$/.test(name);
  if (name.startsWith("after.") && !running) {
    const { largest, mean } = tolerance.adamW;
    return [
      { measure: "absolute", tolerance: largest },
      ...(mean === undefined ? [] : [{ measure: "mean absolute", tolerance: mean } as const]),
    ];
  }
  // No optimiser moves running variances: they follow the activations, and are judged as outputs are. A norm of gradients is off as far
  // as they are. The moments are sums of gradients and of their squares: far smaller than the parameters, so judged as gradients, too.
  const gradient = /^((balance|dynamic)\.)?grad\./.test(name) ||
    (model && choices !== undefined && name === "out.grad_norms") ||
    (golden.kind === "optimizer" && /^[mv]\./.test(name));
  return [{
    // Where choices may differ, a few numbers are those of other experts: what counts is how far all are off together.
    measure: choices === undefined ? "relative" : "relative norm",
    tolerance: gradient ? tolerance.gradients : tolerance.outputs,
  }];
}

/** The error of `actual` in a measure; NaN if either is not a number somewhere. */
function measured(
  measure: Criterion["measure"],
  actual: ArrayLike<number>,
  expected: Float64Array,
): number {
  let largest = 0;
  let sum = 0;
  let magnitude = 0;
  let different = 0;
  let squares = 0;
  let expectedSquares = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    largest = Math.max(largest, difference);
    sum += difference;
    magnitude = Math.max(magnitude, Math.abs(expected[i]!));
    if (difference !== 0) different++;
    squares += difference ** 2;
    expectedSquares += expected[i]! ** 2;
  }
  switch (measure) {
    case "equal":
      return different;
    case "share":
      return expected.length === 0 ? 0 : different / expected.length;
    case "relative norm":
      return magnitude > NEGLIGIBLE ? Math.sqrt(squares / expectedSquares) : Math.sqrt(squares);
    case "absolute":
      return largest;
    case "mean absolute":
      return expected.length === 0 ? 0 : sum / expected.length;
    case "relative":
      return magnitude > NEGLIGIBLE ? largest / magnitude : largest;
  }
}

function compare(
  name: string,
  { measure, tolerance }: Criterion,
  values: { actual: ArrayLike<number> | undefined; expected: GoldenTensor },
): Comparison {
  const { actual, expected } = values;
  const base = { tensor: name, measure, tolerance };
  if (actual === undefined) return { ...base, error: NaN, ok: false, note: "not computed" };
  if (actual.length !== expected.data.length) {
    const note = `${actual.length} numbers instead of ${expected.data.length}`;
    return { ...base, error: NaN, ok: false, note };
  }
  const error = measured(measure, actual, expected.data);
  return { ...base, error, ok: error <= tolerance };
}

/** The tokens that kept other experts. */
function otherTokens(error: number, tolerance: number): Comparison {
  return { tensor: "out.index", measure: "tokens", error, tolerance, ok: error <= tolerance };
}

function run(
  implementation: GoldenImplementation,
  golden: GoldenCase,
): GoldenResults | Promise<GoldenResults> {
  switch (golden.kind) {
    case "mla":
      return implementation.mla(golden);
    case "gpt_attention":
      return implementation.gptAttention(golden);
    case "router":
      return implementation.router(golden);
    case "beam_router":
      return implementation.beamRouter(golden);
    case "layer":
      return implementation.layer(golden);
    case "mixture":
      return implementation.mixture(golden);
    case "model":
      return implementation.model(golden);
    case "optimizer":
      return implementation.optimizer(golden);
    case "pretrained":
      return implementation.pretrained(golden);
    case "sparsegpt":
    case "pca_kmeans":
    case "sparse_expansion_layer":
      return implementation.sparse(golden);
    case "expanded":
      return implementation.expanded(golden);
  }
}

/**
 * Runs a case and compares every result in the file. A result that the implementation declares to omit is marked so; any
 * other that it does not return is a miss.
 */
export async function compareGolden(
  implementation: GoldenImplementation,
  golden: GoldenCase,
): Promise<Comparison[]> {
  const results = await run(implementation, golden);
  const { choices } = implementation.tolerance;
  const given = golden.kind === "layer" && choices !== undefined
    ? givenChoice(golden, results)
    : undefined;
  const counted = golden.kind === "layer" && choices !== undefined
    ? [otherTokens(given?.tokens ?? 0, TOKENS_OF_CHOICES * choices * golden.tokens)]
    : [];
  const rows = Array.from(given?.expected ?? golden.expected).flatMap(([name, expected]) => {
    const actual = results.get(name);
    const omitted = actual === undefined ? implementation.omits?.(golden, name) : undefined;
    return criteria(golden, name, implementation.tolerance).map((criterion) =>
      omitted === undefined
        ? compare(name, criterion, { actual, expected })
        : { tensor: name, ...criterion, error: NaN, ok: true, omitted: true, note: omitted }
    );
  });
  return [...rows, ...counted];
}
