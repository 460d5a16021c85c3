/** The real experiment with a process or a job of Slurm's a node, beside the same in one process. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { SlurmCluster } from "../pipeline/executors/slurm/cluster_testing.ts";
import { objectsOf } from "../pipeline/store/records/records.ts";
import { contents, differences, Sandbox, states, type Summary } from "./reproduce_testing.ts";

/** Entries that two experiments do not share, but for the report, which shows when its nodes ran. */
async function changes(one: Sandbox, other: Sandbox): Promise<string[]> {
  return differences(await contents(one), await contents(other))
    .filter((name) => !name.startsWith("report report/"));
}

/** Digests and objects of each node but the report. */
async function hashes(of: Sandbox) {
  return (await of.records()).filter(({ stage }) => stage !== "report").map((record) => ({
    node: record.node,
    digest: record.digest,
    objects: objectsOf({ ...record, measured: undefined! }).map(({ sha256 }) => sha256).sort(),
  }));
}

Deno.test("two workers on llvmpipe and two slots of Slurm publish the same keys, bits and objects as one process", async (t) => {
  await using inline = await Sandbox.create();
  const alone = await inline.run("reproduce");
  assertEquals(alone.code, 0, alone.stderr);
  await using sandbox = await Sandbox.create();
  const running = await sandbox.run("reproduce", "--executor", "process", "--workers", "2");
  assertEquals(running.code, 0, running.stderr);

  await t.step("as manifests and catalogue say", async () => {
    assertEquals(await changes(inline, sandbox), []);
  });

  await t.step("object for object", async () => {
    assertEquals(await hashes(sandbox), await hashes(inline));
    assertEquals((await sandbox.run("verify")).code, 0);
  });

  await t.step("and the jobs' words are the stages'", () => {
    for (const words of ["update 4: validation", "report: Wrote report.html"]) {
      assertStringIncludes(running.stderr, words);
      assertStringIncludes(alone.stderr, words);
    }
  });

  await t.step("and so does Slurm, with two trainings at a time", async () => {
    await using cluster = await SlurmCluster.start();
    await using slurm = await Sandbox.create();
    Object.assign(slurm.env, cluster.env);
    const { code, stderr } = await slurm.run("reproduce", "--executor", "slurm");
    assertEquals(code, 0, stderr);
    assertStringIncludes(stderr, "is 2 nodes");
    assertEquals(await changes(inline, slurm), []);
    assertEquals(await hashes(slurm), await hashes(inline));
    assertEquals((await slurm.run("verify")).code, 0);
  });

  await t.step("what one made is cached for the other", async () => {
    const summary = await sandbox.json<Summary>("reproduce");
    assertEquals(new Set(Object.values(states(summary))), new Set(["cached"]));
    assertEquals((await Deno.stat(join(sandbox.results, "report.html"))).isFile, true);
  });
});
