/** The real experiment with a process a node, beside the same in one process. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { objectsOf } from "../pipeline/store/records.ts";
import { contents, differences, Sandbox, states, type Summary } from "./reproduce_testing.ts";

Deno.test("two workers on llvmpipe publish the same keys, bits and objects as one process", async (t) => {
  await using inline = await Sandbox.create();
  const alone = await inline.run("reproduce");
  assertEquals(alone.code, 0, alone.stderr);
  await using sandbox = await Sandbox.create();
  const running = await sandbox.run("reproduce", "--executor", "process", "--workers", "2");
  assertEquals(running.code, 0, running.stderr);

  await t.step("as manifests and catalogue say", async () => {
    // The report shows when its nodes ran.
    const changed = differences(await contents(inline), await contents(sandbox))
      .filter((name) => !name.startsWith("report report/"));
    assertEquals(changed, []);
  });

  await t.step("object for object", async () => {
    const hashes = async (of: Sandbox) =>
      (await of.records()).filter(({ stage }) => stage !== "report").map((record) => ({
        node: record.node,
        digest: record.digest,
        objects: objectsOf({ ...record, measured: undefined! }).map(({ sha256 }) => sha256).sort(),
      }));
    assertEquals(await hashes(sandbox), await hashes(inline));
    assertEquals((await sandbox.run("verify")).code, 0);
  });

  await t.step("and the jobs' words are the stages'", () => {
    for (const words of ["update 4: validation", "report: Wrote report.html"]) {
      assertStringIncludes(running.stderr, words);
      assertStringIncludes(alone.stderr, words);
    }
  });

  await t.step("what one made is cached for the other", async () => {
    const summary = await sandbox.json<Summary>("reproduce");
    assertEquals(new Set(Object.values(states(summary))), new Set(["cached"]));
    assertEquals((await Deno.stat(join(sandbox.results, "report.html"))).isFile, true);
  });
});
