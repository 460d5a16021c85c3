import { openTestGpu } from "../../gpu/testing.ts";
import {
  gelu,
  geluDerivative,
  geluExact,
  geluExactDerivative,
} from "../../reference/activation.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { geluBackward, geluForward } from "./gelu.ts";

const FORMS = [["tanh", gelu, geluDerivative], ["exact", geluExact, geluExactDerivative]] as const;

for (const [dtype, tolerance] of [["f32", 2e-6], ["f16", 1e-3]] as const) {
  Deno.test(`Both forms of gelu and their gradients agree with float64, ${dtype}`, async () => {
    for (const f16 of dtype === "f16" ? [true, false] : [true]) {
      const gpu = await openTestGpu(f16 ? undefined : { f16 });
      using inputs = new Inputs(gpu);
      const shape = [23, 20];
      const [v, d] = [1, 2].map((seed) =>
        Float64Array.from(new Float16Array(noise(23 * 20, seed).map((value) => 6 * value)))
      ) as [Float64Array, Float64Array];
      const x = inputs.tensor("x", shape, { values: v, dtype });
      const dh = inputs.tensor("dh", shape, { values: d, dtype });
      for (const [form, value, slope] of FORMS) {
        const out = await runOnce(gpu, (plan) => {
          const h = plan.tensor("h", shape, { dtype });
          const dx = plan.tensor("dx", shape, { dtype });
          geluForward(plan, "forward", { gelu: form, x, h });
          geluBackward(plan, "backward", { gelu: form, x, dh, dx });
          return { h, dx };
        });
        assertNear(out.h, v.map(value), { tolerance, what: `${form} h` });
        assertNear(out.dx, v.map((at, i) => slope(at) * d[i]!), { tolerance, what: `${form} dx` });
      }
    }
  });
}
