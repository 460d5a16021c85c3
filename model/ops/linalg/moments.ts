/**
 * Second moments of rows, `Xᵀ X`, summed over chunks of rows in a fixed order.
 *
 * @module
 */

import centreSource from "../../../shaders/linalg/centre_rows.wgsl" with { type: "text" };
import diagonalSource from "../../../shaders/linalg/diagonal.wgsl" with { type: "text" };
import scaledSource from "../../../shaders/linalg/scaled_sum.wgsl" with { type: "text" };
import {
  f32,
  grid,
  read,
  readScalar,
  update,
  updateScalar,
  write,
  writeScalar,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { gemm } from "../gemm/gemm.ts";
import { matrix } from "../gemm/matrix.ts";

/** Records `y = x − mean` of rows; `x` and `y` `[rows, width]`, `mean` `[width]`, all f32. */
export function centreRows(
  plan: Plan,
  label: string,
  { x, mean, y }: { x: Tensor; mean: Tensor; y: Tensor },
): void {
  if (x.width !== y.width || x.width !== mean.size || x.size !== y.size) {
    throw new RangeError(
      `${label}: ${x.name} is ${x.rows}×${x.width}, ${y.name} ${y.rows}×${y.width} and ${mean.name} has ${mean.size} elements`,
    );
  }
  plan.dispatch({
    label,
    name: "centre_rows",
    source: centreSource,
    params: { count: x.size / 4, width: x.width / 4 },
    bindings: { x: read(x), mean: read(mean), y: write(y) },
    workgroups: grid(Math.ceil(x.size / 256)),
    flops: x.size,
  });
}

/** Records `y = scale · x`, or `y += scale · x` with `accumulate`; of one size, f32. */
export function scaledSum(
  plan: Plan,
  label: string,
  { x, y, scale, accumulate }: { x: Tensor; y: Tensor; scale: number; accumulate: boolean },
): void {
  if (x.size !== y.size || x.size % 4 !== 0) {
    throw new RangeError(
      `${label}: ${x.name} has ${x.size} elements and ${y.name} ${y.size}, expected the same multiple of 4`,
    );
  }
  plan.dispatch({
    label,
    name: "scaled_sum",
    source: scaledSource,
    constants: { ACCUMULATE: accumulate },
    params: { count: x.size / 4, scale: f32(scale) },
    bindings: { x: read(x), y: accumulate ? update(y) : write(y) },
    workgroups: grid(Math.ceil(x.size / 256)),
    flops: 2 * x.size,
  });
}

/** Records `d = diagonal of h`, `h` `[n, n padded to 4]` and `d` `[n]`, both f32. */
export function readDiagonal(plan: Plan, label: string, { h, d }: { h: Tensor; d: Tensor }): void {
  diagonal(plan, label, { h, d, add: false });
}

/** Records `h += d` on the diagonal; shapes as for {@linkcode readDiagonal}. */
export function addToDiagonal(plan: Plan, label: string, { h, d }: { h: Tensor; d: Tensor }): void {
  diagonal(plan, label, { h, d, add: true });
}

function diagonal(
  plan: Plan,
  label: string,
  { h, d, add }: { h: Tensor; d: Tensor; add: boolean },
): void {
  if (h.rows !== d.size) {
    throw new RangeError(`${label}: ${h.name} has ${h.rows} rows, ${d.name} ${d.size} elements`);
  }
  plan.dispatch({
    label,
    name: "diagonal",
    source: diagonalSource,
    constants: { ADD: add },
    params: { n: h.rows, stride: h.width },
    bindings: add
      ? { h: updateScalar(h), d: readScalar(d) }
      : { h: readScalar(h), d: writeScalar(d) },
    workgroups: grid(Math.ceil(h.rows / 64)),
    bytes: 8 * h.rows,
  });
}

/** Rows of a product of {@linkcode secondMoment}: a sum in f32 of more terms loses digits. */
const MOMENT_ROWS = 1024;

/** Products that add up before their sum goes to the whole. */
const MOMENT_PRODUCTS = 16;

/**
 * Records `moment = scale · Xᵀ X`.
 *
 * Sums have three levels, so that none adds more than about a thousand numbers to one that has grown: 1,024 rows, 16 of those, all. Then a sum over a quarter of a million rows
 * is as near as one over a few thousand, and its order is fixed.
 *
 * @param operands `x`: the rows in tensors `[rows, width]`, f32, width a multiple of 4 with zeros beyond `columns`; what makes one may be recorded when it is asked for; `moment` `[columns, width]`, with zeros beyond `columns`.
 */
export function secondMoment(plan: Plan, label: string, operands: {
  readonly x: Iterable<Tensor>;
  readonly columns: number;
  readonly moment: Tensor;
  readonly scale: number;
}): void {
  const { x, columns, moment, scale } = operands;
  if (moment.rows !== columns || moment.width !== Math.ceil(columns / 4) * 4) {
    throw new RangeError(
      `${label}: ${moment.name} is ${moment.rows}×${moment.width}, expected ${columns} rows padded to fours`,
    );
  }
  const part = plan.tensor(`${label}.part`, moment.shape, { owner: "workspace" });
  let products = 0;
  const flush = () => {
    const accumulate = products > MOMENT_PRODUCTS;
    scaledSum(plan, `${label}.sum`, { x: part, y: moment, scale, accumulate });
  };
  for (const tensor of x) {
    for (let first = 0; first < tensor.rows; first += MOMENT_ROWS) {
      const rows = Math.min(MOMENT_ROWS, tensor.rows - first);
      const chunk = matrix(tensor, { rows, columns, start: first * tensor.width });
      gemm(plan, `${label}.product`, {
        a: chunk,
        b: chunk,
        c: matrix(part, { columns }),
        layout: "tn",
        epilogue: products % MOMENT_PRODUCTS === 0 ? "none" : "accumulate",
      });
      if (++products % MOMENT_PRODUCTS === 0) flush();
    }
  }
  if (products === 0) throw new RangeError(`${label}: there are no rows`);
  if (products % MOMENT_PRODUCTS > 0) flush();
}
