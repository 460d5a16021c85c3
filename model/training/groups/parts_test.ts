import { assert, assertEquals } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { Plan } from "../../gpu/plan.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { partsOf, segmentsOf } from "./parts.ts";

Deno.test("Parts follow the plan's last use of a tensor", async () => {
  const gpu = await openTestGpu();
  const [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map((name) => new Tensor(name, [10])) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const first = new Plan(gpu, "first");
  first.clear(e);
  const next = new Plan(gpu, "next");
  for (const tensor of [a, b, c, b, a]) next.clear(tensor);
  const parts = partsOf({ plans: [first, next], sums: [a, b, c, d, e], means: [], most: 16 });
  // d is touched by no plan, and e by the first alone; a is the last to be final.
  assertEquals(
    parts.map(({ slices }) => slices.map(({ tensor, ...rest }) => [tensor.name, rest])),
    [
      [["e", { first: 0, count: 10 }], ["c", { first: 0, count: 6 }]],
      [["c", { first: 6, count: 4 }], ["b", { first: 0, count: 10 }], ["a", {
        first: 0,
        count: 2,
      }]],
      [["a", { first: 2, count: 8 }]],
    ],
  );
  assertEquals(parts.map(({ ready, size }) => [ready, size]), [[3, 16], [5, 16], [5, 8]]);
  assertEquals(segmentsOf(7, parts), [
    { first: 0, end: 3, parts: [0] },
    { first: 3, end: 5, parts: [1, 2] },
    { first: 5, end: 7, parts: [] },
  ]);
  const both = partsOf({ plans: [next], sums: [a], means: [c], most: 100 });
  assertEquals(both.map(({ mean, ready }) => [mean, ready]), [[true, 3], [false, 5]]);
  assert(partsOf({ plans: [next], sums: [d], means: [], most: 4 }).length === 0);
});
