import { assertEquals } from "@std/assert";
import { WEBGPU_DEFAULTS } from "../../gpu/capabilities.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { type DType, Tensor } from "../../gpu/tensor.ts";
import { compilesSlowly, openTestGpu } from "../../gpu/testing.ts";
import { packFields } from "../../gpu/transfer.ts";
import { dropoutMasks } from "../../reference/dropout.ts";
import { CONTROL } from "../control.ts";
import { DROPOUT_KEY, dropoutKey, dropoutPlace } from "../dropout/dropout.ts";
import { attentionBackward, attentionForward } from "./attention.ts";
import type { AttentionSizes } from "./attention_operands.ts";
import { type AttentionOptions, chooseAttention } from "./attention_kernels.ts";
import { matrixUnit } from "../gemm/matrix_unit.ts";
import { matrix, transpose } from "../gemm/matrix.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

type Values = Record<"q" | "kv" | "kr" | "d_o", Float64Array>;

/** Scores around zero with a spread of a few units, rounded to what the operands hold. */
function inputsOf(sizes: AttentionSizes, dtype: DType, spread = 2): Values {
  const { batch, length, heads, d_nope, d_rope, d_v } = sizes;
  const tokens = batch * length;
  const numbers = (width: number, seed: number) =>
    noise(tokens * width, seed).map((v) => dtype === "f16" ? new Float16Array([v])[0]! : v);
  return {
    q: numbers(heads * (d_nope + d_rope), 1).map((v) => spread * v),
    kv: numbers(heads * (d_nope + d_v), 2).map((v) => 2 * v),
    kr: numbers(d_rope, 3).map((v) => 2 * v),
    d_o: numbers(heads * d_v, 4).map((v) => 2 * v),
  };
}

/** Where and when the tests drop probabilities. */
const DROPPED = { seed: 3, update: 5, microBatch: 0 };
const PLACE = "layers.1.attn.probabilities";

/** Attention and its gradients, row by row in float64. */
function reference(sizes: AttentionSizes, { q, kv, kr, d_o }: Values, rate = 0) {
  const factor = dropoutMasks(DROPPED)(PLACE, rate);
  const { batch, length, heads, d_nope, d_rope, d_v } = sizes;
  const tokens = batch * length;
  const qk = d_nope + d_rope;
  const scale = 1 / Math.sqrt(qk);
  const out = {
    o: new Float64Array(tokens * heads * d_v),
    log_sum: new Float64Array(heads * tokens),
    d_q: new Float64Array(q.length),
    d_kv: new Float64Array(kv.length),
    d_kr: new Float64Array(tokens * heads * d_rope),
  };
  for (let token = 0; token < tokens; token++) {
    const begin = Math.floor(token / length) * length;
    for (let h = 0; h < heads; h++) {
      const qAt = (token * heads + h) * qk;
      const oAt = (token * heads + h) * d_v;
      const kAt = (t: number) => (t * heads + h) * (d_nope + d_v);
      const key = (t: number, d: number) =>
        d < d_nope ? kv[kAt(t) + d]! : kr[t * d_rope + d - d_nope]!;
      const scores: number[] = [];
      for (let t = begin; t <= token; t++) {
        let s = 0;
        for (let d = 0; d < qk; d++) s += q[qAt + d]! * key(t, d);
        scores.push(s * scale);
      }
      const most = Math.max(...scores);
      const total = scores.reduce((sum, s) => sum + Math.exp(s - most), 0);
      const logSum = most + Math.log(total);
      out.log_sum[h * tokens + token] = logSum;
      const p = scores.map((s) => Math.exp(s - logSum));
      const dp = p.map((weight, i) => {
        let product = 0;
        const f = factor(h * tokens + token, i);
        for (let d = 0; d < d_v; d++) {
          const v = kv[kAt(begin + i) + d_nope + d]!;
          out.o[oAt + d]! += weight * f * v;
          product += d_o[oAt + d]! * v;
          out.d_kv[kAt(begin + i) + d_nope + d]! += weight * f * d_o[oAt + d]!;
        }
        return product * f;
      });
      const delta = p.reduce((sum, weight, i) => sum + weight * dp[i]!, 0);
      p.forEach((weight, i) => {
        const t = begin + i;
        const ds = weight * (dp[i]! - delta) * scale;
        for (let d = 0; d < qk; d++) {
          out.d_q[qAt + d]! += ds * key(t, d);
          if (d < d_nope) out.d_kv[kAt(t) + d]! += ds * q[qAt + d]!;
          else out.d_kr[(t * heads + h) * d_rope + d - d_nope]! += ds * q[qAt + d]!;
        }
      });
    }
  }
  return out;
}

/** Leaves NaN in two buffers of the size of all scores, which later tensors of that size get. */
function poison(
  plan: Plan,
  inputs: Inputs,
  dtype: DType,
  { batch, length, heads }: AttentionSizes,
) {
  const shape = [length, batch * heads * length];
  const values = new Float64Array(length * batch * heads * length).fill(NaN);
  const nothing = matrix(inputs.tensor("nothing", shape, { values, dtype }));
  transpose(plan, "poison", transpose(plan, "poison", nothing));
}

/** Runs both passes and compares everything with float64; returns the names of the kernels and the results. */
async function check(
  gpu: Gpu,
  sizes: AttentionSizes,
  options: AttentionOptions & {
    dtype?: DType;
    tolerance?: number;
    spread?: number;
    rate?: number;
  } = {},
) {
  const { dtype = "f32", tolerance = dtype === "f16" ? 2e-3 : 5e-6, spread, rate = 0, ...kind } =
    options;
  const { batch, length, heads, d_nope, d_rope, d_v } = sizes;
  const tokens = batch * length;
  const values = inputsOf(sizes, dtype, spread);
  using inputs = new Inputs(gpu);
  const input = (name: keyof Values, width: number) =>
    inputs.tensor(name, [tokens, width], { values: values[name], dtype });
  const output = (name: string, width: number, type: DType = dtype) =>
    // An element that no invocation writes must not pass for a zero.
    inputs.tensor(name, [tokens, width], {
      values: new Float64Array(tokens * width).fill(7),
      dtype: type,
    });
  const out = {
    o: output("o", heads * d_v),
    log_sum: inputs.tensor("log_sum", [heads, tokens]),
    d_q: output("d_q", heads * (d_nope + d_rope)),
    d_kv: output("d_kv", heads * (d_nope + d_v)),
    ...(d_rope > 0 && { d_kr: output("d_kr", heads * d_rope, "f32") }),
  };
  const key = inputs.tensor("key", [DROPOUT_KEY], { dtype: "u32" });
  const control = inputs.tensor("control", [CONTROL.length], {
    values: packFields(CONTROL, { decided: DROPPED.update }),
  });
  const operands = {
    sizes,
    ...(rate > 0 && { dropout: { key, rate, place: dropoutPlace(PLACE) } }),
    q: input("q", heads * (d_nope + d_rope)),
    kv: input("kv", heads * (d_nope + d_v)),
    ...(d_rope > 0 && { kr: input("kr", d_rope) }),
    ...out,
    ...kind,
  };
  const kernels: string[] = [];
  const actual = await runOnce(gpu, (plan) => {
    const scores = batch * heads * length * length;
    if (length % 8 === 0 && 4 * scores <= gpu.capabilities.max_binding_bytes) {
      poison(plan, inputs, dtype, sizes);
    }
    if (rate > 0) dropoutKey(plan, "key", { key, control, seed: DROPPED.seed, first: true });
    attentionForward(plan, "attention", operands);
    attentionBackward(plan, "attention", { ...operands, d_o: input("d_o", heads * d_v) });
    for (const step of plan.steps) {
      if (step.kind === "dispatch" && !/^(poison|key)$/.test(step.call.label)) {
        kernels.push(step.call.name);
      }
    }
    const results: Readonly<Record<string, Tensor>> = out;
    return results;
  });
  const expected = reference(sizes, values, rate);
  for (const [name, values] of Object.entries(actual)) {
    const what = `${name} of ${JSON.stringify({ ...sizes, dtype, rate, ...kind })}`;
    assertNear(values, expected[name as keyof typeof expected], { tolerance, what });
  }
  return { kernels, actual };
}

const TILED = [
  "attention_forward_tiled",
  "attention_delta",
  "attention_backward_tiled",
  "attention_backward_tiled",
];
const BLOCKED = TILED.map((name) => name.replace("tiled", "blocked"));
/** Those of a software adapter, whose side of the queries makes delta. */
const DIRECT = [
  "attention_forward_direct",
  "attention_backward_direct",
  "attention_backward_direct",
];
/** Those of a backward pass: from delta on, or behind the one kernel before it. */
const backward = (kernels: string[]) =>
  kernels.slice(Math.max(1, kernels.indexOf("attention_delta")));
/** The kernels of a backward pass whose scores are stored in so many parts: in tiles of operands that a kernel transposed, or as products. */
const stored = (parts: number, transposed?: string) => [
  "attention_delta",
  "attention_keys",
  ...Array(transposed ? 4 : 0).fill(transposed),
  ...Array(parts).fill([
    ...transposed ? ["attention_score_gradients_tiled"] : ["gemm_tiled", "gemm_tiled"],
    ...Array(3).fill("gemm_tiled"),
  ]).flat(),
  "attention_key_gradient",
];
/** Those of a forward pass with stored scores. */
const storedForward = (parts: number, transposed: string) => [
  "attention_keys",
  transposed,
  transposed,
  ...Array(parts).fill(["attention_probabilities_tiled", "attention_merge", "gemm_tiled"]).flat(),
];
/** A device that is not told to be software, with what this one has of memory. */
const real = () => openTestGpu({ software: false });

Deno.test("direct kernels compute attention and its gradients", async () => {
  const sizes = { batch: 2, length: 37, heads: 2, d_nope: 12, d_rope: 4, d_v: 8 };
  const results = [];
  // Keys and rows by shuffles, where subgroups are a processor's vectors, and loaded by each invocation.
  for (const restrict of [{ software: true }, { software: true, subgroups: false }]) {
    const { kernels, actual } = await check(await openTestGpu(restrict), sizes);
    assertEquals(kernels, DIRECT);
    results.push(actual);
  }
  // The order of the sums is the same.
  if ((await openTestGpu()).capabilities.software) assertEquals(results[0], results[1]);
});

Deno.test("tiled kernels compute attention within WebGPU's default limits", async () => {
  const gpu = await openTestGpu({ software: false, f16: false, max_workgroup_bytes: 16384 });
  for (const dtype of ["f32", "f16"] as const) {
    if (compilesSlowly() && dtype === "f16") continue;
    const sizes = { batch: 2, length: 45, heads: 2, d_nope: 20, d_rope: 12, d_v: 28 };
    assertEquals((await check(gpu, sizes, { dtype, scores: "recomputed" })).kernels, TILED);
  }
});

Deno.test("blocked kernels compute attention where blocks are full", async () => {
  // Lengths that end within a block, at its end, and before its first one does.
  for (const [batch, length] of [[1, 90], [1, 128], [3, 5]] as const) {
    const sizes = { batch, length, heads: 2, d_nope: 32, d_rope: 32, d_v: 32 };
    assertEquals((await check(await real(), sizes, { scores: "recomputed" })).kernels, BLOCKED);
  }
});

// A blocked kernel takes a software adapter seconds to compile: what can vary does so at once.
Deno.test({
  name: "blocked kernels take packed halves, and widths that do not fill blocks",
  ignore: compilesSlowly(),
  async fn() {
    const gpu = await openTestGpu({ software: false, f16: false });
    const sizes = { batch: 2, length: 75, heads: 1, d_nope: 36, d_rope: 4, d_v: 72 };
    const options = { dtype: "f16", scores: "recomputed" } as const;
    assertEquals((await check(gpu, sizes, options)).kernels, BLOCKED);
  },
});

Deno.test("blocked kernels take f16", async () => {
  const sizes = { batch: 1, length: 70, heads: 3, d_nope: 36, d_rope: 8, d_v: 40 };
  const options = { dtype: "f16", scores: "recomputed" } as const;
  assertEquals((await check(await real(), sizes, options)).kernels, BLOCKED);
});

Deno.test("gradients come from products over stored scores, some heads or sequences at a time", async () => {
  const widths = { d_nope: 20, d_rope: 12, d_v: 36 };
  // Two rows of tiles and three, which fold differently; a length that is no multiple of 4.
  const few = { batch: 3, length: 131, heads: 2, ...widths };
  assertEquals(backward((await check(await real(), few)).kernels), stored(1));
  if (compilesSlowly()) return;
  const many = { batch: 1, length: 260, heads: 3, ...widths };
  assertEquals(backward((await check(await real(), many, { dtype: "f16" })).kernels), stored(1));
  // Room for two of three heads; for two of three sequences.
  const gpu = await openTestGpu({
    software: false,
    f16: false,
    max_binding_bytes: 2 * 2 * 260 * 264,
  });
  for (const [batch, heads] of [[1, 3], [3, 1]] as const) {
    const sizes = { batch, length: 260, heads, d_nope: 32, d_rope: 32, d_v: 32 };
    assertEquals(backward((await check(gpu, sizes, { dtype: "f16" })).kernels), stored(2));
  }
});

Deno.test("scores go to memory through tiles in both passes, where widths are whole steps", async () => {
  const gpu = await real();
  const widths = { d_nope: 32, d_rope: 32, d_v: 32 };
  const through = (parts: number, transposed = "transpose") => [
    ...storedForward(parts, transposed),
    ...stored(parts, transposed),
  ];
  // Three tiles and two; a last one that is not full, of which a vec4 of queries is. SwiftShader takes many times as long for a kernel as llvmpipe: on it, fewer
  // stand for all.
  const many = !compilesSlowly();
  const odd = { batch: 2, length: 384, heads: 3, d_nope: 64, d_rope: 64, d_v: 64 };
  if (many) assertEquals((await check(gpu, odd, { scores: "stored" })).kernels, through(1));
  for (const length of many ? [256, 264, 392] : [264]) {
    const sizes = { batch: 1, length, heads: 2, ...widths };
    assertEquals((await check(gpu, sizes, { scores: "stored" })).kernels, through(1));
  }
  // Scores that spread far, where most of a tile's exponentials are nothing beside another's.
  const far = { batch: 1, length: 392, heads: 2, ...widths };
  await check(gpu, far, { scores: "stored", spread: 30, tolerance: 2e-5 });
  if (!many) return;
  // With steps of half as many terms, and so without chains of tiles.
  const small = await openTestGpu({ software: false, max_workgroup_bytes: 16384 });
  const sizes = { batch: 1, length: 264, heads: 2, ...widths };
  assertEquals((await check(small, sizes, { scores: "stored" })).kernels, through(1));
  // As packed halves, with room for two of three heads and two of three sequences.
  for (const [batch, heads] of [[1, 3], [3, 1]] as const) {
    const few = await openTestGpu({
      software: false,
      f16: false,
      max_binding_bytes: 2 * 2 * 264 * 264,
    });
    const sizes = { batch, length: 264, heads, ...widths };
    assertEquals(
      (await check(few, sizes, { dtype: "f16", scores: "stored" })).kernels,
      through(2, "transpose_halves"),
    );
  }
});

/** The kernels without those that put together whole keys, which heads have that share nothing. */
const unshared = (kernels: string[]) => kernels.filter((name) => !/key(s|_gradient)$/.test(name));

for (const rate of [0, 0.3]) {
  const what = rate > 0 ? "drops probabilities" : "takes heads that share no part of their keys";
  Deno.test(`every kernel ${what}`, async (t) => {
    const slow = compilesSlowly();
    const widths = { d_nope: 32, d_rope: 0, d_v: 32 };
    const small = { batch: 2, length: 37, heads: 2, ...widths };
    const recomputed = (kind: string) => TILED.map((name) => name.replace("tiled", kind));
    await t.step("direct", async () => {
      for (const restrict of [{ software: true }, { software: true, subgroups: false }]) {
        const gpu = await openTestGpu(restrict);
        assertEquals((await check(gpu, small, { rate })).kernels, DIRECT);
      }
    });
    await t.step("tiled", async () => {
      const gpu = await openTestGpu({ software: false, f16: false, max_workgroup_bytes: 16384 });
      const sizes = { ...small, d_nope: 20, d_v: 28 };
      const { kernels } = await check(gpu, sizes, { dtype: "f16", scores: "recomputed", rate });
      assertEquals(kernels, recomputed("tiled"));
    });
    await t.step("halves in whole blocks, on matrix units where there are some", async () => {
      const gpu = await openTestGpu();
      const sizes = { batch: 1, length: 128, heads: 2, ...widths };
      for (const scores of ["recomputed", "stored"] as const) {
        await check(gpu, sizes, { dtype: "f16", scores, rate });
      }
    });
    // Large kernels that drop probabilities stand for those that do not.
    if (slow && rate === 0) return;
    await t.step("blocked", async () => {
      const sizes = { ...small, d_nope: 36 };
      const { kernels } = await check(await real(), sizes, { scores: "recomputed", rate });
      assertEquals(kernels, recomputed("blocked"));
    });
    await t.step("tiles in both passes", async () => {
      const sizes = { batch: 1, length: 264, heads: 2, ...widths };
      for (const dtype of slow ? ["f32"] as const : ["f32", "f16"] as const) {
        const { kernels } = await check(await real(), sizes, { dtype, scores: "stored", rate });
        const transposing = dtype === "f32" ? "transpose" : "transpose_halves";
        const expected = unshared([...storedForward(1, transposing), ...stored(1, transposing)]);
        // Keys are transposed with the values, where these are.
        expected.splice(expected.lastIndexOf(transposing), 1);
        assertEquals(kernels, expected);
      }
    });
    if (slow) return;
    await t.step("products, some heads at a time", async () => {
      const sizes = { batch: 1, length: 260, heads: 3, d_nope: 36, d_rope: 0, d_v: 32 };
      const memory = { f16: false, max_binding_bytes: 2 * 2 * 260 * 264 };
      const gpu = await openTestGpu({ software: false, ...memory });
      const { kernels } = await check(gpu, sizes, { dtype: "f16", rate, scores: "stored" });
      assertEquals(backward(kernels), unshared(stored(2)));
    });
  });
}

Deno.test({
  name: "dropout within WebGPU's default limits goes through products",
  ignore: compilesSlowly(),
  async fn() {
    const gpu = await openTestGpu({ ...WEBGPU_DEFAULTS, software: false });
    const sizes = { batch: 1, length: 264, heads: 1, d_nope: 32, d_rope: 0, d_v: 32 };
    const { kernels } = await check(gpu, sizes, { scores: "stored", rate: 0.1 });
    assertEquals(kernels.includes("attention_score_gradients_tiled"), false);
  },
});

Deno.test("products over stored scores take two tiles at once where there are many", async () => {
  const gpu = await real();
  const sizes = { batch: 4, length: 256, heads: 16, d_nope: 16, d_rope: 16, d_v: 32 };
  const plan = new Plan(gpu, "many");
  const t = (name: string, shape: number[]) => new Tensor(name, shape);
  const operands = {
    sizes,
    q: t("q", [1024, 512]),
    kv: t("kv", [1024, 768]),
    kr: t("kr", [1024, 16]),
    o: t("o", [1024, 512]),
    log_sum: t("log_sum", [16, 1024]),
  };
  attentionForward(plan, "forward", { ...operands, scores: "stored" });
  const tiles = plan.steps.map((step) =>
    step.kind === "dispatch" ? [step.call.name, step.call.constants?.["TILE_M"]] : step.kind
  );
  // Which takes more workgroup memory than a software adapter has.
  const high = gpu.capabilities.max_workgroup_bytes >= 40 << 10;
  assertEquals(tiles.at(-1), ["gemm_tiled", high ? 256 : 128]);
  if (!compilesSlowly()) await check(gpu, sizes, { scores: "stored" });
});

Deno.test("halves in whole blocks, on matrix units where the device has them", async () => {
  const gpu = await openTestGpu();
  const units = matrixUnit(gpu.capabilities) !== undefined;
  const kind = gpu.capabilities.software ? "direct" : units ? "matrix" : "blocked";
  const recomputed = backward(
    kind === "direct" ? DIRECT : TILED.map((name) => name.replace("tiled", kind)),
  );
  /** The products after the scores: on matrix units where heads fill their tiles. */
  const onUnits = (product: string) => [
    "attention_delta",
    "attention_keys",
    "attention_score_gradients_matrix",
    ...Array(3).fill(product),
    "attention_key_gradient",
  ];
  for (const [length, d_v] of [[384, 64], [128, 32]] as const) {
    const sizes = { batch: 2, length, heads: 3, d_nope: 64, d_rope: d_v, d_v };
    const products = kind === "direct"
      ? recomputed
      : units
      ? onUnits(d_v === 64 ? "gemm_matrix" : "gemm_tiled")
      : stored(1, length >= 256 ? "transpose_halves" : undefined);
    for (const scores of ["recomputed", "stored"] as const) {
      const { kernels } = await check(gpu, sizes, { dtype: "f16", scores });
      assertEquals(backward(kernels), scores === "recomputed" ? recomputed : products);
    }
  }
  // Scores that spread far: maxima rise again and again.
  const sizes = { batch: 1, length: 256, heads: 1, d_nope: 64, d_rope: 64, d_v: 64 };
  const far = { dtype: "f16", spread: 16, tolerance: 8e-3 } as const;
  const once = await check(gpu, sizes, far);
  assertEquals(once.actual, (await check(gpu, sizes, far)).actual);
});

Deno.test("attention comes out in the same bits each time", async () => {
  const sizes = { batch: 1, length: 100, heads: 2, d_nope: 32, d_rope: 32, d_v: 32 };
  const once = await check(await real(), sizes);
  const again = await check(await real(), sizes);
  assertEquals(once.actual, again.actual);
});

Deno.test("chooseAttention goes by memory, widths and types", () => {
  const large = { ...WEBGPU_DEFAULTS, max_workgroup_bytes: 48 << 10 };
  const paper = { d_nope: 64, d_rope: 64, d_v: 64 };
  const choose = (bytes: number, widths: typeof paper, dtype: DType | undefined = "f16") =>
    (["forward", "query", "key"] as const).map((pass) => {
      const capabilities = { ...large, max_workgroup_bytes: bytes };
      const { name, rows } = chooseAttention(capabilities, pass, { widths, dtype, length: 4096 });
      return `${name.split("_").at(-1)} ${rows}`;
    });
  assertEquals(choose(48 << 10, paper), ["blocked 128", "blocked 64", "blocked 64"]);
  assertEquals(choose(32 << 10, paper), ["blocked 64", "blocked 64", "blocked 64"]);
  assertEquals(choose(16 << 10, paper), ["tiled 32", "tiled 32", "tiled 32"]);
  const units = {
    ...large,
    f16: true,
    subgroups: true,
    subgroup_min_size: 32,
    subgroup_max_size: 32,
    subgroup_matrix: [{ component: "f16", result: "f32", m: 16, n: 16, k: 16 }],
  };
  const onUnits = (dtype: DType, length: number, widths = paper) =>
    chooseAttention(units, "key", { widths, dtype, length }).name.split("_").at(-1);
  assertEquals(onUnits("f16", 4096), "matrix");
  assertEquals(onUnits("f32", 4096), "blocked");
  assertEquals(onUnits("f16", 4095), "blocked");
  assertEquals(onUnits("f16", 4096, { ...paper, d_v: 48 }), "blocked");
  // Zeros would be most of what blocks multiply.
  assertEquals(choose(48 << 10, { d_nope: 8, d_rope: 4, d_v: 8 })[0], "tiled 32");
  const { name } = chooseAttention(large, "key", { widths: paper, dtype: undefined, length: 4096 });
  assertEquals(name, "attention_backward_tiled");
});
