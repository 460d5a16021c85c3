import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { compareArchitectures } from "./architectures.ts";
import { loadPaper, memoryArithmetic, PAPER_SIZES, tableOne } from "./arithmetic.ts";
import {
  anyCached,
  cachedExperts,
  cachePoint,
  effectiveBandwidth,
  generatedExpert,
  GH200,
  hitRate,
  storedExpert,
} from "./cache.ts";
import { layerParameters, routerParameters } from "./memory.ts";
import { size } from "../../../model/layer/parameter.ts";
import { parameterSpecs } from "../../../model/trunk/parameters.ts";

const { architecture, arithmetic: paper } = await loadPaper();

Deno.test("the paper's configuration comes to the specification's figures", () => {
  assertEquals(paper.stored, 743_979_008);
  assertEquals(paper.active, 274_446_336);
  assertEquals(paper.storedExperts, 536_870_912);
  assertEquals(paper.latentCodes, 33_554_432);
  assertAlmostEquals(paper.flops / 1e9, 1.037, 5e-4);
  assertAlmostEquals(paper.attention / 1e6, 68, 0.5);
  // Sharing generation saves the specification's 0.235 GFLOP but for N / (H k) of a step of 32,768 tokens.
  const generation = 14 * 128 * 2 * 128 * 512;
  assertAlmostEquals(generation / 1e9, 0.235, 5e-4);
  assertAlmostEquals(paper.flops - paper.flopsShared, generation * (1 - 2048 / 32768), 1);
});

Deno.test("8.7 B is what experts in all sixteen layers and the embedding come to", () => {
  const all = 16 * 536_870_912 + 100_277 * 1024;
  assertAlmostEquals(all / 1e9, 8.7, 0.01);
  assert(tableOne(paper, undefined).some(({ note }) => note.includes("8.69 B")));
  assert(paper.theoretical < 8e9);
});

Deno.test("tables leave out what did not run", () => {
  for (const quantity of [...tableOne(paper, undefined), ...memoryArithmetic(paper, undefined)]) {
    assertEquals(quantity.ran, undefined);
  }
});

Deno.test("one layer's formula agrees with the model's own list of parameters", () => {
  const sparse = parameterSpecs(architecture).filter(({ name }) =>
    name.startsWith("layers.2.ffn.")
  );
  const sum = (specs: typeof sparse) => specs.reduce((total, spec) => total + size(spec), 0);
  assertEquals(sum(sparse), layerParameters("ETHOS", PAPER_SIZES.num_experts, PAPER_SIZES));
  assertEquals(
    sum(sparse.filter(({ role }) => role === "router")),
    routerParameters(PAPER_SIZES, PAPER_SIZES.num_experts),
  );
  assertEquals(
    layerParameters("PEER", PAPER_SIZES.num_experts, PAPER_SIZES) -
      routerParameters(PAPER_SIZES, PAPER_SIZES.num_experts),
    536_870_912,
  );
  assertEquals(layerParameters("traditional", 2, PAPER_SIZES), 2 * (2 * 1024 * 4096 + 1024));
});

Deno.test("Table 2 stores less than a mixture and uses less than what is stored", () => {
  const rows = compareArchitectures(PAPER_SIZES);
  for (const row of rows) assert(row.active <= row.stored, row.name);
  const by = (name: string) => rows.find((r) => r.name === name)!;
  assert(by("ETHOS").stored < by("PEER").stored / 10);
  // Router 8.4 M + 2.1 M, projections 2.1 M, generating and applying 128 experts 16.8 M + 0.26 M: spelled out.
  const routing = 2 * 1024 * 4096 + 2 * 8 * 512 * 512;
  const experts = 128 * (2 * 128 * 512 + 4 * 512) + 4 * 1024 * 512;
  assertEquals(by("ETHOS").flops, routing + experts);
});

Deno.test("cached experts and hit rates at the ends and in between", () => {
  assertEquals(cachedExperts(GH200, 262_144, 4096), 12_800);
  assertEquals(cachedExperts(GH200, 100, 64), 100);
  assertThrows(() => cachedExperts(GH200, 100, 0), RangeError, "0 bytes");
  assertEquals(hitRate(10, 40, { law: "even" }), 0.25);
  assertEquals(hitRate(40, 40, { law: "zipf", alpha: 1 }), 1);
  assertEquals(hitRate(0, 40, { law: "zipf", alpha: 1 }), 0);
  // (1 + 1/2) / (1 + 1/2 + 1/3 + 1/4)
  assertAlmostEquals(hitRate(2, 4, { law: "zipf", alpha: 1 }), 1.5 / (25 / 12), 1e-12);
  assertAlmostEquals(hitRate(3, 7, { law: "zipf", alpha: 0 }), 3 / 7, 1e-12);
  assertEquals(anyCached(1, 2, 3), 0.875);
});

Deno.test("effective bandwidth lies between memory and cache, and averages times", () => {
  assertAlmostEquals(effectiveBandwidth(GH200, 1) / GH200.cacheBandwidth, 1, 1e-12);
  assertAlmostEquals(effectiveBandwidth(GH200, 0) / GH200.memoryBandwidth, 1, 1e-12);
  const half = 2 / (1 / GH200.cacheBandwidth + 1 / GH200.memoryBandwidth);
  assertAlmostEquals(effectiveBandwidth(GH200, 0.5) / half, 1, 1e-12);
});

Deno.test("a stored expert is bound by bandwidth, a generated one by arithmetic", () => {
  const options = { experts: 262_144, popularity: { law: "zipf", alpha: 1 } } as const;
  const stored = cachePoint(GH200, storedExpert(1024), options);
  const generated = cachePoint(GH200, generatedExpert(128, 512), options);
  assertEquals(stored.bound, "bandwidth");
  assertEquals(generated.bound, "arithmetic");
  assertAlmostEquals(generated.rate, GH200.peakFlops / (2 * 128 * 512 + 4 * 512), 1);
  assertAlmostEquals(stored.rate, stored.bandwidth / 4096, 1);
});
