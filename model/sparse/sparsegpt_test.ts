import fc from "fast-check";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { openTestGpu } from "../gpu/testing.ts";
import { download, upload } from "../gpu/transfer.ts";
import { assertNear, noise } from "../ops/testing.ts";
import { matmul, type Matrix, matrix } from "../reference/matrix.ts";
import { hessian } from "../reference/sparse/sparsegpt.ts";
import { levelsOf, prunedOf, PRUNING, type Pruning } from "./options.ts";
import { Tensors, unpadColumns, uploadRows } from "./rows.ts";
import { Pruner } from "./sparsegpt.ts";

const sizes = fc.record({
  outputs: fc.integer({ min: 1, max: 14 }),
  groups: fc.integer({ min: 1, max: 9 }),
  rows: fc.integer({ min: 1, max: 90 }),
  dead: fc.boolean(),
  seed: fc.integer({ min: 1, max: 999 }),
});

const prunings: Record<string, Partial<Pruning>> = {
  "a part of each block": { sparsity: 0.4, block: 9 },
  "two of three": { pattern: [2, 3], block: 9 },
  "no weight, in three bits": { bits: 3, block: 9 },
  "one of three, in five symmetric bits": { pattern: [1, 3], bits: 5, symmetric: true, block: 9 },
};

/** `½ tr(D H Dᵀ)` of a change of weights and a Hessian. */
function quadratic(change: Matrix, h: Matrix): number {
  const product = matmul(change, h).data;
  return change.data.reduce((sum, v, i) => sum + v * product[i]! / 2, 0);
}

for (const [what, options] of Object.entries(prunings)) {
  Deno.test(`pruning ${what} keeps its counts, its grid and its loss`, async () => {
    const gpu = await openTestGpu();
    const pruning: Pruning = { ...PRUNING, ...options };
    await fc.assert(
      fc.asyncProperty(sizes, async ({ outputs, groups, rows, dead, seed }) => {
        using tensors = new Tensors(gpu);
        const inputs = 3 * groups;
        const x = noise(rows * inputs, seed).map((v, i) => dead && i % inputs === 1 ? 0 : v);
        const w = noise(outputs * inputs, seed + 1);
        using pruner = await Pruner.open(gpu, {
          inputs,
          pruning,
          layers: { w: tensors.matrix("w", w, inputs) },
        });
        await pruner.measure(uploadRows(tensors, x, { width: inputs, gpu, most: 64 }));
        await pruner.factor();
        pruner.prune("w");
        const { weight, mask, loss, quantised } = await pruner.read("w");
        // As many zeros as asked for, in each block or in each group.
        const [step, wanted] = pruning.pattern
          ? [pruning.pattern[1], () => outputs * pruning.pattern![0]]
          : [pruning.block, (columns: number) => prunedOf(outputs * columns, pruning.sparsity)];
        for (let start = 0; start < inputs; start += step) {
          const columns = Math.min(step, inputs - start);
          const found = mask.filter((m, i) =>
            m === 1 && i % inputs >= start && i % inputs < start + columns
          );
          assertEquals(found.length, wanted(columns));
        }
        assert(weight.every((v, i) => mask[i] === 0 || v === 0));
        assertEquals(quantised === undefined, pruning.bits === undefined);
        if (quantised) {
          const { lowest, highest } = levelsOf({ ...pruning, bits: pruning.bits! });
          quantised.level.forEach((level, i) => {
            const row = Math.floor(i / inputs);
            assert(level >= lowest && level <= highest);
            const value = quantised.scale[row]! * (level - quantised.zero[row]!);
            assert(Math.abs(value - weight[i]!) < 1e-6);
          });
        }
        // Errors went where the factor says, so the loss is that of the change.
        const h = hessian(matrix(rows, inputs, x));
        const live = Array.from({ length: inputs }, (_, i) => h.data[i * (inputs + 1)]! !== 0);
        const mean = live.reduce((sum, is, i) => sum + (is ? h.data[i * (inputs + 1)]! : 0), 0) /
          live.filter(Boolean).length;
        live.forEach((is, i) => h.data[i * (inputs + 1)]! += pruning.damping * mean + (is ? 0 : 1));
        const change = w.map((v, i) => (live[i % inputs] ? v : 0) - weight[i]!);
        const expected = quadratic(matrix(outputs, inputs, change), h);
        assert(Math.abs(loss - expected) <= 1e-3 * expected + 1e-9, `${loss}, ${expected}`);
      }),
      { numRuns: 12 },
    );
  });
}

Deno.test("Pruner raises the diagonal until the Hessian is positive definite, or gives up", async () => {
  const gpu = await openTestGpu();
  using tensors = new Tensors(gpu);
  const inputs = 5;
  const layers = { w: tensors.matrix("w", noise(3 * inputs, 1), inputs) };
  const open = (damping: number) =>
    Pruner.open(gpu, { inputs, pruning: { ...PRUNING, damping }, layers });
  const diagonal = [1, 1, -0.05, 1, 0];
  const write = (pruner: Pruner) => {
    const h = Float64Array.from(
      { length: inputs * 8 },
      (_, i) => i % 8 === Math.floor(i / 8) ? diagonal[i % 8]! : 0,
    );
    upload(gpu, pruner.hessian, h);
  };
  using pruner = await open(0.01);
  write(pruner);
  await pruner.factor();
  const u = unpadColumns(await download(gpu, pruner.factorTensor), inputs);
  // Seven steps of the mean over live inputs are enough; the dead input has a one.
  const step = 0.01 * (3 - 0.05) / 4;
  const expected = diagonal.flatMap((v, i) =>
    diagonal.map((_, j) => i === j ? 1 / Math.sqrt((v === 0 ? 1 : v) + 7 * step) : 0)
  );
  assertNear(u, expected, { tolerance: 1e-3, what: "factor" });
  using undamped = await open(0);
  write(undamped);
  await assertRejects(() => undamped.factor(), RangeError, "The Hessian is not positive definite");
});

Deno.test("a Pruner gives the same bits again, whatever it pruned in between", async () => {
  const gpu = await openTestGpu();
  using tensors = new Tensors(gpu);
  const [rows, inputs] = [70, 21];
  const x = uploadRows(tensors, noise(rows * inputs, 1), { width: inputs, gpu });
  const other = uploadRows(tensors, noise(rows * inputs, 9), { width: inputs, gpu });
  const dense = tensors.matrix("w", noise(6 * inputs, 2), inputs);
  const pruning = { ...PRUNING, sparsity: 0.5, bits: 4, block: 8 };
  using pruner = await Pruner.open(gpu, { inputs, pruning, layers: { a: dense, b: dense } });
  const run = async (of: typeof x) => {
    await pruner.measure(of);
    await pruner.factor();
    pruner.prune("a");
    pruner.prune("b");
    return await Promise.all([pruner.read("a"), pruner.read("b")]);
  };
  const [a, b] = await run(x);
  assertEquals(a, b);
  await run(other);
  assertEquals((await run(x))[0], a);
});

Deno.test("Pruner.measure() takes the rows that it is given, a part of them at a time", async () => {
  const gpu = await openTestGpu();
  using tensors = new Tensors(gpu);
  const [count, inputs] = [17_000, 3];
  const x = noise(count * inputs, 1);
  // Every row but some, from the last to the first: more than are gathered at once, out of several chunks.
  const numbers = Uint32Array.from({ length: count }, (_, i) => count - 1 - i)
    .filter((row) => row % 100 > 0);
  const layers = { w: tensors.matrix("w", noise(inputs, 2), inputs) };
  using pruner = await Pruner.open(gpu, { inputs, pruning: PRUNING, layers });
  await pruner.measure(uploadRows(tensors, x, { width: inputs, gpu, most: 6400 }), numbers);
  const kept = Array.from(numbers).flatMap((
    row,
  ) => [...x.subarray(row * inputs, (row + 1) * inputs)]);
  const expected = hessian(matrix(numbers.length, inputs, Float64Array.from(kept)));
  const found = unpadColumns(await download(gpu, pruner.hessian), inputs);
  assertNear(found, expected.data, { tolerance: 2e-6, what: "Hessian" });
  await assertRejects(
    () => pruner.measure({ chunks: [], count: 0, width: inputs }),
    RangeError,
    "there are no rows",
  );
});
