import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { withFolder } from "../../model/checkpoint/folder_testing.ts";
import type { GoldenImplementation } from "../../model/golden/golden.ts";
import { referenceImplementation } from "../../model/golden/reference.ts";
import { checkGolden, type CheckGoldenOptions } from "./check_golden.ts";

const directory = fromFileUrl(new URL("../../model/golden/testdata/", import.meta.url));

async function check(options: Partial<CheckGoldenOptions> = {}) {
  const lines: string[] = [];
  const code = await checkGolden({
    directory,
    implementations: [referenceImplementation],
    print: (text) => lines.push(text),
    ...options,
  });
  return { code, text: lines.join("\n") };
}

/** The reference, with an attention that is slightly off. */
const inexact: GoldenImplementation = {
  ...referenceImplementation,
  name: "inexact",
  async mla(golden) {
    const results = new Map(await referenceImplementation.mla(golden));
    return results.set("out.y", Array.from(results.get("out.y")!, (y) => y * (1 + 1e-4)));
  },
};

const broken: GoldenImplementation = {
  ...referenceImplementation,
  name: "broken",
  mla() {
    throw new Error("No adapter answered");
  },
};

Deno.test("checkGolden() passes the reference over the project's vectors", async () => {
  const { code, text } = await check();
  assertEquals(code, 0);
  assertStringIncludes(text, "9 of 9 tables within tolerance");
  assertMatch(text, /mla\.safetensors · reference · ok\ntensor +error +tolerance +measure +ok\n/);
  assertMatch(text, /out\.index +0 differ +equal +equal +ok/);
});

Deno.test("checkGolden() exits with 1 on a miss and shows it", async () => {
  const { code, text } = await check({ only: ["mla"], implementations: [inexact] });
  assertEquals(code, 1);
  assertMatch(text, /out\.y +1\.0e-4 +1\.0e-6 +relative +MISS/);
  assertStringIncludes(text, "misses in mla.safetensors (inexact)");
});

Deno.test("checkGolden() goes on after an implementation that throws", async () => {
  const { code, text } = await check({
    only: ["mla"],
    implementations: [broken, referenceImplementation],
  });
  assertEquals(code, 1);
  assertStringIncludes(text, "No adapter answered");
  assertStringIncludes(text, "mla.safetensors · reference · ok");
});

Deno.test("checkGolden() speaks JSON", async () => {
  const { code, text } = await check({ only: ["optimizer.safetensors"], json: true });
  assertEquals(code, 0);
  const { ok, reports } = JSON.parse(text);
  assertEquals(ok, true);
  assertEquals(reports[0].file, "optimizer.safetensors");
  assertEquals(reports[0].comparisons[0].ok, true);
});

Deno.test("checkGolden() names folders and files that are not there", async () => {
  const missing = await check({ directory: join(directory, "nowhere") });
  assertEquals(missing.code, 2);
  assertStringIncludes(missing.text, "There is no folder");
  const unknown = await check({ only: ["mlb"] });
  assertEquals(unknown.code, 2);
  assertStringIncludes(unknown.text, "no golden file mlb.safetensors; there are ethos_layer");
  await withFolder(async (folder) => {
    const empty = await check({ directory: folder });
    assertEquals(empty.code, 2);
    assertStringIncludes(empty.text, "has no .safetensors files");
  });
});

Deno.test("checkGolden() reads what it can of a folder and exits with 2 for the rest", async () => {
  await withFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "a.safetensors"), "not what it says");
    await Deno.copyFile(join(directory, "mla.safetensors"), join(folder, "b.safetensors"));
    const { code, text } = await check({ directory: folder });
    assertEquals(code, 2);
    assertStringIncludes(text, "a.safetensors is not a valid safetensors file");
    assertStringIncludes(text, "b.safetensors · reference · ok");
    assertStringIncludes(text, "1 of 1 tables within tolerance");
  });
});

Deno.test("checkGolden() does not pass when nothing was compared", async () => {
  const { code } = await check({ implementations: [] });
  assertEquals(code, 1);
  const omitting: GoldenImplementation = {
    ...referenceImplementation,
    mla: () => new Map(),
    omits: () => "not on this machine",
  };
  const omitted = await check({ only: ["mla"], implementations: [omitting] });
  assertEquals(omitted.code, 1);
  assertMatch(omitted.text, /out\.y +not on this machine .*omitted/);
});
