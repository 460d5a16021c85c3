/**
 * The sum of a load-balance term over tokens.
 *
 * @module
 */

import source from "../../../shaders/routing/routing_balance_sum.wgsl" with { type: "text" };
import { grid, read, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Records `value = Σ` of the last component of `rows`, f32 `[…, 4]`, in a fixed order; `value` is f32 `[1]`. */
export function sumBalance(
  plan: Plan,
  label: string,
  { rows, value }: { rows: Tensor; value: Tensor },
): void {
  const n = rows.size / 4;
  const run = Math.max(64, Math.ceil(Math.sqrt(n)));
  const runs = Math.ceil(n / run);
  const workgroup = 64;
  const partial = plan.tensor(`${label}.partial`, [runs, 4]);
  const call = { name: "routing_balance_sum", source };
  plan.dispatch({
    ...call,
    label: `${label}.partial`,
    constants: { WORKGROUP: workgroup, SCALAR: false },
    params: { n, run, runs },
    bindings: { rows: read(rows), out: write(partial) },
    workgroups: grid(Math.ceil(runs / workgroup)),
  });
  plan.dispatch({
    ...call,
    label: `${label}.value`,
    constants: { WORKGROUP: 1, SCALAR: true },
    params: { n: runs, run: runs, runs: 1 },
    bindings: { rows: read(partial), out: writeScalar(value) },
    workgroups: [1, 1, 1],
  });
}
