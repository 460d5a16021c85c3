import { assertEquals, assertThrows } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { type DType, roundUp } from "../../gpu/tensor.ts";
import { compilesSlowly, openTestGpu } from "../../gpu/testing.ts";
import { Arena } from "../../gpu/memory.ts";
import { buildPlans } from "../../gpu/build.ts";
import { Plan } from "../../gpu/plan.ts";
import { download, upload } from "../../gpu/transfer.ts";
import { matrix, transpose } from "../../ops/gemm/matrix.ts";
import { assertNear, Inputs, noise } from "../../ops/testing.ts";
import { mla as reference } from "../../reference/attention/mla.ts";
import { matrix as referenceMatrix } from "../../reference/matrix.ts";
import { Weights } from "../../layer/weights.ts";
import { LayerContext } from "../../layer/context.ts";
import { latentCache, mlaDecode } from "./decode.ts";
import { mlaSchema, type MlaSection } from "./schema.ts";

/** An attention: its sizes, and its weights of noise. */
interface Model {
  readonly config: MlaSection & { readonly d_model: number };
  readonly shapes: Readonly<Record<string, number[]>>;
  readonly values: Readonly<Record<string, Float64Array>>;
}

function attentionOf(d_rope: number, rope_base = 10000): Model {
  const section = {
    kind: "mla",
    num_heads: 3,
    q_lora_rank: 20,
    kv_lora_rank: 12,
    d_nope: 12,
    d_rope,
    d_v: 20,
    rope_base,
  };
  const shapes = {
    w_dq: [24, 20],
    "q_norm.weight": [20],
    w_uq: [20, 3 * (12 + d_rope)],
    w_dkv: [24, 12 + d_rope],
    "kv_norm.weight": [12],
    w_ukv: [12, 3 * 32],
    w_o: [60, 24],
  };
  const values = Object.fromEntries(
    Object.entries(shapes).map(([name, shape], i) => {
      const size = shape.reduce((a, b) => a * b, 1);
      return [
        name,
        shape.length === 1
          ? noise(size, i).map((v) => 1 + v / 2)
          : noise(size, i).map((v) => Math.fround(v * 2.5 / Math.sqrt(shape[0]!))),
      ];
    }),
  );
  return { config: { ...mlaSchema.parse(section), d_model: 24 }, shapes, values };
}

const MODEL = attentionOf(8);
const { config } = MODEL;

function makeWeights(gpu: Gpu, precision: "f32" | "mixed", { shapes, values }: Model): Weights {
  const specs = Object.entries(shapes).map(([name, shape]) => ({
    name: `attn.${name}`,
    shape,
    decay: shape.length > 1,
    trained: true,
  }));
  const weights = new Weights(gpu, specs, { train: false, precision });
  for (const { name } of specs) {
    for (const table of [weights.value(name), weights.operand(name)]) {
      upload(gpu, table.parts[0]!, values[name.slice("attn.".length)]!);
    }
  }
  return weights;
}

/** Leaves NaN in buffers of the size of the scores and probabilities, as far as they fit a binding; those get that memory later. */
function poison(plan: Plan, inputs: Inputs, [most, width]: [number, number], dtype: DType) {
  const { max_binding_bytes } = plan.gpu.capabilities;
  const rows = Math.min(most, 8 * Math.floor(max_binding_bytes / (32 * width)));
  const values = new Float64Array(rows * width).fill(NaN);
  for (const type of new Set<DType>(["f32", dtype])) {
    const nothing = matrix(inputs.tensor("nothing", [rows, width], { values, dtype: type }));
    transpose(plan, "poison", transpose(plan, "poison", nothing));
  }
}

/** Attention of a sequence given chunk by chunk, through plans recorded once for each size of chunk. */
async function decode(
  gpu: Gpu,
  x: Float64Array,
  options: {
    chunks: readonly number[];
    capacity: number;
    precision?: "f32" | "mixed";
    model?: Model;
    /** Told the kernels of each recorded plan, by its chunk. */
    kernels?: Map<number, readonly string[]>;
  },
): Promise<Float32Array> {
  const { chunks, capacity, precision = "f32", model = MODEL, kernels } = options;
  const { config } = model;
  const D = config.d_model;
  const dtype = precision === "mixed" ? "f16" : "f32";
  const weights = makeWeights(gpu, precision, model);
  const cache = latentCache("attn", config, { capacity, dtype });
  const arena = new Arena(gpu, "cache", [cache.c_kv, cache.kr]);
  // Rows that an earlier sequence may have left must not matter.
  for (const tensor of [cache.c_kv, cache.kr]) {
    upload(gpu, tensor, noise(tensor.size, 9).map((v) => 1000 * v));
  }
  using inputs = new Inputs(gpu);
  const position = inputs.tensor("position", [1], { dtype: "u32" });
  const recorded = [...new Set(chunks)].map((tokens) => {
    const plan = new Plan(gpu, `decode ${tokens}`);
    poison(plan, inputs, [tokens * config.num_heads, roundUp(capacity, 8)], dtype);
    const context = new LayerContext(plan, weights, {
      batch: 1,
      length: tokens,
      mode: "evaluate",
    });
    const chunk = inputs.tensor("x", [tokens, D], { dtype });
    const residual = inputs.tensor("residual", [tokens, D]);
    const y = plan.keep(mlaDecode(context, "attn", {
      x: chunk,
      residual,
      mla: config,
      cache,
      position,
    }));
    kernels?.set(
      tokens,
      plan.steps.flatMap((step) => step.kind === "dispatch" ? [step.call.name] : []),
    );
    return { tokens, plan, chunk, y };
  });
  const built = await buildPlans(gpu, recorded.map(({ plan }) => plan));
  const out = new Float32Array(x.length);
  let at = 0;
  for (const tokens of chunks) {
    const i = recorded.findIndex((r) => r.tokens === tokens);
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

function expected(x: Float64Array, { config, values }: Model = MODEL): Float64Array {
  const length = x.length / config.d_model;
  const input = referenceMatrix(length, config.d_model, x);
  return reference(config, values, { x: input, length }).y.data;
}

Deno.test("Decoding with the latent cache agrees with attention over the whole sequence", async (t) => {
  const gpu = await openTestGpu();
  const x = noise(149 * config.d_model, 30);
  const chunks = [64, 1, 1, 64, 1, 7, 7, 1, 1, 1, 1];

  await t.step("in chunks and token by token, over several spans of the cache", async () => {
    for (const capacity of [149, 1000]) {
      const y = await decode(gpu, x, { chunks, capacity });
      assertNear(y, expected(x), { tolerance: 1e-5, what: `y with a cache of ${capacity}` });
      assertEquals(await decode(gpu, x, { chunks, capacity }), y);
    }
  });

  await t.step("with f16 operands", async () => {
    const y = await decode(gpu, x, { chunks, capacity: 200, precision: "mixed" });
    assertNear(y, expected(x), { tolerance: 1e-2, what: "y" });
  });

  await t.step("with rotary halves that are no vec4s", async () => {
    for (const d_rope of [12, 20]) {
      const model = attentionOf(d_rope);
      const y = await decode(gpu, x, { chunks, capacity: 149, model });
      assertNear(y, expected(x, model), { tolerance: 1e-5, what: `y with d_rope ${d_rope}` });
    }
    const model = attentionOf(12);
    const y = await decode(gpu, x, { chunks, capacity: 149, model, precision: "mixed" });
    assertNear(y, expected(x, model), { tolerance: 1e-2, what: "y with f16 operands" });
  });

  await t.step("with another rotary base", async () => {
    const model = attentionOf(8, 100);
    const y = await decode(gpu, x, { chunks, capacity: 149, model });
    assertNear(y, expected(x, model), { tolerance: 1e-5, what: "y" });
  });

  await t.step("refuses positions that are not one a sequence", () => {
    const weights = makeWeights(gpu, "f32", MODEL);
    const cache = latentCache("attn", config, { capacity: 8, dtype: "f32" });
    using inputs = new Inputs(gpu);
    const x = inputs.tensor("x", [6, 24]);
    const position = inputs.tensor("position", [1], { dtype: "u32" });
    const context = new LayerContext(new Plan(gpu, "test"), weights, {
      batch: 2,
      length: 3,
      mode: "evaluate",
    });
    assertThrows(
      () => mlaDecode(context, "attn", { x, residual: x, mla: config, cache, position }),
      RangeError,
      "2 sequences are decoded, with positions for 1",
    );
    weights.destroy();
  });
});

Deno.test("Chunks of many tokens go through matrix products, which agree with the kernel of a single token", async (t) => {
  // SwiftShader takes many times as long for a kernel as llvmpipe.
  const swift = compilesSlowly();
  // The scores of 71 tokens fit a binding with the smallest cache, of 27 with the largest.
  const gpu = await openTestGpu({ software: false, max_binding_bytes: 128 << 10 });
  const x = noise(149 * config.d_model, 30);
  // With three heads, 128 rows begin at 43 tokens: fewer take the other kernel.
  const chunks = [64, 1, 1, 64, 1, 7, 7, 1, 1, 1, 1];
  const fewer = [42, 42, 42, 7, 7, 7, 1, 1];

  await t.step("over caches of any length, as many tokens at a time as fit", async () => {
    const single = await decode(gpu, x, { chunks: fewer, capacity: 149 });
    const caches = [[149, 1], [152, 1], [400, 3]] as const;
    for (const [capacity, parts] of swift ? caches.slice(0, 1) : caches) {
      const kernels = new Map<number, readonly string[]>();
      const y = await decode(gpu, x, { chunks, capacity, kernels });
      assertNear(y, expected(x), { tolerance: 1e-5, what: `y with a cache of ${capacity}` });
      assertNear(y, single, { tolerance: 1e-5, what: `y with a cache of ${capacity}` });
      assertEquals(await decode(gpu, x, { chunks, capacity }), y);
      for (const [tokens, names] of kernels) {
        const softmax = names.filter((name) => name === "latent_softmax");
        assertEquals(softmax.length, tokens === 64 ? parts : 0, `${tokens} tokens of ${capacity}`);
        assertEquals(names.includes("latent_attention"), tokens !== 64, `${tokens} tokens`);
      }
    }
  });

  await t.step({
    name: "with rotary halves that are no vec4s",
    ignore: swift,
    async fn() {
      for (const [d_rope, precision] of [[12, "f32"], [20, "f32"], [20, "mixed"]] as const) {
        const model = attentionOf(d_rope);
        const kernels = new Map<number, readonly string[]>();
        const y = await decode(gpu, x, { chunks, capacity: 149, model, precision, kernels });
        const what = `y with d_rope ${d_rope} in ${precision}`;
        assertNear(y, expected(x, model), { tolerance: precision === "f32" ? 1e-5 : 1e-2, what });
        assertEquals(kernels.get(64)!.includes("latent_softmax"), true, what);
      }
    },
  });

  await t.step({
    name: "with f16 operands",
    ignore: swift,
    async fn() {
      const options = { capacity: 149, precision: "mixed" } as const;
      const y = await decode(gpu, x, { chunks, ...options });
      const single = await decode(gpu, x, { chunks: fewer, ...options });
      assertNear(y, expected(x), { tolerance: 1e-2, what: "y" });
      assertNear(y, single, { tolerance: 5e-3, what: "y" });
      assertEquals(await decode(gpu, x, { chunks, ...options }), y);
    },
  });
});
