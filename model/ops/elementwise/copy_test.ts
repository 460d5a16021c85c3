import { assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { copyThrough, copyVariants } from "./copy.ts";
import { Inputs, noise, runOnce } from "../testing.ts";

Deno.test("copyThrough() copies every number in every layout, whatever is left over at the end", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  for (const size of [4, 9 * 1024 + 12]) {
    const values = Float32Array.from(noise(size, size));
    const from = inputs.tensor("from", [size], { values });
    for (const variant of copyVariants(gpu)) {
      const { to } = await runOnce(gpu, (plan) => {
        const to = plan.tensor("to", [size]);
        copyThrough(plan, "copy", { from, to, variant });
        return { to };
      });
      assertEquals(to, values, JSON.stringify({ size, ...variant }));
    }
  }
});

Deno.test("copyThrough() refuses tensors that differ", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const [from, to] = [inputs.tensor("from", [8]), inputs.tensor("to", [16])];
  assertThrows(
    () => copyThrough(new Plan(gpu, "test"), "copy", { from, to, variant: copyVariants(gpu)[0]! }),
    RangeError,
    "from is f32 of 32 bytes",
  );
});
