/** Faults that come at any moment: a kill, a full disk, a folder that can't be written. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { all, fileExists, states, type Summary, ToyProject } from "./testing.ts";

/** The digests of all nodes and the results: all of a store but measured values. */
async function contents(toy: ToyProject): Promise<unknown> {
  const nodes = await toy.json("sql", "SELECT node, key, digest FROM nodes ORDER BY ALL");
  return { nodes, report: await Deno.readTextFile(toy.path("results", "report.md")) };
}

Deno.test("SIGKILL at random moments: what comes out is the same bits, and verify is clean", async () => {
  const kills = Number(Deno.env.get("ETHOS_TEST_KILLS") ?? 4);
  const slow = ["reproduce", "--set", "milliseconds=8", "--set", "steps=40"];
  await using calm = await ToyProject.create();
  const start = performance.now();
  assertEquals((await calm.run(...slow)).code, 0);
  const seconds = (performance.now() - start) / 1000;
  const expected = await contents(calm);

  let killed = 0;
  while (killed < kills) {
    // As many kills of one store as it takes to finish it, then another store.
    await using toy = await ToyProject.create();
    for (; killed < kills; killed++) {
      const child = toy.spawn(...slow);
      const output = child.output();
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 1000 * seconds));
      try {
        child.kill("SIGKILL");
      } catch {
        // It had ended.
      }
      if ((await output).code === 0) break;
    }
    const { code, stderr } = await toy.run(...slow);
    assertEquals(code, 0, stderr);
    assertEquals(await contents(toy), expected);
    const verified = await toy.json<{ clean: boolean }>("verify");
    assertEquals(verified.clean, true);
    assertEquals([...Deno.readDirSync(toy.path(".ethos", "tmp"))], []);
    const left = await toy.json("sql", "SELECT run FROM runs WHERE state = 'running'");
    assertEquals(left, []);
  }
});

/** Whether this process may mount: the disk tests need a small file system. */
const CAN_MOUNT = await (async () => {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return false;
  const dir = await Deno.makeTempDir();
  const ok = await mount(dir, "size=64k");
  if (ok) await unmount(dir);
  await Deno.remove(dir);
  return ok;
})();

async function mount(dir: string, options: string): Promise<boolean> {
  const args = ["-t", "tmpfs", "-o", options, "tmpfs", dir];
  const { success } = await new Deno.Command("mount", { args, stderr: "null" }).output();
  return success;
}

async function unmount(dir: string): Promise<void> {
  await new Deno.Command("umount", { args: [dir], stderr: "null" }).output();
}

Deno.test({
  name: "a full disk: one clear line, nothing finished is lost (needs root to mount a tmpfs)",
  ignore: !CAN_MOUNT,
  fn: async (t) => {
    await using toy = await ToyProject.create();
    const store = toy.path(".ethos");
    await Deno.mkdir(store);
    assert(await mount(store, "size=12m"));
    try {
      assertEquals((await toy.run("reproduce")).code, 0);

      await t.step("while a node writes", async () => {
        const { code, stdout } = await toy.run("reproduce", "--set", "count=3000000");
        assertEquals(code, 1);
        assertStringIncludes(stdout, "failed      numbers: The disk is full while running numbers");
        assertEquals(states(await toy.json<Summary>("reproduce")), all("cached"));
      });

      await t.step("while a node is fetched from a remote store", async () => {
        const large = ["--set", "count=3000000"];
        const remote = ["--remote", `file://${toy.path("shared")}`];
        const elsewhere = ["--store", toy.path("roomy")];
        const made = await toy.run("reproduce", "--only", "numbers", ...large, ...elsewhere);
        assertEquals(made.code, 0, made.stderr);
        assertEquals((await toy.run("push", ...remote, ...elsewhere)).code, 0);
        const { code, stdout } = await toy.run("reproduce", ...large, ...remote);
        assertEquals(code, 1);
        assertStringIncludes(
          stdout,
          "failed      numbers: The disk is full while fetching numbers",
        );
        assertEquals(states(await toy.json<Summary>("reproduce")), all("cached"));
      });

      await t.step("with no byte left for anything", async () => {
        fill(join(store, "filler"));
        const { code, stderr } = await toy.run("reproduce", "--seed", "9");
        assertEquals(code, 1);
        const errors = stderr.trim().split("\n").filter((line) => line.startsWith("error:"));
        assertEquals(errors.length, 1, stderr);
        assertStringIncludes(errors[0]!, "The disk is full");
        await Deno.remove(join(store, "filler"));
        assertEquals(states(await toy.json<Summary>("reproduce")), all("cached"));
        assertEquals((await toy.run("reproduce", "--seed", "9")).code, 0);
        assertEquals((await toy.run("verify")).code, 0);
      });
    } finally {
      await unmount(store);
    }
  },
});

Deno.test({
  name: "a results folder that is read-only: one clear line, exit code 1, nothing is lost",
  ignore: Deno.build.os === "windows" || (Deno.uid() === 0 && !CAN_MOUNT),
  fn: async () => {
    await using toy = await ToyProject.create();
    const results = toy.path("results");
    await Deno.mkdir(results);
    // Root writes wherever it likes, but for a file system that is mounted read-only.
    if (CAN_MOUNT) assert(await mount(results, "ro"));
    else await Deno.chmod(results, 0o555);
    try {
      const { code, stdout, stderr } = await toy.run("reproduce");
      assertEquals(code, 1);
      assertStringIncludes(stdout, "done        report\n");
      const errors = stderr.trim().split("\n").filter((line) => line.startsWith("error:"));
      assertEquals(errors.length, 1, stderr);
      assertStringIncludes(errors[0]!, `Results can't be copied to ${results}`);
    } finally {
      if (CAN_MOUNT) await unmount(results);
      else await Deno.chmod(results, 0o755);
    }
    assertEquals(states(await toy.json<Summary>("reproduce")), all("cached"));
    assert(await fileExists(toy.path("results", "report.md")));
  },
});

Deno.test({
  name: "a store on a disk that is mounted read-only can be read (needs root to mount a tmpfs)",
  ignore: !CAN_MOUNT,
  fn: async () => {
    await using toy = await ToyProject.create();
    const store = toy.path(".ethos");
    await Deno.mkdir(store);
    assert(await mount(store, "size=64m"));
    try {
      assertEquals((await toy.run("reproduce")).code, 0);
      assert(await mount(store, "remount,ro"));
      const reading: readonly (readonly string[])[] = [
        ["status"],
        ["reproduce", "--dry-run"],
        ["why", "report"],
        ["runs"],
        ["diff", "latest", "latest"],
        ["sql", "SELECT count(*) AS n FROM nodes"],
        ["export", "--out", "tables"],
        ["gc"],
      ];
      for (const args of reading) {
        const { code, stderr } = await toy.run(...args);
        assertEquals([code, stderr], [0, ""], args.join(" "));
      }
      const plan = await toy.json<{ nodes: { state: string }[] }>("status");
      assertEquals(plan.nodes.map(({ state }) => state), Array(5).fill("cached"));
      assert(await fileExists(toy.path("tables", "metrics.parquet")));
      for (const args of [["reproduce"], ["clean"], ["gc", "--yes"], ["verify"], ["rebuild"]]) {
        const { code, stderr } = await toy.run(...args);
        assertEquals(code, 1, args.join(" "));
        assertStringIncludes(stderr, "error: The file system is read-only while opening the store");
        assertEquals(stderr.trim().split("\n").length, 1, stderr);
      }
    } finally {
      await unmount(store);
    }
  },
});

/** Writes until the disk is full. */
function fill(path: string): void {
  using file = Deno.openSync(path, { write: true, create: true });
  for (let size = 65536; size >= 1; size /= 2) {
    try {
      for (;;) file.writeSync(new Uint8Array(size));
    } catch {
      // Smaller pieces may still fit.
    }
  }
}
