/**
 * The factor that SparseGPT prunes with: `U` upper triangular with `Uᵀ U = H⁻¹`.
 *
 * @module
 */

import blockSource from "../../../shaders/linalg/cholesky_block.wgsl" with { type: "text" };
import { readScalar, updateScalar, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { gemm } from "../gemm/gemm.ts";
import { matrix } from "../gemm/matrix.ts";

/** Rows of a block that one workgroup factors. */
const BLOCK = 32;

/**
 * Records `U = R⁻¹` of `H = R Rᵀ` with `R` upper triangular, so that `Uᵀ U = H⁻¹` and no inverse is formed.
 *
 * Blocks go from the last to the first. A block is factored and inverted by one workgroup; its row of `U` is a product, and so is what it takes from the blocks
 * above: from `H` the panel times its transpose, from `U` the panel times that row. About `4/3 n³` operations, in f32.
 *
 * @param tensors `h` `[n, n padded to 4]`, symmetric, destroyed; `u` of the same shape, zero below its diagonal; `failed`, u32, whose first element becomes 1
 * where `H` is not positive definite and is left alone otherwise. `u` is then not the factor.
 */
export function inverseCholesky(
  plan: Plan,
  label: string,
  { h, u, failed }: { h: Tensor; u: Tensor; failed: Tensor },
): void {
  const { rows: n, width: stride } = h;
  if (u.rows !== n || u.width !== stride || stride !== Math.ceil(n / 4) * 4) {
    throw new RangeError(
      `${label}: ${h.name} is ${n}×${stride} and ${u.name} ${u.rows}×${u.width}, expected square matrices padded to fours`,
    );
  }
  const workspace = (name: string, shape: readonly number[]) =>
    plan.tensor(`${label}.${name}`, shape, { owner: "workspace" });
  const inverse = workspace("inverse", [BLOCK, BLOCK]);
  const negative = workspace("negative", [BLOCK, BLOCK]);
  const row = workspace("row", [BLOCK, stride]);
  const panel = workspace("panel", [n, BLOCK]);
  const taken = workspace("taken", [n, BLOCK]);
  plan.clear(u);
  plan.clear(row);
  for (let start = Math.floor((n - 1) / BLOCK) * BLOCK; start >= 0; start -= BLOCK) {
    const count = Math.min(BLOCK, n - start);
    const end = start + count;
    plan.dispatch({
      label: `${label}.block`,
      name: "cholesky_block",
      source: blockSource,
      constants: { B: BLOCK },
      params: { start, count, stride },
      bindings: {
        h: readScalar(h),
        inverse: writeScalar(inverse),
        negative: writeScalar(negative),
        row: updateScalar(row),
        failed: updateScalar(failed),
      },
      workgroups: [1, 1, 1],
      flops: 2 / 3 * count ** 3,
      bytes: 16 * count ** 2,
    });
    const square = { rows: count, columns: count };
    if (end < n) {
      gemm(plan, `${label}.row`, {
        a: matrix(inverse, square),
        b: matrix(u, { rows: count, columns: n - end, start: start * stride + end }),
        c: matrix(row, { rows: count, columns: n - end, start: end }),
      });
    }
    plan.copy(row.slice(0, count), u.slice(start, count));
    if (start === 0) continue;
    const above = { rows: start, columns: count };
    const h_above = matrix(h, { ...above, start });
    for (
      const [name, block, c] of [
        ["panel", inverse, panel],
        ["taken", negative, taken],
      ] as const
    ) {
      const b = matrix(block, square);
      gemm(plan, `${label}.${name}`, { a: h_above, b, c: matrix(c, above), layout: "nt" });
    }
    gemm(plan, `${label}.h`, {
      a: matrix(taken, above),
      b: matrix(panel, above),
      c: matrix(h, { rows: start, columns: start }),
      layout: "nt",
      epilogue: "accumulate",
    });
    gemm(plan, `${label}.u`, {
      a: matrix(taken, above),
      b: matrix(row, { rows: count, columns: n - start, start }),
      c: matrix(u, { rows: start, columns: n - start, start }),
      epilogue: "accumulate",
    });
  }
}
