/**
 * How far results in mixed precision may be off.
 *
 * Matrix products read halves: each number that enters one was rounded, by `u = 2⁻¹¹` of itself at most and by 0.41 u in the root mean square
 * (uniform within the last place, whose size is from u to u/2 of the number: `u √(1/3 · 1/2)`). How much of that arrives at a result depends on
 * the sizes, the depth and the numbers of a model: sums of many terms average it, a softmax of large scores or a difference of near numbers
 * magnifies it. So it is measured, on the float64 reference alone: every weight and input is moved by u, up or down, and
 * the *response* of a tensor is the largest change that it then shows in the tensor's measure, given the same choice of experts.
 *
 * A response counts one rounding for every product and takes it 1/0.41 times too large. On the GPU both operands of a product are rounded,
 * those of its two backward products too, and what is stored between them: up to six independent roundings where the response has one, whose
 * squares add up, so `0.41 √6 ≈ 1` responses are expected. The largest error of a tensor is the largest of another draw, and a tensor of few numbers,
 * or one of which a single number is far larger than the others, has few to take it from: a deviation of four times covers normal draws.
 *
 * ```
 * tolerance = 4 · response + 2 u · scale
 * ```
 *
 * The second term is the rounding of the tensor's own operands, two of a product, where its response happens to be small. Its scale is the tensor's largest
 * magnitude; of parameters after AdamW the way that they can go, a learning rate an update; of running statistics see {@linkcode queryScale}.
 *
 * @module
 */

import type { Expectation } from "./choice.ts";
import type { Comparison, GoldenCase, GoldenResults, GoldenTensor, Measure } from "./golden.ts";
import { magnitudeOf, measured, NEGLIGIBLE } from "./measure.ts";

/** Unit roundoff of f16. */
const ROUNDOFF = 2 ** -11;

/** Responses that an error may be, and roundings of a result's own operands. */
const RESPONSES = 4;
const OWN_ROUNDINGS = 2;

/** Part of a pass in running statistics, as batch norm's specification has it. */
const MOMENTUM = 0.1;

/** Cases that are moved, each its own way: the response is the larger one. */
const DRAWS = 2;

/** A criterion of a tensor. */
interface Criterion {
  readonly measure: Measure;
  readonly tolerance: number;
}

/** Tolerances of a case in mixed precision. */
export interface HalfTolerances {
  /** The criteria of a tensor of the file. */
  criteria(name: string, expected: GoldenTensor): Criterion[];
  /** Tokens that chose otherwise, and how far they may lie behind, for each layer that chooses. */
  readonly choices: readonly Comparison[];
}

/** A number that tells one place from another: 32 bits, of which each depends on all of `v`. */
function mix(v: number): number {
  let z = (v + 0x9e3779b9) >>> 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return (z ^ (z >>> 15)) >>> 0;
}

/** Values with each moved by the unit roundoff, up or down. */
function moved<Values extends Float32Array | Float64Array>(values: Values, draw: number): Values {
  const out = values.slice() as Values;
  for (let i = 0; i < out.length; i++) {
    out[i] = out[i]! * (1 + (mix(mix(draw) ^ i) & 1 ? ROUNDOFF : -ROUNDOFF));
  }
  return out;
}

/** A case with all moved that enters products; running statistics, which do not, stay. */
function movedCase(golden: GoldenCase, draw: number): GoldenCase {
  let count = draw << 16;
  const inputs = new Map(Array.from(golden.inputs, ([name, tensor]) => [
    name,
    tensor.whole || /(^|\.)bn\.(mean|var)$/.test(name)
      ? tensor
      : { ...tensor, data: moved(tensor.data, count++) },
  ]));
  if (golden.kind !== "pretrained") return { ...golden, inputs };
  const parameters = new Map(
    Array.from(golden.parameters, ([name, values]) => [name, moved(values, count++)]),
  );
  return { ...golden, inputs, parameters };
}

/**
 * Scales of running statistics. Queries are stored as halves, and a running mean or variance has the part `1 − (1 − m)ⁿ` of those of n passes. A mean's scale is
 * the deviation of the queries, for their own mean may be zero: their variance is at most the running one over that part.
 */
function queryScale(golden: GoldenCase, variance: ArrayLike<number>) {
  const part = 1 - (1 - MOMENTUM) ** (golden.kind === "model" ? golden.steps : 1);
  return { variance: part, mean: part * Math.sqrt(magnitudeOf(variance) / part) };
}

/** Measures the responses of a case. */
export async function halfTolerances(
  golden: GoldenCase,
  expectation: Expectation,
): Promise<HalfTolerances> {
  const { reference, expected: tensors } = expectation;
  const draws: GoldenResults[] = [];
  for (let draw = 0; draw < DRAWS; draw++) {
    draws.push(await expectation.again(movedCase(golden, draw)));
  }
  const responseOf = (measure: Measure, name: string): number => {
    const still = reference.get(name);
    if (!still) return NaN;
    return Math.max(...draws.map((draw) => measured(measure, draw.get(name)!, still)));
  };
  const within = (measure: Measure, name: string, scale: number): Criterion => ({
    measure,
    tolerance: RESPONSES * responseOf(measure, name) + OWN_ROUNDINGS * ROUNDOFF * scale,
  });
  return {
    criteria(name, expected) {
      if (expected.whole) {
        // Candidates in another order; one exchange is of two numbers.
        if (name !== "out.axis_id") return [{ measure: "equal", tolerance: 0 }];
        const { tolerance } = within("share", name, 0);
        return [{ measure: "share", tolerance: tolerance + 2 / expected.data.length }];
      }
      if (golden.kind === "model" && name.startsWith("after.") && !/\.bn\.(mean|var)$/.test(name)) {
        const way = golden.steps * golden.learningRate;
        // Exactly zero gradients are rounding noise in the file, which AdamW makes full steps of.
        if (
          name.endsWith(".b_q") &&
          magnitudeOf(tensors.get(name.replace("after", "grad"))!.data) < NEGLIGIBLE
        ) {
          return [{ measure: "absolute", tolerance: way }];
        }
        // Where a gradient is small beside its error, AdamW goes the other way. A step is a learning rate, or 1.004 of it where gradients grow.
        return [{ measure: "absolute", tolerance: 2.01 * way }, within("mean absolute", name, way)];
      }
      if (/(^|\.)bn\.(mean|var)$/.test(name) && !name.startsWith("grad.")) {
        const variance = tensors.get(name.replace(/mean$/, "var"))!.data;
        const scale = queryScale(golden, variance);
        return [
          name.endsWith("mean")
            ? within("absolute", name, scale.mean)
            : within("relative", name, scale.variance),
        ];
      }
      return [within("relative", name, 1)];
    },
    choices: expectation.choices.flatMap(({ tensor, passes, all, different }): Comparison[] => {
      if (different === undefined) {
        const note = "not computed, or no choice of experts";
        return [{ tensor, measure: "tokens", error: NaN, tolerance: all, ok: false, note }];
      }
      // The scores of a case are many, so that the largest response is as large as errors get. Two change places when one is off upwards, the
      // other downwards.
      let [lag, tolerance, most] = [0, 0, -1];
      for (const names of passes) {
        const allowed = 2 * responseOf("absolute", names.total);
        const behind = reference.get(names.lag)![0]!;
        if (behind / allowed > most) [lag, tolerance, most] = [behind, allowed, behind / allowed];
      }
      return [
        { tensor, measure: "tokens", error: different, tolerance: all, ok: true },
        { tensor, measure: "lag", error: lag, tolerance, ok: lag <= tolerance },
      ];
    }),
  };
}
