import { assertEquals, assertThrows } from "@std/assert";
import { runPlan } from "../gpu/build.ts";
import { Plan } from "../gpu/plan.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { chunkRows, gatherParts, padColumns, Tensors, unpadColumns, uploadRows } from "./rows.ts";

Deno.test("padColumns() fills rows with zeros, and unpadColumns() takes them away", () => {
  const values = Float32Array.of(1, 2, 3, 4, 5, 6);
  assertEquals([...padColumns(values, 3)], [1, 2, 3, 0, 4, 5, 6, 0]);
  assertEquals([...unpadColumns(padColumns(values, 3), 3)], [...values]);
  assertEquals([...unpadColumns(Uint32Array.of(1, 2, 3, 0, 4, 5, 6, 0), 3)], [...values]);
  assertEquals(padColumns(Float32Array.of(1, 2, 3, 4), 4), Float32Array.of(1, 2, 3, 4));
});

Deno.test("rows go to as many tensors as bindings need, and come back by their numbers", async () => {
  // 160 rows of 24 numbers and no more.
  const gpu = await openTestGpu({ max_binding_bytes: 160 * 24 * 4 });
  assertEquals(chunkRows(gpu, 22), 128);
  using tensors = new Tensors(gpu);
  const values = Float32Array.from({ length: 300 * 22 }, (_, i) => i);
  const rows = uploadRows(tensors, values, { width: 22, gpu });
  assertEquals(rows.chunks.map((chunk) => chunk.shape), [[128, 24], [128, 24], [44, 24]]);
  const numbers = Uint32Array.from({ length: 299 }, (_, i) => 299 - i);
  const plan = new Plan(gpu, "test");
  const parts = Array.from(gatherParts(plan, "gather", { rows, numbers }), (part) => part);
  assertEquals(parts.map((part) => part.rows), [128, 128, 43]);
  const found = await runPlan(plan, Object.fromEntries(parts.map((part, i) => [i, part])));
  const all = parts.flatMap((_, i) => [...unpadColumns(found[i]!, 22)]);
  const expected = Array.from(numbers).flatMap((
    row,
  ) => [...values.subarray(22 * row, 22 * row + 22)]);
  assertEquals(all, expected);
});

Deno.test("chunkRows() refuses rows that are wider than a binding", async () => {
  const gpu = await openTestGpu({ max_binding_bytes: 4096 });
  assertThrows(
    () => chunkRows(gpu, 100),
    RangeError,
    "Rows of 100 numbers are too wide for a binding of 4096 bytes",
  );
});
