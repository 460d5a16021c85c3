/** The GPU against every golden file, with experts in every execution, in f32 and in mixed precision. */

import { assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import type { GoldenCase } from "./golden.ts";
import { compareGolden } from "./compare.ts";
import { parseGolden } from "./file.ts";
import { compilesSlowly, openTestGpu } from "../gpu/testing.ts";
import { gpuImplementation, gpuImplementations } from "./gpu.ts";

const folder = fromFileUrl(new URL("./testdata/", import.meta.url));

function golden(file: string): GoldenCase {
  return parseGolden(Deno.readFileSync(folder + file), file);
}

/** Results that never leave a kernel, or are in the naive execution's table. */
function omissions(golden: GoldenCase, implementation: string): string[] {
  const { kind, expected } = golden;
  if (kind === "mixture") {
    return [...expected.keys()].filter((name) => name === "out.probability");
  }
  if (kind === "router") return ["eval.total", "out.s1", "out.s2", "out.total"];
  const naive = expected.has("out.y_naive") && !implementation.includes("naive");
  return naive ? ["out.y_naive"] : [];
}

const files = Array.from(Deno.readDirSync(folder), ({ name }) => name)
  .filter((name) => name.endsWith(".safetensors")).sort();

for (const file of files) {
  Deno.test(`the GPU agrees with ${file}`, async (t) => {
    const which = golden(file);
    for (const implementation of gpuImplementations(await openTestGpu())) {
      if (implementation.kinds?.has(which.kind) === false) continue;
      await t.step(implementation.name, async () => {
        const rows = await compareGolden(implementation, which);
        assertEquals(rows.filter(({ ok }) => !ok), []);
        assertEquals(
          rows.filter(({ omitted }) => omitted).map(({ tensor }) => tensor).sort(),
          omissions(which, implementation.name),
        );
      });
    }
  });
}

Deno.test("the kernels of a real GPU agree with a whole model's file", async () => {
  const gpu = await openTestGpu({ software: false });
  for (const precision of ["f32", "mixed"] as const) {
    const implementation = gpuImplementation(gpu, "materialized", precision);
    const names = ["tiny_context", "tiny_topk_moe", "tiny_llama", "tiny_neox"];
    for (const name of compilesSlowly() ? names.slice(0, 1) : names) {
      const rows = await compareGolden(implementation, golden(`${name}.safetensors`));
      assertEquals(rows.filter(({ ok }) => !ok), [], name);
    }
  }
});
