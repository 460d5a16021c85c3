import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { Gpu } from "../../gpu/device.ts";
import { compilesSlowly, openTestGpu } from "../../gpu/testing.ts";
import { upload } from "../../gpu/transfer.ts";
import { assertNear, Inputs, noise, runOnce } from "../../ops/testing.ts";
import { mla as reference } from "../../reference/attention/mla.ts";
import { matrix } from "../../reference/matrix.ts";
import { parseSafetensors, toFloat64 } from "../../checkpoint/safetensors.ts";
import { Weights, type WeightSpec } from "../../layer/weights.ts";
import { LayerContext } from "../../layer/context.ts";
import { mlaBackward, mlaForward } from "./mla.ts";
import { mlaSchema, type MlaSection } from "./schema.ts";

type Name = "w_dq" | "q_norm.weight" | "w_uq" | "w_dkv" | "kv_norm.weight" | "w_ukv" | "w_o";

/** An attention with all its inputs. */
interface Case {
  config: Config;
  batch: number;
  length: number;
  x: Float64Array;
  /** Gradient of the result. */
  g: Float64Array;
  weights: Record<Name, Float64Array>;
}

interface Config extends MlaSection {
  readonly d_model: number;
}

type Sizes = Omit<Config, "kind" | "rope_base"> & Partial<Config>;

/** Shapes of the weights. */
function shapes(sizes: Sizes): Record<Name, number[]> {
  const { d_model, num_heads, q_lora_rank, kv_lora_rank, d_nope, d_rope, d_v } = sizes;
  return {
    w_dq: [d_model, q_lora_rank],
    "q_norm.weight": [q_lora_rank],
    w_uq: [q_lora_rank, num_heads * (d_nope + d_rope)],
    w_dkv: [d_model, kv_lora_rank + d_rope],
    "kv_norm.weight": [kv_lora_rank],
    w_ukv: [kv_lora_rank, num_heads * (d_nope + d_v)],
    w_o: [num_heads * d_v, d_model],
  };
}

function configOf({ d_model, ...section }: Sizes): Config {
  return { ...mlaSchema.parse({ kind: "mla", ...section }), d_model };
}

/** A case of noise, with weights of such a size that attention is neither flat nor one-hot. */
function randomCase(sizes: Sizes, counts: { batch: number; length: number }): Case {
  const tokens = counts.batch * counts.length;
  const weights: Record<string, Float64Array> = {};
  Object.entries(shapes(sizes)).forEach(([name, shape], i) => {
    const size = shape.reduce((a, b) => a * b, 1);
    weights[name] = shape.length === 1
      ? noise(size, i).map((v) => 1 + v / 2)
      : noise(size, i).map((v) => Math.fround(v * 2.5 / Math.sqrt(shape[0]!)));
  });
  return {
    config: configOf(sizes),
    ...counts,
    x: noise(tokens * sizes.d_model, 20),
    g: noise(tokens * sizes.d_model, 21),
    weights: weights as Record<Name, Float64Array>,
  };
}

const NAMES = Object.keys(shapes({} as Sizes)) as Name[];

/** Runs a case on the GPU: the result without the residual, and every gradient. */
async function run(
  gpu: Gpu,
  c: Case,
  options: { precision?: "f32" | "mixed"; isolate?: boolean; accumulate?: boolean } = {},
) {
  const { precision = "f32", accumulate = false } = options;
  const specs: WeightSpec[] = Object.entries(shapes(c.config)).map(([name, shape]) => ({
    name: `attn.${name}`,
    shape,
    decay: shape.length > 1,
    trained: true,
  }));
  const weights = new Weights(gpu, specs, { train: true, precision });
  using inputs = new Inputs(gpu);
  for (const name of NAMES) {
    for (const table of [weights.value(`attn.${name}`), weights.operand(`attn.${name}`)]) {
      upload(gpu, table.parts[0]!, c.weights[name]);
    }
  }
  const dtype = precision === "mixed" ? "f16" : "f32";
  const shape = [c.batch * c.length, c.config.d_model];
  const x = inputs.tensor("x", shape, { values: c.x, dtype });
  const residual = inputs.tensor("residual", shape, { values: c.x.map((v) => v / 8) });
  const g = inputs.tensor("g", shape, { values: c.g });
  const out = await runOnce(gpu, (plan) => {
    const context = new LayerContext(plan, weights, {
      batch: c.batch,
      length: c.length,
      mode: "train",
      accumulate,
    });
    const { y, saved } = mlaForward(context, "attn", { x, residual, mla: c.config });
    const dx = mlaBackward(context, "attn", { dy: g, saved, mla: c.config });
    const gradients = Object.fromEntries(
      NAMES.map((name) => [name, weights.gradient(`attn.${name}`).parts[0]!]),
    );
    return { y, x: dx, ...gradients };
  }, options);
  weights.destroy();
  return { ...out, y: out.y.map((v, i) => v - Math.fround(c.x[i]! / 8)) };
}

/** Runs a case and compares it with float64. */
async function check(
  gpu: Gpu,
  c: Case,
  options: { precision?: "f32" | "mixed"; outputs?: number; gradients?: number } = {},
) {
  const { outputs = 1e-5, gradients = 3e-5 } = options;
  const actual = await run(gpu, c, options);
  const x = matrix(c.batch * c.length, c.config.d_model, c.x);
  const forward = reference(c.config, c.weights, { x, length: c.length });
  const expected = forward.backward(matrix(x.rows, x.columns, c.g));
  assertNear(actual.y, forward.y.data, { tolerance: outputs, what: "y" });
  assertNear(actual.x, expected.x.data, { tolerance: gradients, what: "gradient of x" });
  for (const name of NAMES) {
    assertNear((actual as Record<string, Float32Array>)[name]!, expected.weights[name]!, {
      tolerance: gradients,
      what: `gradient of ${name}`,
    });
  }
  return actual;
}

const SIZES: Sizes = {
  d_model: 24,
  num_heads: 3,
  q_lora_rank: 20,
  kv_lora_rank: 12,
  d_nope: 12,
  d_rope: 8,
  d_v: 20,
};
const small = randomCase(SIZES, { batch: 2, length: 35 });

/** The golden vectors as a case, with the results as tensors by name. */
async function golden() {
  const url = new URL("../../golden/testdata/mla.safetensors", import.meta.url);
  const { tensors, metadata } = parseSafetensors(await Deno.readFile(url), "mla.safetensors");
  const values = (name: string) => toFloat64(tensors.get(name)!);
  const sizes = JSON.parse(metadata["config"]!);
  const config = configOf({
    d_model: sizes.d_model,
    num_heads: sizes.heads,
    q_lora_rank: sizes.q_rank,
    kv_lora_rank: sizes.kv_rank,
    d_nope: sizes.d_nope,
    d_rope: sizes.d_rope,
    d_v: sizes.d_v,
  });
  const weights = Object.fromEntries(NAMES.map((name) => [name, values(name)]));
  const c: Case = {
    config,
    batch: sizes.B,
    length: sizes.L,
    x: values("x"),
    g: values("g"),
    weights: weights as Record<Name, Float64Array>,
  };
  return { c, values };
}

for (const software of [true, false]) {
  const variant = software ? "software" : "GPU";
  Deno.test(`MLA agrees with the golden vectors and with float64, ${variant} variant`, async (t) => {
    const gpu = await openTestGpu({ software });
    const { c, values } = await golden();

    await t.step("golden vectors", async () => {
      const out: Record<string, Float32Array> = await run(gpu, c);
      assertNear(out["y"]!, values("out.y"), { tolerance: 1e-4, what: "y" });
      for (const name of ["x", ...NAMES]) {
        assertNear(out[name]!, values(`grad.${name}`), { tolerance: 5e-4, what: name });
      }
    });

    await t.step("odd lengths, one bit for bit run after another, isolated buffers", async () => {
      const first = await check(gpu, small);
      assertEquals(await run(gpu, small), first);
      assertEquals(await run(gpu, small, { isolate: true }), first);
      for (const length of software || !compilesSlowly() ? [1, 2, 9] : [9]) {
        await check(gpu, randomCase(SIZES, { batch: 3, length }));
      }
    });

    await t.step("heads as wide as the paper's", async () => {
      const wide = { ...SIZES, num_heads: 2, d_nope: 64, d_rope: 64, d_v: 64 };
      await check(gpu, randomCase(wide, { batch: 1, length: 37 }));
    });

    await t.step("rotary halves that are no vec4s", async () => {
      const rotary = (d_rope: number) => randomCase({ ...SIZES, d_rope }, { batch: 2, length: 35 });
      // Of a GPU's kernels only the rotation would be another.
      if (!software && compilesSlowly()) return;
      await check(gpu, rotary(12));
      if (software) await check(gpu, rotary(20));
      await check(gpu, rotary(20), { precision: "mixed", outputs: 1e-2, gradients: 2e-2 });
    });

    await t.step("another rotary base", async () => {
      await check(gpu, randomCase({ ...SIZES, rope_base: 100 }, { batch: 2, length: 35 }));
    });

    await t.step("f16 operands", async () => {
      await check(gpu, small, { precision: "mixed", outputs: 1e-2, gradients: 2e-2 });
    });
  });
}

Deno.test("MLA with packed halves agrees with float64", async () => {
  const gpu = await openTestGpu({ f16: false });
  await check(gpu, small, { precision: "mixed", outputs: 1e-2, gradients: 2e-2 });
});

Deno.test("MLA agrees with float64 at any shape", async () => {
  const gpu = await openTestGpu();
  const width = (most: number) => fc.integer({ min: 1, max: most }).map((n) => 4 * n);
  const property = fc.asyncProperty(
    fc.record({
      d_model: width(6),
      num_heads: fc.integer({ min: 1, max: 3 }),
      q_lora_rank: width(5),
      kv_lora_rank: width(5),
      // Few distinct widths of heads, since each makes kernels of its own.
      d_nope: fc.constantFrom(4, 8),
      d_rope: fc.constant(8),
      d_v: fc.constantFrom(4, 12),
    }),
    fc.record({
      batch: fc.integer({ min: 1, max: 3 }),
      length: fc.integer({ min: 1, max: 21 }),
    }),
    async (sizes, counts) => {
      await check(gpu, randomCase(sizes, counts), { outputs: 1e-4, gradients: 5e-4 });
    },
  );
  await fc.assert(property, { numRuns: 6, seed: 7 });
});

Deno.test("MLA takes any rotary width that tensors can have", () => {
  assertEquals(configOf({ ...SIZES, d_rope: 20 }).d_rope, 20);
  assertThrows(
    () => configOf({ ...SIZES, d_rope: 10 }),
    Error,
    "10 is not a multiple of 4; 8 and 12 are",
  );
});
