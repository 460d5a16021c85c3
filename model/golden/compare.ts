/**
 * Judges an implementation by a golden case: errors beside tolerances, tensor by tensor.
 *
 * @module
 */

import { givenChoice } from "./choice.ts";
import {
  type Comparison,
  type FixedTolerance,
  type GoldenCase,
  type GoldenImplementation,
  type GoldenTensor,
  type Measure,
  runGolden,
} from "./golden.ts";
import { halfTolerances } from "./half.ts";
import { measured } from "./measure.ts";
import { isSparse, sparseTolerance } from "./sparse.ts";

/** A measure of one tensor's error, and its tolerance. */
interface Criterion {
  readonly measure: Measure;
  readonly tolerance: number;
}

/** The tolerances that a tensor must keep, with the exceptions that the mathematics asks for. */
function criteria(golden: GoldenCase, name: string, tolerance: FixedTolerance): Criterion[] {
  if (golden.expected.get(name)?.whole) return [{ measure: "equal", tolerance: 0 }];
  if (golden.kind === "beam_router") {
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
  // No optimiser moves running variances: they follow the activations, and are judged as outputs are. The moments are sums of gradients and
  // of their squares: far smaller than the parameters, so judged as gradients, too.
  const gradient = /^((balance|dynamic)\.)?grad\./.test(name) ||
    (golden.kind === "optimizer" && /^[mv]\./.test(name));
  return [{
    measure: "relative",
    tolerance: gradient ? tolerance.gradients : tolerance.outputs,
  }];
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

/** The expected tensors, how each is judged, and the choices. */
interface Judgement {
  readonly expected: ReadonlyMap<string, GoldenTensor>;
  criteria(name: string, expected: GoldenTensor): Criterion[];
  /** Choices of experts, in the place of the file's tensors of that name. */
  readonly choices: readonly Comparison[];
}

/**
 * Runs a case and compares every result in the file. A result that the implementation declares to omit is marked so; any
 * other that it does not return is a miss.
 */
export async function compareGolden(
  implementation: GoldenImplementation,
  golden: GoldenCase,
): Promise<Comparison[]> {
  const results = await runGolden(implementation, golden);
  const { tolerance } = implementation;
  let judgement: Judgement;
  if (tolerance === "halves") {
    const given = await givenChoice(golden, results);
    const { criteria, choices } = await halfTolerances(golden, given);
    judgement = { expected: given.expected, criteria, choices };
  } else {
    judgement = {
      expected: golden.expected,
      criteria: (name) => criteria(golden, name, tolerance),
      choices: [],
    };
  }
  const chosen = new Set(judgement.choices.map(({ tensor }) => tensor));
  const rows = Array.from(judgement.expected).flatMap(([name, expected]) => {
    if (chosen.has(name)) return [];
    const actual = results.get(name);
    const omitted = actual === undefined ? implementation.omits?.(golden, name) : undefined;
    return judgement.criteria(name, expected).map((criterion) =>
      omitted === undefined
        ? compare(name, criterion, { actual, expected })
        : { tensor: name, ...criterion, error: NaN, ok: true, omitted: true, note: omitted }
    );
  });
  return [...rows, ...judgement.choices];
}
