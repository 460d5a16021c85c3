import { openTestGpu } from "../../gpu/testing.ts";
import { swigluBackward, swigluForward } from "./swiglu.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

for (const [dtype, tolerance] of [["f32", 1e-6], ["f16", 1e-3]] as const) {
  Deno.test(`The gate of SwiGLU and its gradient agree with float64, ${dtype}`, async () => {
    for (const f16 of dtype === "f16" ? [true, false] : [true]) {
      const gpu = await openTestGpu(f16 ? undefined : { f16 });
      using inputs = new Inputs(gpu);
      const shape = [23, 20];
      const size = 23 * 20;
      const [g, u, d] = [1, 2, 3].map((seed) =>
        Float64Array.from(new Float16Array(noise(size, seed).map((v) => 6 * v)))
      ) as [Float64Array, Float64Array, Float64Array];
      const gate = inputs.tensor("gate", shape, { values: g, dtype });
      const up = inputs.tensor("up", shape, { values: u, dtype });
      const dh = inputs.tensor("dh", shape, { values: d, dtype });
      const out = await runOnce(gpu, (plan) => {
        const h = plan.tensor("h", shape, { dtype });
        const dgate = plan.tensor("dgate", shape, { dtype });
        const dup = plan.tensor("dup", shape, { dtype });
        swigluForward(plan, "forward", { gate, up, h });
        swigluBackward(plan, "backward", { gate, up, dh, dgate, dup });
        return { h, dgate, dup };
      });
      const sigmoid = g.map((x) => 1 / (1 + Math.exp(-x)));
      const silu = g.map((x, i) => x * sigmoid[i]!);
      const slope = g.map((x, i) => sigmoid[i]! * (1 + x * (1 - sigmoid[i]!)));
      assertNear(out.h, silu.map((s, i) => s * u[i]!), { tolerance, what: "h" });
      assertNear(out.dgate, slope.map((s, i) => s * u[i]! * d[i]!), { tolerance, what: "dgate" });
      assertNear(out.dup, silu.map((s, i) => s * d[i]!), { tolerance, what: "dup" });
    }
  });
}
