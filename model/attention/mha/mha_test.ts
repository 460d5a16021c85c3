import { assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { z } from "zod";
import { Arena } from "../../gpu/memory.ts";
import { buildPlans } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { Plan } from "../../gpu/plan.ts";
import { download, packFields, upload } from "../../gpu/transfer.ts";
import { LayerContext } from "../../layer/context.ts";
import { Weights } from "../../layer/weights.ts";
import { loadArchitecture } from "../../load.ts";
import { CONTROL } from "../../ops/control.ts";
import { DROPOUT_KEY } from "../../ops/dropout/dropout.ts";
import { assertNear, Inputs, noise, runOnce } from "../../ops/testing.ts";
import { mha as reference } from "../../reference/attention/mha.ts";
import { dropoutMasks, placesUnder } from "../../reference/dropout.ts";
import { matrix } from "../../reference/matrix.ts";
import { kind } from "./kind.ts";
import { keyValueCache, mhaDecode } from "./decode.ts";
import { headsOf, mhaSchema, type MhaSection } from "./schema.ts";

const D = 24;
const AT = "layers.2.attn";

/** An attention, and its weights of noise. */
function attentionOf(section: Record<string, unknown>) {
  const mha = mhaSchema.parse({ kind: "mha", ...section });
  const trunk = { d_model: D, num_layers: 1 };
  const specs = kind.create(mha, trunk).parameters(AT)
    .map((spec) => ({ ...spec, trained: true }));
  const values = Object.fromEntries(specs.map(({ name, shape }, i) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const scale = shape.length === 1 ? 0.5 : 2.5 / Math.sqrt(shape[0]!);
    return [name.slice(AT.length + 1), noise(size, i).map((v) => Math.fround(v * scale))];
  }));
  return { mha, specs, values };
}

type Attention = ReturnType<typeof attentionOf>;

function makeWeights(gpu: Gpu, { specs, values }: Attention, precision: "f32" | "mixed") {
  const weights = new Weights(gpu, specs, { train: true, precision });
  for (const { name } of specs) {
    for (const table of [weights.value(name), weights.operand(name)]) {
      upload(gpu, table.parts[0]!, values[name.slice(AT.length + 1)]!);
    }
  }
  return weights;
}

const SECTIONS: readonly Record<string, unknown>[] = [
  { num_heads: 3 },
  { num_heads: 4, num_kv_heads: 2, d_head: 12, d_rope: 8, rope_base: 100 },
  { num_heads: 6, num_kv_heads: 1, d_head: 8, d_rope: 2, bias: false },
  {
    num_heads: 2,
    d_head: 16,
    d_rope: 16,
    rope_base: 50,
    rope_scaling: {
      type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 24,
    },
  },
  { num_heads: 2, d_rope: 12, rope_scaling: { type: "linear", factor: 3 } },
];

/** Widths of published models: the widest heads, and rotary halves that are no whole vec4s. */
const WIDE: readonly Record<string, unknown>[] = [
  { num_heads: 2, d_head: 256, d_rope: 64 },
  { num_heads: 1, d_head: 80, d_rope: 20 },
];

/** Both passes on the GPU: the result and every gradient. */
async function run(
  gpu: Gpu,
  attention: Attention,
  options: {
    readonly batch: number;
    readonly length: number;
    readonly precision: "f32" | "mixed";
    readonly update: number;
    /** Leaves the gradients out. */
    readonly forward?: boolean;
  },
): Promise<Record<string, Float32Array>> {
  const { batch, length, precision, update } = options;
  const { mha, specs } = attention;
  const dtype = precision === "mixed" ? "f16" : "f32";
  const weights = makeWeights(gpu, attention, precision);
  using inputs = new Inputs(gpu);
  const shape = [batch * length, D];
  const tensor = (name: string, seed: number, type: "f16" | "f32" = "f32") =>
    inputs.tensor(name, shape, { values: noise(batch * length * D, seed), dtype: type });
  const x = tensor("x", 30, dtype);
  const [residual, dy] = [tensor("residual", 31), tensor("dy", 32)];
  const control = inputs.tensor("control", [CONTROL.length], {
    values: packFields(CONTROL, { decided: update }),
  });
  const key = inputs.tensor("key", [DROPOUT_KEY], { dtype: "u32" });
  const { forward } = kind.create(mha, { d_model: D, num_layers: 1 });
  const out = await runOnce(gpu, (plan) => {
    const context = new LayerContext(plan, weights, {
      batch,
      length,
      mode: "train",
      dropout: { seed: 8, control, key },
    });
    const pass = forward(context, AT, { x, residual });
    const results: Record<string, typeof x> = { y: pass.y };
    if (!options.forward) results["x"] = pass.backward(dy);
    return results;
  });
  if (options.forward) {
    weights.destroy();
    return out;
  }
  for (const { name } of specs) {
    out[name.slice(AT.length + 1)] = await download(
      gpu,
      weights.gradient(name).parts[0]!,
    ) as Float32Array;
  }
  weights.destroy();
  return out;
}

/** The same in float64. */
function expected(
  { mha, values }: Attention,
  { batch, length, update }: { batch: number; length: number; update: number },
): Record<string, Float64Array> {
  const rows = batch * length;
  const masks = dropoutMasks({ seed: 8, update, microBatch: 0 });
  const forward = reference(mha, values, {
    x: matrix(rows, D, noise(rows * D, 30)),
    length,
    masks: placesUnder(masks, `${AT}.`),
  });
  const backward = forward.backward(matrix(rows, D, noise(rows * D, 32)));
  const residual = noise(rows * D, 31);
  return {
    y: forward.y.data.map((v, i) => v + residual[i]!),
    x: backward.x.data,
    ...backward.weights,
  };
}

Deno.test("Multi-head attention and its gradients agree with float64, with and without dropout", async () => {
  const gpu = await openTestGpu();
  for (const section of SECTIONS) {
    for (const dropout of [0, 0.3]) {
      const attention = attentionOf({ ...section, dropout });
      for (const precision of ["f32", "mixed"] as const) {
        const sizes = { batch: 2, length: 19, precision, update: 7 };
        const actual = await run(gpu, attention, sizes);
        for (const [name, values] of Object.entries(expected(attention, sizes))) {
          const what = `${name} of ${JSON.stringify({ ...section, dropout, precision })}`;
          const tolerance = precision === "f32" ? 1e-5 : 1e-2;
          assertNear(actual[name]!, values, { tolerance, what });
        }
      }
    }
  }
});

Deno.test("Heads as wide as those of published models agree with float64, forward", async () => {
  const gpu = await openTestGpu();
  for (const section of WIDE) {
    const attention = attentionOf(section);
    for (const precision of ["f32", "mixed"] as const) {
      // The gradients' kernels take a software device minutes to compile at this width.
      const sizes = { batch: 1, length: 35, precision, update: 0, forward: true };
      const { y } = expected(attention, sizes);
      const actual = await run(gpu, attention, sizes);
      const tolerance = precision === "f32" ? 1e-5 : 1e-2;
      assertNear(actual["y"]!, y!, { tolerance, what: JSON.stringify({ ...section, precision }) });
    }
  }
});

Deno.test("The bias of keys that do not turn is held at zero, and masks change with the update", async () => {
  const gpu = await openTestGpu();
  const attention = attentionOf({ num_heads: 2, d_head: 12, d_rope: 4, dropout: 0.2 });
  const sizes = { batch: 1, length: 9, precision: "f32", update: 0 } as const;
  const first = await run(gpu, attention, sizes);
  const keys = first["b_qkv"]!.subarray(24, 48);
  keys.forEach((g, i) => assertEquals(g === 0, i % 12 >= 4, `${i}`));
  const other = await run(gpu, attention, { ...sizes, update: 1 });
  assertNotEquals(other["y"], first["y"]);
  assertEquals((await run(gpu, attention, sizes))["y"], first["y"]);
});

/** Attention of a sequence given chunk by chunk, through plans recorded once for each size of chunk. */
async function decode(
  gpu: Gpu,
  attention: Attention,
  options: {
    readonly chunks: readonly number[];
    readonly capacity: number;
    readonly precision: "f32" | "mixed";
  },
): Promise<Float32Array> {
  const { chunks, capacity, precision } = options;
  const { mha } = attention;
  const length = chunks.reduce((a, b) => a + b);
  const x = noise(length * D, 30);
  const dtype = precision === "mixed" ? "f16" : "f32";
  const weights = makeWeights(gpu, attention, precision);
  const groups = headsOf(mha, { d_model: D });
  const cache = keyValueCache("attn", groups, { capacity, dtype });
  const arena = new Arena(gpu, "cache", [cache]);
  // Rows that an earlier sequence may have left must not matter.
  upload(gpu, cache, noise(cache.size, 9).map((v) => 1000 * v));
  using inputs = new Inputs(gpu);
  const position = inputs.tensor("position", [1], { dtype: "u32" });
  const sizes = [...new Set(chunks)];
  const recorded = sizes.map((tokens) => {
    const plan = new Plan(gpu, `decode ${tokens}`);
    const context = new LayerContext(plan, weights, {
      batch: 1,
      length: tokens,
      mode: "evaluate",
    });
    const chunk = inputs.tensor("x", [tokens, D], { dtype });
    const residual = inputs.tensor("residual", [tokens, D]);
    const input = { x: chunk, residual, mha, groups, cache, position };
    return { plan, chunk, y: plan.keep(mhaDecode(context, AT, input)) };
  });
  const built = await buildPlans(gpu, recorded.map(({ plan }) => plan));
  const out = new Float32Array(x.length);
  let at = 0;
  for (const tokens of chunks) {
    const i = sizes.indexOf(tokens);
    const { chunk, y } = recorded[i]!;
    upload(gpu, position, [at]);
    upload(gpu, chunk, x.subarray(at * D, (at + tokens) * D));
    built.plans[i]!.run();
    out.set(await download(gpu, y), at * D);
    at += tokens;
  }
  gpu.check();
  built.destroy();
  arena.destroy();
  weights.destroy();
  return out;
}

Deno.test("Decoding with a cache agrees with attention over the whole sequence, over several spans of it", async () => {
  const gpu = await openTestGpu();
  const chunks = [64, 1, 1, 64, 1, 7, 7, 1, 1, 1, 1];
  for (const section of [...SECTIONS, ...WIDE]) {
    const attention = attentionOf({ ...section, dropout: 0.5 });
    const whole = reference({ ...attention.mha, dropout: 0 }, attention.values, {
      x: matrix(149, D, noise(149 * D, 30)),
      length: 149,
    }).y.data;
    for (const precision of ["f32", "mixed"] as const) {
      for (const capacity of [149, 1000]) {
        const options = { chunks, capacity, precision };
        const y = await decode(gpu, attention, options);
        const what = `y of ${JSON.stringify({ ...section, precision, capacity })}`;
        assertNear(y, whole, { tolerance: precision === "f32" ? 1e-5 : 1e-2, what });
        if (capacity === 149) assertEquals(await decode(gpu, attention, options), y);
      }
    }
  }
});

Deno.test("Multi-head attention names what it cannot do", async () => {
  const gpu = await openTestGpu();
  const attention = attentionOf({ num_heads: 3, dropout: 0.1 });
  const weights = makeWeights(gpu, attention, "f32");
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [6, D]);
  const mha: MhaSection = attention.mha;
  const groups = headsOf(mha, { d_model: D });
  const cache = keyValueCache("attn", groups, { capacity: 8, dtype: "f32" });
  const position = inputs.tensor("position", [1], { dtype: "u32" });
  const sizes = { batch: 2, length: 3 };
  const evaluation = new LayerContext(new Plan(gpu, "test"), weights, {
    ...sizes,
    mode: "evaluate",
  });
  assertThrows(
    () => mhaDecode(evaluation, AT, { x, residual: x, mha, groups, cache, position }),
    RangeError,
    "2 sequences are decoded, with positions for 1",
  );
  const { forward } = kind.create(mha, { d_model: D, num_layers: 1 });
  const training = new LayerContext(new Plan(gpu, "test"), weights, { ...sizes, mode: "train" });
  assertThrows(
    () => forward(training, AT, { x, residual: x }),
    Error,
    "layers.2.attn.probabilities: a training pass with dropout needs a seed",
  );
  weights.destroy();
});

Deno.test("A stored configuration whose heads do not fit is refused, with the key", async () => {
  const config = {
    vocab_size: 11,
    d_model: 24,
    num_layers: 1,
    leading_dense: { num_layers: 0 },
    attention: { kind: "mha", num_heads: 4 },
    ffn: { kind: "dense", d_ffn: 8 },
  };
  const error = await assertRejects(() => loadArchitecture(config), z.ZodError);
  assertEquals(error.issues.map(({ path, message }) => [path.join("."), message]), [[
    "attention.num_heads",
    "4 heads of d_model 24 are 6 wide, not a multiple of 4; give d_head",
  ]]);
  const still = { kind: "mha", num_heads: 6, rope_scaling: { type: "linear", factor: 2 } };
  const unused = await assertRejects(
    () => loadArchitecture({ ...config, attention: still }),
    z.ZodError,
    "it means nothing with d_rope 0",
  );
  assertEquals(unused.issues.map(({ path }) => path.join(".")), ["attention.rope_scaling"]);
  const turning = { kind: "mha", num_heads: 6, d_rope: 8 };
  const other = await assertRejects(
    () => loadArchitecture({ ...config, attention: turning }),
    z.ZodError,
  );
  assertEquals(other.issues.map(({ path }) => path.join(".")), ["attention.d_rope"]);
});
