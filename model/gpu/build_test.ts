import { assertEquals, assertNotEquals, assertStrictEquals } from "@std/assert";
import { buildPlans, runPlan } from "./build.ts";
import { PipelineCache, read, renderKernel, write } from "./kernel.ts";
import { Plan } from "./plan.ts";
import { openTestGpu } from "./testing.ts";
import { download } from "./transfer.ts";

Deno.test("Plan.constant() holds the host's numbers in each run, whatever else the plan does", async () => {
  const gpu = await openTestGpu();
  const plan = new Plan(gpu, "constants");
  const numbers = [1, 2.5, -3, 4];
  const constant = plan.constant("table", [4], { numbers: () => numbers });
  const halves = plan.constant("table", [4], { dtype: "f16", numbers: () => numbers });
  const [a, b] = [plan.tensor("a", [4]), plan.tensor("b", [4])];
  // A tensor that only lives after the constant's first use would take its memory, were it not kept.
  plan.copy(constant, a);
  plan.clear(b);
  plan.copy(constant, b);
  const c = plan.tensor("c", [4], { dtype: "f16" });
  plan.copy(halves, c);
  for (const tensor of [a, b, c]) plan.keep(tensor);
  const built = await buildPlans(gpu, [plan]);
  try {
    for (let run = 0; run < 2; run++) {
      built.plans[0]!.run();
      for (const tensor of [a, b, c]) assertEquals([...await download(gpu, tensor)], numbers);
    }
  } finally {
    built.destroy();
  }
});

Deno.test("Plan.constant() makes one tensor of a name and a type, and none that nothing uses", async () => {
  const gpu = await openTestGpu();
  const plan = new Plan(gpu, "constants");
  let calls = 0;
  const make = (name: string) =>
    plan.constant(name, [4], {
      numbers() {
        calls++;
        return [1, 2, 3, 4];
      },
    });
  const used = make("used");
  assertStrictEquals(make("used"), used);
  assertNotEquals(make("unused"), used);
  const out = plan.tensor("out", [4]);
  plan.copy(used, out);
  const results = await runPlan(plan, { out });
  assertEquals([...results.out], [1, 2, 3, 4]);
  assertEquals(calls, 1);
});

Deno.test("plans of a device share the pipelines of equal texts, whatever their sizes and their labels", async () => {
  const gpu = await openTestGpu();
  const source = `
@compute @workgroup_size(1) fn main(@builtin(workgroup_id) id: vec3u) {
  if (id.x < params.count) { store_y(id.x, {{ TIMES }} * load_x(id.x)); }
}`;
  const { sources } = PipelineCache.of(gpu);
  const run = async (label: string, size: number, TIMES: number) => {
    const plan = new Plan(gpu, label);
    const x = plan.constant("x", [size], { numbers: () => new Float32Array(size).fill(3) });
    const y = plan.tensor("y", [size]);
    plan.dispatch({
      label,
      name: "times",
      source,
      constants: { TIMES },
      params: { count: size / 4 },
      bindings: { x: read(x), y: write(y) },
      workgroups: [size / 4, 1, 1],
    });
    const [step] = plan.steps;
    const text = step?.kind === "dispatch" ? renderKernel(gpu, step.call) : "";
    const found = await runPlan(plan, { y });
    assertEquals([...found.y], new Array(size).fill(3 * TIMES));
    return text;
  };
  const before = sources.size;
  const first = await run("first", 4, 2);
  assertEquals(sources.size, before + 1);
  assertStrictEquals(await run("second", 12, 2), first);
  assertEquals(sources.size, before + 1);
  assertNotEquals(await run("third", 12, 5), first);
  assertEquals(sources.size, before + 2);
});
