/** Copies of tensors in textures: what they hold, when they are made, and when they are not. */

import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { runPlan } from "./build.ts";
import { copiesOf, placeCopies } from "./copies.ts";
import { type Binding, read, readOften, write } from "./kernel.ts";
import { Plan } from "./plan.ts";
import { Tensor } from "./tensor.ts";
import { fitsTexels, Texels, TEXELS_ACROSS } from "./texels.ts";
import { openTestGpu } from "./testing.ts";

/** So many loads that a copy always pays, and so few that none does. */
const MANY = 1e6;
const FEW = 100;

/** Numbers of whole rows of a texture and of a part of one. */
const SIZE = 4 * (2 * TEXELS_ACROSS + 37);

/** Records y = x + `added`. */
function add(
  plan: Plan,
  { x, y, added }: { x: Binding; y: Tensor; added: number },
): void {
  const count = y.size / 4;
  plan.dispatch({
    label: "add",
    name: "add",
    source: `
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < params.count) { store_y(id.x, load_x(id.x) + f32(params.added)); }
}`,
    params: { count, added },
    bindings: { x, y: write(y) },
    workgroups: [Math.ceil(count / 64), 1, 1],
  });
}

/** Copies of each step. */
const counts = (plan: Plan) => placeCopies(plan).map(({ copies }) => copies.length);

for (const isolate of [false, true]) {
  Deno.test(`a copy holds the numbers of its moment, isolated ${isolate}`, async () => {
    const gpu = await openTestGpu();
    const plan = new Plan(gpu, "copies");
    const numbers = Float32Array.from({ length: SIZE }, (_, i) => i);
    const start = plan.constant("start", [SIZE], { numbers: () => numbers });
    const tensor = (name: string) => plan.tensor(name, [SIZE]);
    const [x, first, second, third] = ["x", "first", "second", "third"].map(tensor) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    add(plan, { x: readOften(start, MANY), y: x, added: 1 });
    add(plan, { x: readOften(x, MANY), y: first, added: 0 });
    add(plan, { x: readOften(start, MANY), y: x, added: 2 });
    // One binding for two dispatches, with the tensor written in between.
    const again = readOften(x, MANY);
    add(plan, { x: again, y: second, added: 0 });
    plan.copy(start, x);
    add(plan, { x: again, y: third, added: 0 });
    assertEquals(counts(plan), [1, 1, 0, 1, 0, 1]);
    const found = await runPlan(plan, { first, second, third }, { isolate });
    assertEquals([...found.first], [...numbers.map((v) => v + 1)]);
    assertEquals([...found.second], [...numbers.map((v) => v + 2)]);
    assertEquals([...found.third], [...numbers]);
  });
}

Deno.test("a copy serves all that read a tensor, and pays by all of them", async () => {
  const gpu = await openTestGpu();
  const record = (...loads: number[]) => {
    const plan = new Plan(gpu, "copies");
    const given = new Tensor("given", [64]);
    const x = plan.tensor("x", [64]);
    add(plan, { x: read(given), y: x, added: 1 });
    for (const count of loads) {
      add(plan, { x: readOften(x, count), y: plan.tensor("y", [64]), added: 1 });
    }
    return plan;
  };
  assertEquals(counts(record(FEW, FEW)), [0, 0, 0]);
  assertEquals(counts(record(12_000)), [0, 0]);
  const both = record(12_000, 12_000);
  assertEquals(counts(both), [0, 1, 0]);
  const [, second, third] = placeCopies(both).map(copiesOf);
  assertStrictEquals(second![0], third![0]);
  assertStrictEquals(placeCopies(both), placeCopies(both));
});

Deno.test("what no step wrote is copied at once, before the first step", async () => {
  const gpu = await openTestGpu();
  const plan = new Plan(gpu, "copies");
  const given = new Tensor("given", [2, 64]);
  const y = () => plan.tensor("y", [64]);
  add(plan, { x: read(given.reshape(128).slice(0, 64)), y: y(), added: 1 });
  add(plan, { x: readOften(given.slice(1, 1), 9000), y: y(), added: 1 });
  add(plan, { x: readOften(given.slice(0, 1), FEW), y: y(), added: 1 });
  assertEquals(counts(plan), [1, 0, 0]);
});

Deno.test("copies wait for each other where none is late, so that fewer passes end", async () => {
  const gpu = await openTestGpu();
  const plan = new Plan(gpu, "copies");
  const given = new Tensor("given", [64]);
  const made = ["a", "b", "c"].map((name) => {
    const x = plan.tensor(name, [64]);
    add(plan, { x: read(given), y: x, added: 1 });
    return x;
  });
  for (const x of made) add(plan, { x: readOften(x, MANY), y: plan.tensor("y", [64]), added: 1 });
  assertEquals(counts(plan), [0, 0, 0, 3, 0, 0]);
});

Deno.test("tensors that kernels wish for together are all copied or none", async () => {
  const gpu = await openTestGpu();
  const record = (...loads: readonly (readonly [number, number])[]) => {
    const plan = new Plan(gpu, "copies");
    const given = loads.map((_, i) => new Tensor(`given ${i}`, [64]));
    given.push(new Tensor("last", [64]));
    for (const [i, [a, b]] of loads.entries()) {
      plan.dispatch({
        label: "pair",
        name: "pair",
        source: "",
        bindings: {
          a: readOften(given[i]!, a),
          b: readOften(given[i + 1]!, b),
          y: write(plan.tensor("y", [64])),
        },
        workgroups: [1, 1, 1],
      });
    }
    return counts(plan);
  };
  assertEquals(record([MANY, FEW], [FEW, FEW]), [3, 0]);
  assertEquals(record([9000, FEW], [FEW, FEW]), [0, 0]);
  assertEquals(record([9000, 9000], [9000, FEW]), [3, 0]);
});

Deno.test("only f32 that fits a texture is copied", () => {
  assertEquals(fitsTexels(new Tensor("x", [8192 * TEXELS_ACROSS, 4])), true);
  const large = new Tensor("large", [8192 * TEXELS_ACROSS + 1, 4]);
  assertEquals(fitsTexels(large), false);
  assertThrows(() => new Texels(large), TypeError, "Tensor large is f32 of 134217744 bytes");
  assertThrows(() => new Texels(new Tensor("half", [4], { dtype: "f16" })), TypeError, "f16");
});
