/** Sparse Expansion at its smallest as a user runs it: once, then cached, and what an edit of a parameter makes stale. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { basename, join } from "@std/path";
import { moduleUrl, readCode } from "../../pipeline/graph/code.ts";
import { modulesThatRan } from "../../pipeline/testing.ts";
import { ROOT, Sandbox, type Summary } from "../reproduce_testing.ts";

const CONFIG = "configs/testing/sparse_expansion_offline.yaml";

/** Hardly any size. */
const SMALL = [
  "model.made.num_layers=1",
  "model.made.max_bytes=200000",
  "model.made.train.steps=12",
  "model.made.train.learning_rate.warmup_steps=2",
  "calibration.samples=8",
  "evaluation.windows=4",
  "grid.sparsities=[0.9]",
  "grid.clusters=[2]",
  "grid.controls=[rows]",
].flatMap((item) => ["--set", item]);

/** States of the nodes by stage. */
function states({ nodes }: Summary): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const { node, state } of nodes) (found[node.replace(/\[.*/, "")] ??= []).push(state);
  return found;
}

const STAGES = {
  download: 1,
  tokenize: 1,
  train: 1,
  publish: 1,
  calibrate: 1,
  expand: 3,
  perplexity: 4,
  report: 1,
};
const all = (state: string) =>
  Object.fromEntries(Object.entries(STAGES).map(([name, n]) => [name, Array(n).fill(state)]));

Deno.test("the experiment of Sparse Expansion: once, then cached, then with another cell", async (t) => {
  await using sandbox = await Sandbox.create(CONFIG);
  const coverage = join(Deno.env.get("DENO_COVERAGE_DIR") ?? sandbox.dir, basename(sandbox.dir));
  sandbox.env["DENO_COVERAGE_DIR"] = coverage;
  const first = await sandbox.json<Summary>("reproduce", ...SMALL);
  delete sandbox.env["DENO_COVERAGE_DIR"];
  assertEquals(states(first), all("done"));
  const report = await Deno.readTextFile(join(sandbox.results, "report.md"));
  assertStringIncludes(report, "2 clusters");

  await t.step("every module that ran is in a key, or only reads the configuration", async () => {
    const records = await sandbox.records();
    const keyed = records.flatMap(({ components }) => Object.keys(components.code.files));
    const roots = [
      "stages/main.ts",
      "stages/experiment/kinds.ts",
      "stages/sparse_expansion/load.ts",
    ];
    const reading = await readCode(
      new Map([["", roots.map((path) => moduleUrl(join(ROOT, path)))]]),
      { root: ROOT },
    );
    // The loader imports every stage, so of what it reaches only the command line's own modules are excused.
    const own =
      /^types\/|^stages\/(main|experiment\/|commands\/|workers\/|sparse_expansion\/|ablate\/config)|\/config\.ts$/;
    const excused = Object.keys(reading.get("")!.files).filter((path) => own.test(path));
    const known = new Set([...keyed, ...excused]);
    const ran = await modulesThatRan(coverage, ROOT);
    assert(
      ran.includes("stages/expand/expand.ts") && ran.includes("model/sparse/routing/kmeans.ts"),
    );
    const engine = (path: string) => path.startsWith("pipeline/") || path.endsWith("/registry.ts");
    // Reached by the stage `pretrained` alone, which a made model has no node of.
    const absent = /^stages\/pretrained\/(pretrained|locate|fetch|cache)\.ts$/;
    assertEquals(
      ran.filter((path) => !known.has(path) && !engine(path) && !absent.test(path)),
      [],
    );
  });

  await t.step("nothing to do; status, why and dag know it", async () => {
    assertEquals(states(await sandbox.json<Summary>("reproduce", ...SMALL)), all("cached"));
    const status = await sandbox.run("status", ...SMALL);
    assertStringIncludes(status.stdout, "13 of 13 nodes are cached.");
    const node = "expand[sparsity=0.9,clusters=2]";
    const why = await sandbox.run("why", node, ...SMALL);
    assertStringIncludes(why.stdout, `${node} is cached.`);
    const dag = await sandbox.run("dag", ...SMALL);
    assertStringIncludes(dag.stdout, "perplexity[dense]");
  });

  await t.step("another cell expands alone, and a plan says so before", async () => {
    const more = [...SMALL, "--set", "grid.clusters=[2, 3]", "--set", "grid.controls=[]"];
    const plan = await sandbox.run("reproduce", "--dry-run", ...more);
    assertStringIncludes(plan.stdout, "new      expand[sparsity=0.9,clusters=3]");
    const summary = await sandbox.json<Summary>("reproduce", ...more);
    const done = summary.nodes.filter(({ state }) => state === "done").map(({ node }) => node);
    assertEquals(done, [
      "expand[sparsity=0.9,clusters=3]",
      "perplexity[sparsity=0.9,clusters=3]",
      "report",
    ]);
  });
});
