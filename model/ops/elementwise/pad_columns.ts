/**
 * Matrices of any number of columns, for kernels that read rows of whole `vec4`s.
 *
 * @module
 */

import source from "../../../shaders/elementwise/pad_columns.wgsl" with { type: "text" };
import { grid, readScalar, updateScalar, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { roundUp, type Tensor } from "../../gpu/tensor.ts";
import { type Matrix, matrix } from "../gemm/matrix.ts";

/** Columns with those that make whole `vec4`s of a row. */
export function paddedWidth(columns: number): number {
  return roundUp(columns, 4);
}

/** An f32 matrix as products read it: itself, or a copy whose rows are padded with zeros. */
export function padColumns(plan: Plan, label: string, x: Tensor): Matrix {
  const columns = x.width;
  const stride = paddedWidth(columns);
  if (stride === columns) return matrix(x);
  const padded = plan.tensor(`${label}.padded`, [x.rows, stride], { owner: "workspace" });
  plan.dispatch({
    label: `${label}.pad`,
    name: "pad_columns",
    source,
    constants: { MODE: "pad" },
    params: { rows: x.rows, columns, stride },
    bindings: { x: readScalar(x), padded: writeScalar(padded) },
    workgroups: grid(Math.ceil(padded.size / 64)),
  });
  return matrix(padded, { columns });
}

/**
 * Records into an f32 matrix by way of `record`, which writes or, with the epilogue `accumulate`, adds to the matrix that it is given: `target` itself, or one with padded rows that is copied or added.
 */
export function intoColumns(
  plan: Plan,
  label: string,
  target: { tensor: Tensor; epilogue: "none" | "accumulate" },
  record: (c: Matrix, epilogue: "none" | "accumulate") => void,
): void {
  const { tensor, epilogue } = target;
  const columns = tensor.width;
  const stride = paddedWidth(columns);
  if (stride === columns) {
    record(matrix(tensor), epilogue);
    return;
  }
  const padded = plan.tensor(`${label}.padded`, [tensor.rows, stride], { owner: "workspace" });
  record(matrix(padded, { columns }), "none");
  const add = epilogue === "accumulate";
  plan.dispatch({
    label: `${label}.take`,
    name: "pad_columns",
    source,
    constants: { MODE: add ? "add" : "take" },
    params: { rows: tensor.rows, columns, stride },
    bindings: {
      x: add ? updateScalar(tensor) : writeScalar(tensor),
      padded: readScalar(padded),
    },
    workgroups: grid(Math.ceil(tensor.size / 64)),
  });
}
