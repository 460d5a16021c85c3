import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import type { Program } from "../../pipeline/command.ts";
import { runCommandLine } from "../../pipeline/command_line.ts";
import { MINIMAL, TEST_STAGES, testParts } from "./config_testing.ts";
import { loadExperiment } from "./load.ts";
import { MALFORMED } from "./malformed/all_testing.ts";
import { writeMalformed } from "./malformed/malformed_testing.ts";

const parts = { ...testParts, stages: TEST_STAGES };

/** Runs a command line in this process and catches its output. */
async function commandLine(args: readonly string[], root: string) {
  const program: Program = {
    name: "test",
    description: "A test.",
    root,
    defaultConfig: join(root, "missing.yaml"),
    loadExperiment: (request) => loadExperiment(request, parts),
  };
  const printed = { stdout: "", stderr: "" };
  const restore = (["stdout", "stderr"] as const).map((name) => {
    const stream = Deno[name];
    const original = stream.writeSync;
    stream.writeSync = (data: Uint8Array) => {
      printed[name] += new TextDecoder().decode(data);
      return data.length;
    };
    return () => void (stream.writeSync = original);
  });
  try {
    const code = await runCommandLine(args, program);
    return { code, ...printed };
  } finally {
    for (const undo of restore) undo();
  }
}

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const namesIn = async (folder: string) =>
  (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();

Deno.test("a malformed configuration ends with exit code 2, and nothing is written", async (t) => {
  for (const malformed of MALFORMED) {
    await t.step(malformed.what, () =>
      inFolder(async (folder) => {
        const path = await writeMalformed(malformed, folder);
        const before = await namesIn(folder);
        const { code, stdout, stderr } = await commandLine([
          "reproduce",
          "--config",
          path,
          "--store",
          join(folder, "store"),
          ...(malformed.set ?? []).flatMap((item) => ["--set", item]),
        ], folder);
        assertEquals(code, 2, stderr);
        for (const part of malformed.says) assertStringIncludes(stderr, part);
        assertEquals(stdout, "");
        assertEquals(await namesIn(folder), before);
      }));
  }
});

Deno.test("--seed is the key seed, said last", async () => {
  await inFolder(async (folder) => {
    const config = join(folder, "a.yaml");
    await Deno.writeTextFile(config, MINIMAL);
    const { nodes, configuration, configPath } = await loadExperiment(
      { config, set: ["seed=3", "seeds=[1]"], seed: 7 },
      parts,
    );
    assertEquals((configuration as { seed: number }).seed, 7);
    assertEquals(configPath, config);
    assert(nodes.some(({ label }) => label === "base,seed=8"));
  });
});

Deno.test("what only the disk knows of the data becomes part of the download's parameters", async () => {
  await inFolder(async (folder) => {
    const config = join(folder, "a.yaml");
    await Deno.writeTextFile(config, MINIMAL);
    const { nodes } = await loadExperiment({ config, set: [] }, {
      ...parts,
      prepareData: (data) => Promise.resolve({ ...data as object, fingerprint: "abc" }),
    });
    const download = nodes.find(({ stage }) => stage.name === "download");
    assertEquals(download?.params, { source: "embedded", fingerprint: "abc" });
  });
});

Deno.test("--set may be repeated, and every one counts; --config may not", async () => {
  await inFolder(async (folder) => {
    const config = join(folder, "a.yaml");
    await Deno.writeTextFile(config, MINIMAL);
    const args = ["reproduce", "--config", config, "--set", "modle.x=1", "--set", "seed=y"];
    const bad = await commandLine(args, folder);
    assertEquals(bad.code, 2);
    assertStringIncludes(bad.stderr, "--set modle.x=1: modle: unknown key; did you mean model?");
    assertStringIncludes(bad.stderr, "--set seed=y: seed: expected a whole number");

    const twice = await commandLine(["reproduce", "--config", config, "--config", config], folder);
    assertEquals(twice.code, 2);
    assertStringIncludes(twice.stderr, "--config is given 2 times; expected it once");
  });
});
