/**
 * The real experiment, run as a user runs it, with the faults of practice. `deno task fault-check` runs all of it; without
 * `ETHOS_TEST_FAULTS=all` the tests that each take a training are left out.
 */

import { assert, assertEquals, assertLess, assertStringIncludes } from "@std/assert";
import { basename, fromFileUrl, join, relative } from "@std/path";
import { ATTENTION } from "../model/attention/registry.ts";
import { FFN } from "../model/ffn/registry.ts";
import { moduleUrl, readCode } from "../pipeline/graph/code.ts";
import { fileExists, modulesThatRan } from "../pipeline/testing.ts";
import {
  contents,
  differences,
  type Ended,
  MINIMAL_CONFIG,
  ROOT,
  Sandbox,
  states,
  type Summary,
} from "./reproduce_testing.ts";

const ALL = Deno.env.get("ETHOS_TEST_FAULTS") === "all";

const NODES = [
  "download",
  "tokenize",
  "train[base,seed=1]",
  "train[d_latent=4,seed=1]",
  "evaluate[base,seed=1]",
  "evaluate[d_latent=4,seed=1]",
  "benchmark",
  "ablate",
  "report",
];
const all = (state: string) => Object.fromEntries(NODES.map((name) => [name, state]));

/** Lines that start with `error:`. */
const errors = ({ stderr }: Ended) =>
  stderr.split("\n").filter((line) => line.startsWith("error:"));

/** Object of a node's directory output. */
async function fileOf(sandbox: Sandbox, node: string, pattern: RegExp): Promise<string> {
  const record = (await sandbox.records()).find((record) => record.node === node);
  const files = Object.values(record?.outputs ?? {})
    .flatMap((output) => output.kind === "directory" ? output.files : []);
  return sandbox.object(files.find(({ path }) => pattern.test(path))!.sha256);
}

/** Changes one byte in the middle of a file, and its time unless `quietly`. */
async function corrupt(path: string, options: { quietly: boolean }): Promise<void> {
  const { mtime } = await Deno.stat(path);
  const bytes = await Deno.readFile(path);
  bytes[bytes.length >> 1]! ^= 1;
  await Deno.chmod(path, 0o644);
  await Deno.writeFile(path, bytes);
  if (options.quietly) await Deno.utime(path, mtime!, mtime!);
}

Deno.test("the whole experiment: once, then cached, then damaged and healed", async (t) => {
  await using sandbox = await Sandbox.create();
  // Inside the folder of `deno test --coverage`, whose report then counts this run too.
  const coverage = join(Deno.env.get("DENO_COVERAGE_DIR") ?? sandbox.dir, basename(sandbox.dir));

  await t.step("two at once: one works, the other says who; who only reads is let in", async () => {
    sandbox.env["DENO_COVERAGE_DIR"] = coverage;
    const first = sandbox.start("reproduce", "--gpu", "deno");
    delete sandbox.env["DENO_COVERAGE_DIR"];
    while (!first.stderr().includes("tokenize: done")) await sleep(50);
    const second = await sandbox.run("reproduce");
    assertEquals(second.code, 2);
    assertStringIncludes(second.stderr, `is held by process ${first.pid} (\`reproduce`);
    const status = await sandbox.run("status");
    assertEquals(status.code, 0, status.stderr);
    assertStringIncludes(status.stdout, "cached   tokenize");
    const { code, stdout, stderr } = await first.ended;
    assertEquals(code, 0, stderr);
    assertStringIncludes(stdout, join(sandbox.results, "report.html"));
    const runtimes = await sandbox.json<{ runtime: string }[]>(
      "sql",
      "SELECT provenance->>'runtime' AS runtime FROM nodes WHERE stage = 'train'",
    );
    assertEquals(new Set(runtimes.map(({ runtime }) => runtime)), new Set(["deno"]));
    for (const name of ["report.html", "report.md"]) {
      assert((await Deno.stat(join(sandbox.results, name))).size > 1000);
    }
  });

  await t.step("every module that ran is in a key, or only reads the configuration", async () => {
    const records = await sandbox.records();
    const keyed = records.flatMap(({ components }) => Object.keys(components.code.files));
    const paths = [
      "stages/main.ts",
      "stages/experiment/kinds.ts",
      "stages/experiment/load.ts",
      "stages/experiment/input_hashes.ts",
      "model/equal_size.ts",
    ];
    // The configuration's schema loads every kind; those that the experiment trains are in its keys.
    const kinds = Object.values({ ...ATTENTION, ...FFN }).map(({ module }) => module)
      .filter((module) => !keyed.includes(relative(ROOT, fromFileUrl(module))));
    assertEquals(kinds.length, Object.keys({ ...ATTENTION, ...FFN }).length - 3);
    const roots = [...paths.map((path) => moduleUrl(join(ROOT, path))), ...kinds];
    const commandLine = (await readCode(new Map([["", roots]]), { root: ROOT })).get("")!.files;
    // It imports every stage, so only the module itself is excused.
    const known = new Set([...keyed, ...Object.keys(commandLine), "stages/experiment/parts.ts"]);
    const ran = await modulesThatRan(coverage, ROOT);
    assert(ran.includes("stages/train/train.ts") && ran.includes("stages/tokenize/worker.ts"));
    // No key covers a registry, which holds nothing but names of modules.
    const excused = (path: string) => path.startsWith("pipeline/") || path.endsWith("/registry.ts");
    assertEquals(ran.filter((path) => !known.has(path) && !excused(path)), []);
  });

  const before = await contents(sandbox);
  const healed = async (expected: Record<string, string>) => {
    const summary = await sandbox.json<Summary>("reproduce");
    assertEquals([summary.state, states(summary)], ["done", expected]);
    const changed = differences(before, await contents(sandbox))
      // The report shows when its nodes ran.
      .filter((name) => !name.startsWith("report report/"));
    assertEquals(changed, []);
  };

  await t.step("nothing to do", async () => {
    const start = performance.now();
    await healed(all("cached"));
    // Twice the two seconds that are asked for: this machine may be busy, and contents() asks the catalogue.
    assertLess((performance.now() - start) / 1000, 8);
  });

  await t.step("a corrupted token shard is noticed by its time", async () => {
    await corrupt(await fileOf(sandbox, "tokenize", /^train\//), { quietly: false });
    await healed({ ...all("cached"), tokenize: "done" });
  });

  await t.step("a corrupted checkpoint is found by verify, byte by byte", async () => {
    const path = await fileOf(sandbox, "train[base,seed=1]", /^last\/model/);
    await corrupt(path, { quietly: true });
    const { code, stdout } = await sandbox.run("verify");
    assertEquals(code, 1);
    assertStringIncludes(stdout, "train[base,seed=1]: object");
    if (ALL) {
      const again = await sandbox.json<Summary>("reproduce");
      assertEquals(again.nodes.find(({ node }) => node === "train[base,seed=1]")?.state, "done");
      assertEquals((await sandbox.run("verify")).code, 0);
      await healed(all("cached"));
    }
  });

  await t.step("a deleted catalogue is made anew from the manifests", async () => {
    await Deno.remove(join(sandbox.store, "catalogue.duckdb"));
    const path = join(sandbox.store, "catalogue.duckdb");
    // Who only reads does without.
    const { code, stdout, stderr } = await sandbox.run("status");
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(stdout, "of 9 nodes are cached.");
    assertEquals(await fileExists(path), false);
    const verified = await sandbox.run("verify");
    assertEquals(verified.code, 0, verified.stderr);
    assertStringIncludes(verified.stderr, `rebuilt it from ${ALL ? 9 : 8} nodes`);
    const rebuilt = await sandbox.run("rebuild");
    assertStringIncludes(rebuilt.stdout, `${ALL ? 9 : 8} nodes`);
    await Deno.writeTextFile(path, "no catalogue");
    const runs = await sandbox.run("runs");
    assertEquals([runs.code, runs.stderr], [0, ""]);
    assertEquals(await Deno.readTextFile(path), "no catalogue");
    const broken = await sandbox.run("verify");
    assertEquals(broken.code, 0);
    assertStringIncludes(broken.stderr, "put it aside");
  });
});

Deno.test({
  name: "SIGINT stops within seconds with exit code 130, and nothing that was done is done again",
  ignore: !ALL,
  fn: async (t) => {
    await using calm = await Sandbox.create();
    assertEquals((await calm.run("reproduce")).code, 0);
    const expected = await contents(calm);
    await using sandbox = await Sandbox.create();
    for (
      const word of [
        "download: runs",
        "tokenize: runs",
        "train[base,seed=1]: update 4",
        "report: runs",
      ]
    ) {
      await t.step(word, async () => {
        const running = sandbox.start("reproduce");
        while (!running.stderr().includes(word)) await sleep(20);
        const start = performance.now();
        running.kill("SIGINT");
        const { code, stdout, stderr } = await running.ended;
        assertEquals(code, 130, stderr);
        assertStringIncludes(stdout, "interrupted");
        assertLess((performance.now() - start) / 1000, 10);
        // The run before was interrupted while it trained.
        if (word.startsWith("report")) assertStringIncludes(stderr, ": resumed after update");
      });
    }
    const last = await sandbox.run("reproduce");
    assertEquals(last.code, 0, last.stderr);
    const changed = differences(expected, await contents(sandbox))
      .filter((name) => !name.startsWith("report report/"));
    assertEquals(changed, []);
  },
});

/** Whether this process may mount: the disk tests need a small file system. */
const CAN_MOUNT = ALL && Deno.build.os === "linux" && Deno.uid() === 0;

async function mount(folder: string, options: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const args = ["-t", "tmpfs", "-o", options, "tmpfs", folder];
  const { success } = await new Deno.Command("mount", { args }).output();
  assert(success, `mount ${args.join(" ")} failed`);
}

async function unmount(folder: string): Promise<void> {
  await new Deno.Command("umount", { args: [folder], stderr: "null" }).output();
}

Deno.test({
  name:
    "a disk that fills up in the middle of a checkpoint: one clear line, and it goes on with room",
  ignore: !CAN_MOUNT,
  fn: async () => {
    await using sandbox = await Sandbox.create();
    await mount(sandbox.store, "size=64m");
    try {
      // Room for the catalogue, the data and a part of a checkpoint.
      assertEquals((await sandbox.run("reproduce", "--only", "tokenize")).code, 0);
      const room = 300 << 10;
      const filler = join(sandbox.store, "filler");
      {
        using file = await Deno.open(filler, { write: true, create: true });
        const { stdout } = await new Deno.Command("df", {
          args: ["--output=avail", "-B1", sandbox.store],
        }).output();
        const free = Number(new TextDecoder().decode(stdout).split("\n")[1]);
        const bytes = new Uint8Array(1 << 16);
        for (let at = 0; at < free - room; at += bytes.length) await file.write(bytes);
      }
      const full = await sandbox.run("reproduce");
      assertEquals(full.code, 1, full.stderr);
      assertEquals(errors(full).length, 1, full.stderr);
      assertStringIncludes(errors(full)[0]!, "The disk is full while running train[");
      await Deno.remove(filler);
      const summary = await sandbox.json<Summary>("reproduce");
      const expected = { ...all("done"), download: "cached", tokenize: "cached" };
      assertEquals(states(summary), expected);
      assertEquals((await sandbox.run("verify")).code, 0);
    } finally {
      await unmount(sandbox.store);
    }
  },
});

Deno.test({
  name: "a results folder that is read-only: one clear line, and the report is safe in the store",
  ignore: !CAN_MOUNT,
  fn: async () => {
    await using sandbox = await Sandbox.create();
    await mount(sandbox.results, "ro");
    try {
      const { code, stdout, stderr } = await sandbox.run("reproduce");
      assertEquals(code, 1);
      assertStringIncludes(stdout, "done        report");
      const lines = stderr.split("\n").filter((line) => line.startsWith("error:"));
      assertEquals(lines.length, 1, stderr);
      assertStringIncludes(lines[0]!, `Results can't be copied to ${sandbox.results}`);
    } finally {
      await unmount(sandbox.results);
    }
    assertEquals(states(await sandbox.json<Summary>("reproduce")), all("cached"));
    assert((await Deno.stat(join(sandbox.results, "report.html"))).isFile);
  },
});

Deno.test("the minimal configuration is what the checks expect", async () => {
  await using sandbox = await Sandbox.create(MINIMAL_CONFIG);
  const { nodes } = await sandbox.json<{ nodes: { node: string }[] }>("dag");
  assertEquals(nodes.map(({ node }) => node).sort(), NODES.toSorted());
});

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
