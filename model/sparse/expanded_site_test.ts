/** A site on the device: its memory, and its way for a few rows. */

import { assert, assertEquals } from "@std/assert";
import { runPlan } from "../gpu/build.ts";
import { memoryOf } from "../gpu/memory.ts";
import { Plan } from "../gpu/plan.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { compressedBytes } from "../ops/compressed/forms.ts";
import { packMatrix } from "../ops/compressed/pack.ts";
import { assertNear, noise } from "../ops/testing.ts";
import { compressionOf, ExpandedSite, type StoredSite, type ValueType } from "./expansion.ts";
import { PRUNING, type Pruning } from "./options.ts";
import { Tensors } from "./rows.ts";

const CLUSTERS = 3;

/** A site whose experts keep every other weight, or the first two of four. */
function siteOf(
  { inputs, outputs, values, pruning }: {
    inputs: number;
    outputs: number;
    values: ValueType;
    pruning: Pruning;
  },
): { stored: StoredSite; bytes: number } {
  const compression = compressionOf(pruning, { inputs, values });
  const experts = Array.from({ length: CLUSTERS }, (_, j) => {
    const mask = Uint8Array.from({ length: outputs * inputs }, (_, i) => i + j & 1);
    const weight = Float32Array.from(noise(outputs * inputs, j), (v, i) => mask[i] ? 0 : v);
    return packMatrix(`expert ${j}`, { weight, mask }, compression);
  });
  const centroids = Float32Array.from(noise(CLUSTERS * inputs, 9));
  return {
    stored: {
      router: { width: inputs, pca: undefined, centroids, clusters: CLUSTERS },
      layers: { w: { outputs, inputs, experts } },
    },
    bytes: experts.reduce((sum, expert) => sum + compressedBytes(expert), 0),
  };
}

for (
  const [what, values, pruning] of [
    ["masks and f16", "f16", PRUNING],
    ["2:4 and f32", "f32", { ...PRUNING, pattern: [2, 4] }],
  ] as const
) {
  Deno.test(`A site's experts take the bytes of their compressed forms: ${what}`, async () => {
    const gpu = await openTestGpu();
    const { stored, bytes } = siteOf({ inputs: 256, outputs: 512, values, pruning });
    const before = memoryOf(gpu).bytes;
    const site = new ExpandedSite(gpu, stored);
    const taken = memoryOf(gpu).bytes - before;
    assertEquals(taken, site.bytes);
    // Masks say besides where every fourth row of 32 inputs begins.
    assert(site.expertBytes >= bytes && site.expertBytes < 1.04 * bytes, `${site.expertBytes}`);
    const router = 4 * CLUSTERS * 256;
    assert(taken - site.expertBytes >= router && taken - site.expertBytes < 2 * router);
    const dense = CLUSTERS * 512 * 256 * (values === "f16" ? 2 : 4);
    assert(site.expertBytes < 0.6 * dense, `${site.expertBytes} of ${dense}`);
    site[Symbol.dispose]();
    assertEquals(memoryOf(gpu).bytes, before);
  });
}

Deno.test("One row goes the way of few rows, to the numbers of many", async () => {
  const gpu = await openTestGpu({ software: false });
  using tensors = new Tensors(gpu);
  const [inputs, outputs, rows] = [24, 37, 40];
  const { stored } = siteOf({ inputs, outputs, values: "f32", pruning: PRUNING });
  using site = new ExpandedSite(gpu, stored);
  const x = noise(rows * inputs, 5);
  const apply = async (count: number) => {
    const plan = new Plan(gpu, "apply");
    const routed = site.route(plan, tensors.matrix("x", x.subarray(0, count * inputs), inputs));
    const y = site.combine(plan, routed, site.products(plan, "w", routed));
    const kernels = plan.steps.flatMap((step) => step.kind === "dispatch" ? [step.call.name] : []);
    return { ...await runPlan(plan, { y }), few: kernels.includes("compressed_vector") };
  };
  const [one, many] = [await apply(1), await apply(rows)];
  assertEquals([one.few, many.few], [true, false]);
  assertNear(one.y, many.y.subarray(0, 40), { tolerance: 1e-6, what: "the first row" });
});
