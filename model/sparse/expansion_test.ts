import { assert, assertEquals, assertRejects } from "@std/assert";
import { runPlan } from "../gpu/build.ts";
import { Plan } from "../gpu/plan.ts";
import { DEVICE_PROFILES, profileGpu } from "../gpu/recording.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { assertNear, noise } from "../ops/testing.ts";
import { matrix } from "../reference/matrix.ts";
import { applySite, expandSite, routeSite } from "../reference/sparse/expansion.ts";
import { ExpandedSite, pruneSite, rowsByCluster } from "./expansion.ts";
import { type Expansion, PRUNING, type Pruning } from "./options.ts";
import { fitRouter } from "./routing/router.ts";
import { Tensors, unpadColumns, uploadRows } from "./rows.ts";
import type { PrunedMatrix } from "./sparsegpt.ts";
import { uniform } from "./routing/uniform.ts";

interface Sizes {
  rows: number;
  inputs: number;
  outputs: readonly number[];
  /** Rows of a chunk. */
  most?: number;
  software?: boolean;
}

/** Rows around three centres, with one input that is always zero. */
function example({ rows, inputs }: Sizes): Float64Array {
  return noise(rows * inputs, 11).map((v, i) => {
    const [row, column] = [Math.floor(i / inputs), i % inputs];
    if (column === 1) return 0;
    return Math.fround(v + 2 * Math.sin(row % 3 * 11 + column * 3));
  });
}

async function both(sizes: Sizes, expansion: Expansion, pruning: Pruning) {
  const { inputs, outputs, most, software = true } = sizes;
  const gpu = await openTestGpu({ software });
  using tensors = new Tensors(gpu);
  const x = example(sizes);
  const weights = outputs.map((count, i) => noise(count * inputs, 20 + i));
  const draw = (index: number) => uniform(3, index);
  const expected = expandSite(
    matrix(sizes.rows, inputs, x),
    Object.fromEntries(weights.map((w, i) => [`w${i}`, matrix(outputs[i]!, inputs, w)])),
    { expansion, pruning, uniform: draw },
  );
  const rows = uploadRows(tensors, x, { width: inputs, gpu, ...(most && { most }) });
  const fit = await fitRouter(gpu, rows, { expansion, uniform: draw, name: "site" });
  const experts: Record<string, PrunedMatrix[]> = {};
  const stored = await pruneSite(gpu, rows, {
    fit,
    pruning,
    name: "site",
    layers: Object.fromEntries(
      weights.map((w, i) => [`w${i}`, tensors.matrix(`w${i}`, w, inputs)]),
    ),
    onExpert: ({ layer, matrix }) => void (experts[layer] ??= []).push(matrix),
  });
  using site = new ExpandedSite(gpu, stored);
  const test = noise(37 * inputs, 12).map((v) => Math.fround(2 * v));
  const plan = new Plan(gpu, "test");
  const routed = site.route(plan, tensors.matrix("test", test, inputs));
  const applied: Record<string, Float32Array | Uint32Array> = await runPlan(plan, {
    label: routed.label,
    ...Object.fromEntries(
      outputs.map((
        _,
        i,
      ) => [`w${i}`, site.combine(plan, routed, site.products(plan, `w${i}`, routed))]),
    ),
  });
  return { expected, fit, experts, test: matrix(37, inputs, test), applied };
}

const cases: [string, Sizes, Partial<Expansion>, Partial<Pruning>][] = [
  ["half, two layers", { rows: 150, inputs: 22, outputs: [13, 8], most: 64 }, {}, {
    sparsity: 0.5,
    block: 8,
  }],
  ["2:4 in four bits", { rows: 97, inputs: 24, outputs: [7] }, {}, {
    pattern: [2, 4],
    bits: 4,
    block: 8,
  }],
  ["one cluster", { rows: 70, inputs: 9, outputs: [5] }, { clusters: 1 }, { sparsity: 0.3 }],
  ["no components", { rows: 130, inputs: 6, outputs: [5], most: 64 }, { pca_factor: 0 }, {
    sparsity: 0.5,
  }],
  ["rows as centroids", { rows: 150, inputs: 22, outputs: [9] }, { centroids: "rows" }, {
    sparsity: 0.5,
    block: 8,
  }],
  ["random centroids", { rows: 170, inputs: 23, outputs: [9] }, { centroids: "random" }, {
    sparsity: 0.5,
    block: 8,
  }],
  ["by magnitude", { rows: 70, inputs: 22, outputs: [13, 6] }, { clusters: 1 }, {
    method: "magnitude",
    sparsity: 0.4,
    block: 8,
  }],
  ["3:4 by magnitude in four bits", { rows: 70, inputs: 24, outputs: [7] }, { clusters: 1 }, {
    method: "magnitude",
    pattern: [3, 4],
    bits: 4,
    block: 12,
  }],
  ["a real GPU's kernels", { rows: 150, inputs: 22, outputs: [13], software: false }, {}, {
    sparsity: 0.5,
    block: 10,
  }],
];

for (const [what, sizes, expanding, changes] of cases) {
  Deno.test(`a site is expanded as float64 does: ${what}`, async () => {
    const expansion = { clusters: 3, pca_factor: 4, restarts: 2, max_iterations: 50, ...expanding };
    const pruning = { ...PRUNING, ...changes };
    const { expected, fit, experts, test, applied } = await both(sizes, expansion, pruning);
    assertEquals([...fit.kmeans.clusters.labels], [...expected.labels]);
    // The one centroid of centred rows is zero.
    assertNear([...fit.values.centroids, 1], [...expected.centroids.data, 1], {
      tolerance: 1e-4,
      what,
    });
    assertEquals([...applied["label"]!], [...routeSite(expected, test)]);
    for (const [i, outputs] of sizes.outputs.entries()) {
      const name = `w${i}`;
      const wanted = expected.experts[name]!;
      assertEquals(experts[name]!.length, wanted.length);
      wanted.forEach(({ weight, mask, loss, quantised }, j) => {
        const found = experts[name]![j]!;
        assertEquals([...found.mask], [...mask]);
        assertNear(found.weight, weight.data, { tolerance: 1e-4, what: `${name} expert ${j}` });
        assertNear([found.loss], [loss], { tolerance: 1e-4, what: `loss of ${name} ${j}` });
        assertEquals(found.quantised?.level.length, quantised?.level.length);
        if (quantised) assertEquals([...found.quantised!.level], [...quantised.level]);
      });
      const y = unpadColumns(applied[name] as Float32Array, outputs);
      assertNear(y, applySite(expected, name, test).data, { tolerance: 1e-4, what: `${name} y` });
    }
  });
}

Deno.test("a cluster of zeros is pruned for all rows, and the same bits come twice", async () => {
  const gpu = await openTestGpu();
  using tensors = new Tensors(gpu);
  const inputs = 6;
  // Half of the rows are zero, the others far away.
  const x = noise(40 * inputs, 4).map((v, i) => i < 20 * inputs ? 0 : v + 9);
  const w = noise(5 * inputs, 5);
  const rows = uploadRows(tensors, x, { width: inputs, gpu });
  const expansion = { clusters: 2, pca_factor: 2, restarts: 1, max_iterations: 20 };
  const pruning = { ...PRUNING, sparsity: 0.5 };
  const run = async () => {
    const fit = await fitRouter(gpu, rows, {
      expansion,
      uniform: (i) => uniform(1, i),
      name: "site",
    });
    const experts: PrunedMatrix[] = [];
    await pruneSite(gpu, rows, {
      fit,
      pruning,
      name: "site",
      layers: { w: tensors.matrix("w", w, inputs) },
      onExpert: ({ matrix }) => void experts.push(matrix),
    });
    return { experts, labels: fit.kmeans.clusters.labels };
  };
  const first = await run();
  const expected = expandSite(matrix(40, inputs, x), { w: matrix(5, inputs, w) }, {
    expansion,
    pruning,
    uniform: (i) => uniform(1, i),
  });
  assertEquals([...first.labels], [...expected.labels]);
  expected.experts["w"]!.forEach(({ weight, mask }, j) => {
    assertEquals([...first.experts[j]!.mask], [...mask]);
    assertNear(first.experts[j]!.weight, weight.data, { tolerance: 1e-3, what: `expert ${j}` });
  });
  assertEquals(await run(), first);
});

Deno.test("experts come cluster after cluster, and one that is refused leaves the device as it was", async () => {
  const gpu = await openTestGpu();
  using tensors = new Tensors(gpu);
  const [inputs, names] = [9, ["gate", "up"]];
  const rows = uploadRows(tensors, noise(60 * inputs, 4), { width: inputs, gpu });
  const expansion = { clusters: 3, pca_factor: 0, restarts: 1, max_iterations: 20 };
  const draw = (i: number) => uniform(1, i);
  const fit = await fitRouter(gpu, rows, { expansion, uniform: draw, name: "site" });
  const layers = Object.fromEntries(
    names.map((name, i) => [name, tensors.matrix(name, noise(7 * inputs, i), inputs)]),
  );
  const pruning = { ...PRUNING, sparsity: 0.5 };
  const told: string[] = [];
  const options = {
    ...{ fit, layers, pruning, name: "site" },
    onFactor: (cluster: number) => void told.push(`factor ${cluster}`),
  };
  const expected = [0, 1, 2].flatMap((cluster) => [
    `factor ${cluster}`,
    ...names.map((layer) => `${layer} ${cluster}`),
  ]);
  const whole = await pruneSite(gpu, rows, {
    ...options,
    onExpert: ({ layer, cluster }) => void told.push(`${layer} ${cluster}`),
  });
  assertEquals(told.splice(0), expected);
  const stop = new AbortController();
  const last = async (end: () => void) => {
    await pruneSite(gpu, rows, {
      ...options,
      signal: stop.signal,
      onExpert({ layer, cluster }) {
        told.push(`${layer} ${cluster}`);
        if (told.length === 5) end();
      },
    });
  };
  const refuse = () => {
    throw new RangeError("refused");
  };
  await assertRejects(() => last(refuse), RangeError, "refused");
  assertEquals(told.splice(0), expected.slice(0, 5));
  await assertRejects(() => last(() => stop.abort()), DOMException);
  // Work that was begun is finished.
  assertEquals(told, expected.slice(0, told.length));
  await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
  gpu.check();
  assertEquals(await pruneSite(gpu, rows, options), whole);
});

Deno.test("one cluster has all rows, and nothing runs for it", async () => {
  // Only records plans.
  const gpu = profileGpu(DEVICE_PROFILES[0]!);
  const rows = { chunks: [], count: 70, width: 9 };
  const expansion = { clusters: 1, pca_factor: 4, restarts: 2, max_iterations: 50 };
  const uniform = () => 0;
  const { values, kmeans } = await fitRouter(gpu, rows, { expansion, uniform, name: "site" });
  assertEquals(values, {
    width: 9,
    pca: { mean: new Float32Array(9), components: new Float32Array(18) },
    centroids: new Float32Array(2),
    clusters: 1,
  });
  assertEquals(kmeans.clusters.labels, new Uint32Array(70));
  const plain = { ...expansion, pca_factor: 0 };
  const fit = await fitRouter(gpu, rows, { expansion: plain, uniform, name: "site" });
  assertEquals([fit.values.pca, fit.values.centroids], [undefined, new Float32Array(9)]);
});

Deno.test("a site says what is wrong with its options or its rows", async () => {
  const gpu = await openTestGpu();
  using tensors = new Tensors(gpu);
  const expansion = { clusters: 2, pca_factor: 0, restarts: 1, max_iterations: 20 };
  const options = { expansion, uniform: (i: number) => uniform(1, i), name: "block 3 in" };
  const refuse = async (values: number[], message: string) => {
    const rows = uploadRows(tensors, values, { width: 2, gpu });
    await assertRejects(() => fitRouter(gpu, rows, options), RangeError, message);
  };
  await refuse([1, 2], "block 3 in: clusters is 2, expected at most its 1 rows");
  await refuse([1, 2, 1, 2, 1, 2], "block 3 in: There are fewer than 2 different rows");
  await refuse([1, 2, NaN, 2, 1, 2], "block 3 in: A distance is not finite");
  const rows = uploadRows(tensors, [1, 2, 3, 4, 5, 6], { width: 2, gpu });
  const fit = await fitRouter(gpu, rows, options);
  const layers = { gate: tensors.matrix("gate", [1, 2], 2) };
  const pruning = { ...PRUNING, bits: 20 };
  await assertRejects(
    () => pruneSite(gpu, rows, { fit, layers, pruning, name: "block 3 in" }),
    RangeError,
    "gate: bits is 20",
  );
  const zeros = uploadRows(tensors, [0, 0, 0, 0, 0, 0], { width: 2, gpu });
  await assertRejects(
    () => pruneSite(gpu, zeros, { fit, layers, pruning: PRUNING, name: "block 3 in" }),
    RangeError,
    "block 3 in cluster 0: Every input is zero",
  );
});

Deno.test("a site is not pruned by magnitude for several clusters", async () => {
  const gpu = await openTestGpu();
  using tensors = new Tensors(gpu);
  const rows = uploadRows(tensors, [1, 2, 3, 4, 5, 7], { width: 2, gpu });
  const expansion = { clusters: 2, pca_factor: 1, restarts: 1, max_iterations: 20 };
  const draw = (i: number) => uniform(1, i);
  const options = { expansion, uniform: draw, name: "block 0 mid" };
  const fit = await fitRouter(gpu, rows, options);
  const layers = { down: tensors.matrix("down", [1, 2], 2) };
  const pruning = { ...PRUNING, method: "magnitude" } as const;
  await assertRejects(
    () => pruneSite(gpu, rows, { fit, layers, pruning, name: "block 0 mid" }),
    RangeError,
    "block 0 mid: method is magnitude and clusters is 2, expected 1",
  );
  const equal = uploadRows(tensors, [1, 2, 1, 2, 1, 2], { width: 2, gpu });
  const few = { ...expansion, centroids: "rows", pca_factor: 0 } as const;
  await assertRejects(
    () => fitRouter(gpu, equal, { ...options, expansion: few }),
    RangeError,
    "block 0 mid: 128 draws of 3 rows found 1 different ones of 2",
  );
});

Deno.test("rowsByCluster() lists each row once, in order", () => {
  const lists = rowsByCluster([2, 0, 2, 2, 0], 4);
  assertEquals(lists.map((list) => [...list]), [[1, 4], [], [0, 2, 3], []]);
  assert(lists.every((list) => list instanceof Uint32Array));
});
