/** Products with compressed weights beside float64: each form and value type, groups of any size, parts, one row and many. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { DEVICE_PROFILES, profileGpu } from "../../gpu/recording.ts";
import { roundUp } from "../../gpu/tensor.ts";
import { compilesSlowly, openTestGpu } from "../../gpu/testing.ts";
import { gatherRows } from "../mixture/rows.ts";
import { segmentsOf } from "../mixture/segments.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { randomGrid, randomPruned } from "./compressed_testing.ts";
import { CompressedExperts, compressedTensors, compressedWeights } from "./experts.ts";
import { type Compression, storedCounts, type ValueType } from "./forms.ts";
import { gemmGroupedCompressed } from "./gemm_grouped_compressed.ts";
import { packMatrix } from "./pack.ts";

interface Case {
  /** Expert of each row. */
  readonly keys: readonly number[];
  readonly experts: number;
  readonly outputs: number;
  readonly compression: Compression;
  /** Experts of the first of several parts. */
  readonly part?: number;
  /** Every so many rows are compared; all unless given. */
  readonly every?: number;
  /** Dead inputs, as in {@linkcode randomPruned}. */
  readonly dead?: number;
}

const F32 = { kind: "f32" } as const;
const F16 = { kind: "f16" } as const;
const levels = (bits: number, lowest = 0): ValueType => ({ kind: "levels", bits, lowest });
const spread = (count: number, experts: number) =>
  Array.from({ length: count }, (_, i) => (i * i * 7 + 3 * i) % experts);

/** Runs a product and holds it against float64. Returns the names of its kernels. */
async function compare(gpu: Gpu, each: Case): Promise<readonly string[]> {
  const { keys, experts, outputs, compression, dead, every = 1 } = each;
  const { inputs, values, pattern } = compression;
  const grid = values.kind === "levels" ? randomGrid(outputs, { ...values, seed: 5 }) : undefined;
  const pruned = Array.from(
    { length: experts },
    (_, e) => randomPruned({ outputs, inputs, values, pattern, dead, seed: e }, grid),
  );
  const packed = pruned.map((matrix, e) => packMatrix(`expert ${e}`, matrix, compression));
  const stored = packed.map((matrix) => storedCounts(matrix).reduce((sum, n) => sum + n, 0));
  using tensors = new CompressedExperts(gpu, "w", {
    ...{ ...compression, outputs, stored },
    ...grid && { grid },
  });
  packed.forEach((matrix, e) => tensors.upload(e, matrix));
  assertEquals(tensors.weights.parts[0]!.count, each.part ?? experts);
  using given = new Inputs(gpu);
  const width = roundUp(inputs, 4);
  const x = noise(keys.length * inputs, 99);
  const padded = new Float64Array(keys.length * width);
  keys.forEach((_, i) => padded.set(x.subarray(i * inputs, (i + 1) * inputs), i * width));
  const source = given.tensor("x", [keys.length, width], { values: padded });
  const label = given.tensor("keys", [keys.length, 1], { dtype: "u32", values: keys });
  let names: readonly string[] = [];
  const { y, place } = await runOnce(gpu, (plan) => {
    const segments = segmentsOf(plan, "segments", {
      ...{ keys: label, experts, drops: false, gradients: false, dtype: "f32" },
    });
    const { groups } = segments;
    const a = plan.tensor("a", [groups.rows, width]);
    const c = plan.tensor("c", [groups.rows, roundUp(outputs, 4)]);
    gatherRows(plan, "gather", { segments, x: source, out: a });
    const before = plan.steps.length;
    gemmGroupedCompressed(plan, "y", { a, b: tensors.weights, c, groups });
    const calls = plan.steps.slice(before).flatMap((step) =>
      step.kind === "dispatch" ? [step.call] : []
    );
    names = calls.map(({ name }) => name);
    const all = stored.reduce((sum, n) => sum + n, 0);
    assertNear([calls.reduce((sum, { flops }) => sum + flops, 0)], [
      2 * keys.length * all / experts,
    ], { tolerance: 1e-12, what: "operations" });
    return { y: c, place: segments.place };
  });
  const wide = roundUp(outputs, 4);
  const actual: number[] = [];
  const expected: number[] = [];
  keys.forEach((key, i) => {
    if (i % every !== 0) return;
    const { weight } = pruned[key]!;
    for (let r = 0; r < wide; r++) {
      actual.push(y[place[i]! * wide + r]!);
      let sum = 0;
      if (r < outputs) {
        for (let c = 0; c < inputs; c++) sum += x[i * inputs + c]! * weight[r * inputs + c]!;
      } else assertEquals(actual.at(-1), 0);
      expected.push(sum);
    }
  });
  assertNear(actual, expected, { tolerance: 3e-6, what: "product" });
  return names;
}

/** Forms and value types: the widths of codes that divide a word and those that cross it, groups that a chunk holds and groups that hold a chunk. */
const COMPRESSIONS: readonly Compression[] = [
  { inputs: 76, pattern: [2, 4], values: F32 },
  { inputs: 76, pattern: [2, 4], values: F16 },
  { inputs: 76, pattern: [2, 4], values: levels(4) },
  { inputs: 76, pattern: [1, 4], values: levels(3, -3) },
  { inputs: 72, pattern: [4, 8], values: F32 },
  { inputs: 72, pattern: [4, 8], values: levels(8) },
  { inputs: 72, pattern: [5, 8], values: F16 },
  { inputs: 70, pattern: [1, 2], values: F16 },
  { inputs: 70, pattern: [1, 2], values: levels(5) },
  // Masks take the place of such groups.
  { inputs: 69, pattern: [1, 3], values: levels(2, -1) },
  { inputs: 69, pattern: [3, 3], values: F32 },
  { inputs: 75, values: F32 },
  { inputs: 75, values: F16 },
  { inputs: 75, values: levels(2) },
  { inputs: 75, values: levels(4, -7) },
  { inputs: 75, values: levels(7) },
  { inputs: 75, values: levels(8) },
];

const nameOf = ({ pattern, values }: Compression) =>
  `${pattern ? pattern.join(":") : "mask"} ${values.kind}${
    values.kind === "levels" ? values.bits : ""
  }`;

for (const software of [true, false]) {
  const way = software ? "software" : "tiled";
  Deno.test(`products with compressed weights come out right, ${way}`, async (t) => {
    const gpu = await openTestGpu({ software });
    for (const compression of COMPRESSIONS) {
      // SwiftShader takes many times as long for a kernel as llvmpipe: on it, the form that is published stands for all.
      if (compilesSlowly() && nameOf(compression) !== "2:4 f16") continue;
      await t.step(nameOf(compression), async () => {
        // The third expert has no rows.
        const keys = spread(67, 5).map((key) => key === 2 ? 3 : key);
        const names = await compare(gpu, { keys, experts: 5, outputs: 37, compression });
        assertEquals(names, [software ? "gemm_direct" : "gemm_tiled"]);
        if (software) return;
        const few = { keys: [4, 0, 4], experts: 5, outputs: 37, compression };
        assertEquals(await compare(gpu, few), ["compressed_vector"]);
      });
    }
  });
}

Deno.test({
  name: "high tiles, wide ones and transposed rows come out right with compressed weights",
  // SwiftShader takes minutes for so many operations.
  ignore: compilesSlowly(),
  async fn(t) {
    const gpu = await openTestGpu({ software: false });
    const cases: readonly (readonly [Compression, number, readonly string[]])[] = [
      [{ inputs: 100, pattern: [4, 8], values: F32 }, 130, ["gemm_tiled"]],
      [{ inputs: 72, pattern: [4, 8], values: levels(4) }, 130, ["gemm_tiled"]],
      [{ inputs: 75, values: levels(6) }, 130, ["gemm_tiled"]],
      [{ inputs: 2050, values: F32 }, 3330, ["transpose", "gemm_tiled"]],
    ];
    for (const [compression, outputs, names] of cases) {
      const { inputs, pattern } = compression;
      const fitting = { ...compression, inputs: pattern ? roundUp(inputs, pattern[1]) : inputs };
      await t.step(`${nameOf(compression)} ${inputs}`, async () => {
        const keys = spread(520, 2);
        const each = { keys, experts: 2, outputs, compression: fitting, every: 13 };
        assertEquals(await compare(gpu, each), names);
      });
    }
  },
});

Deno.test("dead inputs, one row, one expert, and experts in parts come out right", async () => {
  const gpu = await openTestGpu();
  const rest = { keys: spread(20, 6), experts: 6, outputs: 9 };
  for (const pattern of [[2, 4], undefined] as const) {
    const compression = { inputs: 68, pattern, values: F16 };
    await compare(gpu, { ...rest, compression, dead: 3 });
    await compare(gpu, { ...rest, keys: [5], compression });
    await compare(gpu, { ...rest, keys: [0, 0], experts: 1, compression });
  }
  // A binding that holds two experts of a pattern, or one with masks.
  const small = await openTestGpu({ max_binding_bytes: 24 << 10 });
  for (const [pattern, part] of [[[2, 4], 2], [undefined, 1]] as const) {
    const compression = { inputs: 140, pattern, values: F32 };
    const keys = [5, 0, 3, 5];
    const names = await compare(small, { ...rest, keys, outputs: 37, compression, part });
    assert(names.length > 1);
  }
});

Deno.test("compressed weights take memory as they are counted", () => {
  const gpu = profileGpu(DEVICE_PROFILES.find(({ name }) => name === "GPU")!);
  const [outputs, inputs, experts] = [256, 512, 16];
  const size = outputs * inputs;
  const bytesOf = (compression: Omit<Compression, "inputs">) => {
    const stored = Array.from({ length: experts }, () => size / 2);
    const shape = { ...compression, outputs, inputs, stored };
    const weights = compressedWeights(gpu.capabilities, "w", shape);
    return compressedTensors(weights).reduce((sum, { bytes }) => sum + bytes, 0) / experts;
  };
  assertEquals(bytesOf({ pattern: [2, 4], values: F16 }), size / 8 * (16 + 2) / 2);
  assertEquals(bytesOf({ pattern: [2, 4], values: F32 }), size / 8 * (32 + 2) / 2);
  // A bit for each position, and a word for four rows of a strip: a quarter of a bit more.
  assertEquals(bytesOf({ values: F16 }), size / 8 * (16 / 2 + 1 + 0.25));
  // Scale and zero point are the layer's.
  const grid = outputs * 8 / experts;
  assertEquals(bytesOf({ values: levels(4) }), size / 8 * (4 / 2 + 1 + 0.25) + grid);
});

Deno.test("a real GPU takes the dense product's tiles for compressed weights", () => {
  for (const profile of DEVICE_PROFILES.filter(({ capabilities }) => !capabilities.software)) {
    const gpu = profileGpu(profile);
    const plan = new Plan(gpu, "test");
    const keys = plan.tensor("keys", [16384, 1], { dtype: "u32" });
    plan.clear(keys);
    const options = { keys, experts: 16, drops: false, gradients: false, dtype: "f32" } as const;
    const { groups } = segmentsOf(plan, "s", options);
    const stored = Array.from({ length: 16 }, () => 512 * 1024 / 2);
    const b = compressedWeights(gpu.capabilities, "w", {
      ...{ outputs: 1024, inputs: 512, pattern: [2, 4], values: F32, stored },
    });
    const [a, c] = [512, 1024].map((width, i) => {
      const tensor = plan.tensor(`rows ${i}`, [groups.rows, width]);
      plan.clear(tensor);
      return tensor;
    });
    const before = plan.steps.length;
    gemmGroupedCompressed(plan, "y", { a: a!, b, c: c!, groups });
    const calls = plan.steps.slice(before).flatMap((step) =>
      step.kind === "dispatch" ? [step.call] : []
    );
    assertEquals(calls.map(({ name }) => name), ["transpose", "gemm_tiled"]);
    assertEquals(calls[1]!.flops, 2 * 16384 * 512 * 1024 / 2);
  }
});

Deno.test("compressed weights name what does not fit", async () => {
  const gpu = await openTestGpu();
  const compression: Compression = { inputs: 8, pattern: [2, 4], values: F32 };
  const shape = { ...compression, outputs: 4, stored: [16, 16] };
  const matrix = (changes: Partial<Compression> = {}, outputs = 4) => {
    const own = { ...compression, ...changes };
    return packMatrix("m", randomPruned({ ...own, outputs, seed: 1 }), own);
  };
  using experts = new CompressedExperts(gpu, "w", shape);
  const upload = (expert: number, ...of: Parameters<typeof matrix>) => () =>
    experts.upload(expert, matrix(...of));
  assertThrows(
    upload(1, {}, 5),
    RangeError,
    "w expert 1 is 5×8, 2:4, f32, expected 4×8, 2:4, f32",
  );
  assertThrows(upload(1, { values: F16 }), RangeError, "2:4, f16, expected 4×8, 2:4, f32");
  assertThrows(upload(1, { pattern: undefined }), RangeError, "4×8, mask, f32, expected 4×8, 2:4");
  assertThrows(upload(2), RangeError, "w expert 2 stores 16 weights, expected no such expert");
  assertThrows(
    () => new CompressedExperts(gpu, "w", { ...shape, values: levels(4) }),
    RangeError,
    "w has levels, expected a grid of 4 rows",
  );
  const tiny = { ...gpu.capabilities, max_binding_bytes: 256 };
  assertThrows(
    () => compressedWeights(tiny, "w", { ...shape, outputs: 40 }),
    RangeError,
    "w: expert 0 takes 768 bytes, a binding has 256",
  );
  using given = new Inputs(gpu);
  const plan = new Plan(gpu, "test");
  const keys = given.tensor("keys", [8, 1], { dtype: "u32" });
  const grouped = (experts: number) =>
    segmentsOf(plan, "s", { keys, experts, drops: false, gradients: false, dtype: "f32" }).groups;
  const [two, three] = [grouped(2), grouped(3)];
  const rows = (width: number, groups = two) => given.tensor("rows", [groups.rows, width]);
  const b = experts.weights;
  assertThrows(
    () => gemmGroupedCompressed(plan, "y", { a: rows(12), b, c: rows(4), groups: two }),
    RangeError,
    `y: rows is f32 ${two.rows}×12, expected f32 ${two.rows}×8`,
  );
  assertThrows(
    () =>
      gemmGroupedCompressed(plan, "y", { a: rows(8, three), b, c: rows(4, three), groups: three }),
    RangeError,
    "y: 2 experts for 3 groups",
  );
});
