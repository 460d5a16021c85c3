import { assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { packFields } from "../../gpu/transfer.ts";
import { dropoutMasks } from "../../reference/dropout.ts";
import { CONTROL } from "../control.ts";
import { DROPOUT_KEY, dropoutKey, dropoutPlace } from "../dropout/dropout.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { addResidual } from "./add_residual.ts";

Deno.test("addResidual() adds a bias, drops, and adds the residual stream", async () => {
  const gpu = await openTestGpu();
  const [rows, columns] = [7, 20];
  const x = noise(rows * columns, 1).map((v) => Math.round(v * 64) / 64);
  const residual = noise(rows * columns, 2);
  const bias = noise(columns, 3);
  const rate = 0.4;
  const factor = dropoutMasks({ seed: 9, update: 2, microBatch: 0 })("here", rate);
  for (const dtype of ["f32", "f16"] as const) {
    for (const biased of [true, false]) {
      for (const dropped of [true, false]) {
        using inputs = new Inputs(gpu);
        const shape = [rows, columns];
        const key = inputs.tensor("key", [DROPOUT_KEY], { dtype: "u32" });
        const control = inputs.tensor("control", [CONTROL.length], {
          values: packFields(CONTROL, { decided: 2 }),
        });
        const { y } = await runOnce(gpu, (plan) => {
          dropoutKey(plan, "key", { key, control, seed: 9, first: true });
          const y = plan.tensor("y", shape);
          addResidual(plan, "residual", {
            x: inputs.tensor("x", shape, { values: x, dtype }),
            residual: inputs.tensor("residual", shape, { values: residual }),
            y,
            ...(biased && { bias: inputs.tensor("bias", [columns], { values: bias }) }),
            ...(dropped && { dropout: { key, place: dropoutPlace("here"), rate } }),
          });
          return { y };
        });
        const expected = x.map((v, i) => {
          const column = i % columns;
          const f = dropped ? factor(Math.floor(i / columns), column) : 1;
          return residual[i]! + f * (v + (biased ? bias[column]! : 0));
        });
        assertNear(y, expected, { tolerance: 1e-6, what: `y, bias ${biased}, ${dropped}` });
      }
    }
  }
});

Deno.test("addResidual() refuses shapes that differ", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [4, 8]);
  const plan = new Plan(gpu, "test");
  const other = inputs.tensor("other", [8, 4]);
  assertThrows(
    () => addResidual(plan, "residual", { x, residual: other, y: x }),
    RangeError,
    "x is 4×8, other 8×4",
  );
  const bias = inputs.tensor("bias", [4]);
  assertThrows(
    () => addResidual(plan, "residual", { x, residual: x, y: x, bias }),
    RangeError,
    "bias has 4 elements, expected 8",
  );
});
