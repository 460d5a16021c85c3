/**
 * The largest eigenvalues of a symmetric matrix that is too large for the host: subspace iteration with products on the GPU.
 *
 * @module
 */

import { runPlan } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { roundUp, type Tensor } from "../../gpu/tensor.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { matrix } from "../../ops/gemm/matrix.ts";
import { scaledSum } from "../../ops/linalg/moments.ts";
import { padColumns, Tensors, unpadColumns } from "../rows.ts";
import { type Eigen, orthonormalizer, symmetricEigen } from "./symmetric.ts";
import { uniform } from "./uniform.ts";

/** Largest `‖C v − λ v‖` of a result, over the largest eigenvalue. */
const RESIDUAL = 1e-6;
/** Filters and rotations at most. */
const MAX_ITERATIONS = 100;
/** How much a filter may raise a direction over the last one, whose column has a part of the other then: rounding, so many times larger. */
const MAX_GROWTH = 1e6;
/** Part of the residual at which a direction has settled. */
const SETTLED = 0.5;
/** Degree of a filter at most. */
const MAX_DEGREE = 10;
/** Orthonormalisations at most after a filter. */
const MAX_PASSES = 6;
/** Distance from orthonormal columns that is close enough: what rounding in f32 leaves. */
const ORTHONORMAL = 2e-5;

/** Directions beside those that are wanted: the more, the faster the last of the wanted settles. */
function extra(wanted: number): number {
  return Math.max(16, Math.ceil(wanted / 4));
}

/** Value of the Chebyshev polynomial of a degree at `x` ≥ 1. */
function chebyshev(degree: number, x: number): number {
  return Math.cosh(degree * Math.acosh(x));
}

/** A square matrix with these numbers on its diagonal. */
function diagonal(values: Float64Array): Float64Array {
  const out = new Float64Array(values.length ** 2);
  values.forEach((value, i) => out[i * (values.length + 1)] = value);
  return out;
}

/** Eigenvalues and eigenvectors that were asked for, the largest first. */
interface TopEigen extends Eigen {
  /** `‖C v − λ v‖` over the largest eigenvalue, the largest of all. */
  readonly residual: number;
  /** Products with the matrix. */
  readonly products: number;
}

/** A subspace and the tensors that its iteration takes. */
class Subspace implements Disposable {
  readonly #gpu: Gpu;
  readonly #tensors: Tensors;
  readonly #c: Tensor;
  /** Columns. */
  readonly #q: number;
  readonly #v: Tensor;
  readonly #cv: Tensor;
  /** The matrix that the host hands over, `[q, q]`. */
  readonly #small: Tensor;
  /** Products with the matrix so far. */
  products = 0;

  constructor(gpu: Gpu, c: Tensor, q: number) {
    this.#gpu = gpu;
    this.#tensors = new Tensors(gpu);
    this.#c = c;
    this.#q = q;
    const n = c.rows;
    const start = new Float32Array(n * q);
    for (let i = 0; i < start.length; i++) start[i] = uniform(1, i) - 0.5;
    this.#v = this.#tensors.matrix("subspace", start, q);
    this.#cv = this.#tensors.tensor("subspace.product", [n, roundUp(q, 4)]);
    this.#small = this.#tensors.tensor("subspace.small", [q, roundUp(q, 4)]);
  }

  /** Records `y = C x`. */
  #apply(plan: Plan, x: Tensor, y: Tensor): void {
    const columns = this.#q;
    const c = matrix(this.#c, { columns: this.#c.rows });
    gemm(plan, "apply", { a: c, b: matrix(x, { columns }), c: matrix(y, { columns }) });
    this.products++;
  }

  /** `xᵀ y`, `[q, q]`. */
  async #product(plan: Plan, x: Tensor, y: Tensor): Promise<Float32Array> {
    const columns = this.#q;
    const result = plan.tensor("product", this.#small.shape);
    gemm(plan, "product", {
      a: matrix(x, { columns }),
      b: matrix(y, { columns }),
      c: matrix(result, { columns }),
      layout: "tn",
    });
    const { product } = await runPlan(plan, { product: result });
    return unpadColumns(product, columns) as Float32Array;
  }

  /** `v ← v M`, and the same of `C v` if `both`. */
  async #rotate(m: Float64Array, both: boolean): Promise<void> {
    const columns = this.#q;
    const plan = new Plan(this.#gpu, "rotate");
    const small = plan.constant("m", this.#small.shape, { numbers: () => padColumns(m, columns) });
    for (const x of both ? [this.#v, this.#cv] : [this.#v]) {
      const y = plan.tensor("rotated", x.shape);
      gemm(plan, "rotate", {
        a: matrix(x, { columns }),
        b: matrix(small, { columns }),
        c: matrix(y, { columns }),
      });
      plan.copy(y, x);
    }
    await runPlan(plan);
  }

  /** Makes the columns orthonormal. */
  async orthonormalize(): Promise<void> {
    const q = this.#q;
    for (let pass = 0; pass < MAX_PASSES; pass++) {
      const product = await this.#product(new Plan(this.#gpu, "gram"), this.#v, this.#v);
      let distance = 0;
      product.forEach((v, i) => {
        distance = Math.max(distance, Math.abs(v - (i % (q + 1) === 0 ? 1 : 0)));
      });
      if (distance <= ORTHONORMAL) return;
      await this.#rotate(orthonormalizer(product, q), false);
    }
  }

  /** Rotates the orthonormal columns to the eigenvectors of `vᵀ C v`. Returns its eigenvalues and the residuals. */
  async ritz(): Promise<{ values: Float64Array; residuals: Float64Array }> {
    const q = this.#q;
    const plan = new Plan(this.#gpu, "ritz");
    this.#apply(plan, this.#v, this.#cv);
    const { values, vectors } = symmetricEigen(await this.#product(plan, this.#v, this.#cv), q);
    await this.#rotate(vectors, true);
    const rest = new Plan(this.#gpu, "residual");
    const scaled = rest.constant("values", this.#small.shape, {
      numbers: () => padColumns(diagonal(values.map((value) => -value)), q),
    });
    const difference = rest.tensor("difference", this.#cv.shape);
    rest.copy(this.#cv, difference);
    gemm(rest, "residual", {
      a: matrix(this.#v, { columns: q }),
      b: matrix(scaled, { columns: q }),
      c: matrix(difference, { columns: q }),
      epilogue: "accumulate",
    });
    const squares = await this.#product(rest, difference, difference);
    const residuals = values.map((_, i) => Math.sqrt(squares[i * q + i]!));
    return { values, residuals };
  }

  /**
   * Applies a Chebyshev polynomial that stays small from 0 to `bound` and grows above, so that directions below lose.
   *
   * The columns are Ritz vectors, and their products with the matrix are there. Of these, directions that have `settled` are taken out of the matrix first: they stay as they are, and how far
   * the polynomial may grow is left to those that follow.
   */
  async filter(
    { degree, bound, settled }: { degree: number; bound: number; settled: Float64Array },
  ): Promise<void> {
    const columns = this.#q;
    const plan = new Plan(this.#gpu, "filter");
    const shape = this.#v.shape;
    const half = bound / 2;
    const v = matrix(this.#v, { columns });
    const minus = plan.constant("settled", this.#small.shape, {
      numbers: () => padColumns(diagonal(settled.map((value) => -value)), columns),
    });
    const out = plan.tensor("out", shape);
    gemm(plan, "out", {
      a: v,
      b: matrix(minus, { columns }),
      c: matrix(out, { columns }),
    });
    // The loss of the columns' own products is known: each is its own Ritz vector.
    const product = plan.tensor("filter.1.product", shape);
    plan.copy(this.#cv, product);
    scaledSum(plan, "out", { x: out, y: product, scale: 1, accumulate: true });
    // T₁ = (C − half) / half.
    let before = plan.tensor("filter.0", shape);
    plan.copy(this.#v, before);
    let now = plan.tensor("filter.1", shape);
    scaledSum(plan, "first", { x: product, y: now, scale: 1 / half, accumulate: false });
    scaledSum(plan, "first", { x: before, y: now, scale: -1, accumulate: true });
    for (let k = 2; k <= degree; k++) {
      // T_k = 2 (C − half) / half · T_{k−1} − T_{k−2}.
      const product = plan.tensor(`filter.${k}.product`, shape);
      this.#apply(plan, now, product);
      const part = plan.tensor(`filter.${k}.part`, this.#small.shape);
      const x = matrix(now, { columns });
      gemm(plan, "part", { a: v, b: x, c: matrix(part, { columns }), layout: "tn" });
      gemm(plan, "settled", {
        a: matrix(out, { columns }),
        b: matrix(part, { columns }),
        c: matrix(product, { columns }),
        epilogue: "accumulate",
      });
      const next = plan.tensor(`filter.${k}`, shape);
      scaledSum(plan, "next", { x: product, y: next, scale: 2 / half, accumulate: false });
      scaledSum(plan, "next", { x: now, y: next, scale: -2, accumulate: true });
      scaledSum(plan, "next", { x: before, y: next, scale: -1, accumulate: true });
      [before, now] = [now, next];
    }
    // Columns that have settled stay as they are.
    const kept = plan.constant("kept", this.#small.shape, {
      numbers: () => padColumns(diagonal(settled.map((value) => value > 0 ? 1 : 0)), columns),
    });
    const moved = plan.constant("moved", this.#small.shape, {
      numbers: () => padColumns(diagonal(settled.map((value) => value > 0 ? 0 : 1)), columns),
    });
    const result = plan.tensor("result", shape);
    const c = matrix(result, { columns });
    gemm(plan, "kept", { a: v, b: matrix(kept, { columns }), c });
    gemm(plan, "moved", {
      a: matrix(now, { columns }),
      b: matrix(moved, { columns }),
      c,
      epilogue: "accumulate",
    });
    plan.copy(result, this.#v);
    await runPlan(plan);
  }

  /** Takes the product with the matrix in the place of the columns. */
  async power(): Promise<void> {
    const plan = new Plan(this.#gpu, "power");
    plan.copy(this.#cv, this.#v);
    await runPlan(plan);
  }

  /** The first `count` columns, `[n, count]`. */
  async columns(count: number): Promise<Float64Array> {
    const { v } = await runPlan(new Plan(this.#gpu, "columns"), { v: this.#v });
    const width = this.#v.width;
    const out = new Float64Array(this.#c.rows * count);
    for (let r = 0; r < this.#c.rows; r++) {
      out.set(v.subarray(r * width, r * width + count), r * count);
    }
    return out;
  }

  [Symbol.dispose](): void {
    this.#tensors[Symbol.dispose]();
  }
}

/**
 * The `wanted` largest eigenvalues and their eigenvectors of a positive semi-definite matrix `[n, n padded to 4]`, f32, on the GPU.
 *
 * Subspace iteration with some directions to spare, Chebyshev filters and Rayleigh–Ritz rotations. Directions that have settled, the largest first, are taken out of what is filtered, so
 * that one variance far above the others does not slow the others down. Products with the matrix and with tall matrices are the GPU's; what is `[q, q]` is decomposed on the host in
 * float64. Its start is the same each time, so the result is, too.
 *
 * @throws {RangeError} If the residuals are not small enough after as many iterations as are allowed.
 */
export async function topEigen(gpu: Gpu, c: Tensor, wanted: number): Promise<TopEigen> {
  const q = Math.min(c.rows, wanted + extra(wanted));
  using subspace = new Subspace(gpu, c, q);
  let residual = Infinity;
  for (let iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
    await subspace.orthonormalize();
    const { values, residuals } = await subspace.ritz();
    const largest = values[0]!;
    if (!(largest > 0)) throw new RangeError("The rows do not differ: they have no components");
    residual = Math.max(...residuals.subarray(0, wanted)) / largest;
    if (residual <= RESIDUAL) {
      const vectors = await subspace.columns(wanted);
      const { products } = subspace;
      return { values: values.slice(0, wanted), vectors, residual, products };
    }
    const bound = Math.max(values[q - 1]!, 0);
    const first = residuals.findIndex((r) => r > SETTLED * RESIDUAL * largest);
    const leading = values[first]!;
    const settled = values.map((value, i) => i < first ? value : 0);
    let degree = MAX_DEGREE;
    while (degree > 1 && !(chebyshev(degree, 2 * leading / bound - 1) <= MAX_GROWTH)) degree--;
    if (bound > 0) await subspace.filter({ degree, bound, settled });
    else await subspace.power();
  }
  throw new RangeError(
    `The ${wanted} largest components did not settle: ${residual} is left of the first, expected ${RESIDUAL}`,
  );
}
