import { assertEquals } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { embeddingBackward, embeddingForward } from "./embedding.ts";
import { sortByKey } from "../routing/sort.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

for (const rows of [[50], [20, 20, 10], [4, 46]]) {
  Deno.test(`An embedding of parts ${rows} reads rows and adds up gradients`, async () => {
    const gpu = await openTestGpu();
    using inputs = new Inputs(gpu);
    const width = 12;
    const count = 75;
    const ids = Uint32Array.from(noise(count, 2), (v) => (v + 1) ** 2 / 4 * 50);
    ids.set([0, 49, 0, 19, 20, 4, 3], 0);
    const table = Float32Array.from(noise(50 * width, 3));
    const upstream = noise(count * width, 4);
    const before = noise(50 * width, 5);
    const tokens = inputs.tensor("tokens", [count], { values: ids, dtype: "u32" });
    const dx = inputs.tensor("dx", [count, width], { values: upstream });
    let first = 0;
    const parts: ReturnType<Inputs["tensor"]>[] = [];
    const gradients: typeof parts = [];
    for (const [i, n] of rows.entries()) {
      const cut = (all: ArrayLike<number>) =>
        Array.from(all).slice(first * width, (first + n) * width);
      parts.push(inputs.tensor(`table ${i}`, [n, width], { values: cut(table) }));
      gradients.push(inputs.tensor(`gradient ${i}`, [n, width], { values: cut(before) }));
      first += n;
    }
    const out = await runOnce(gpu, (plan) => {
      const x = plan.tensor("x", [count, width]);
      embeddingForward(plan, "forward", { tokens, parts, x });
      const sorted = sortByKey(plan, "sort", { keys: tokens, bound: 50 });
      embeddingBackward(plan, "backward", { sorted, dx, parts: gradients });
      return { x, ...Object.fromEntries(gradients.map((g, i) => [`gradient${i}`, g])) };
    });
    const expected = before.slice();
    ids.forEach((id, t) => {
      assertEquals(
        out.x.slice(t * width, (t + 1) * width),
        table.slice(id * width, (id + 1) * width),
      );
      for (let c = 0; c < width; c++) expected[id * width + c]! += upstream[t * width + c]!;
    });
    const { x: _, ...read } = out as Record<string, Float32Array>;
    const actual = rows.flatMap((_, i) => Array.from(read[`gradient${i}`]!));
    assertNear(actual, expected, { tolerance: 1e-6, what: "gradient" });
  });
}
