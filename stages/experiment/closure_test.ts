/** What the key of each real stage covers: an edit runs again what it may change, and nothing else. */

import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { type CodeClosure, readDynamicImports } from "../../pipeline/graph/code.ts";
import { buildGraph, type Graph, type GraphNode } from "../../pipeline/graph/graph.ts";
import { nodeKey } from "../../pipeline/graph/key.ts";
import { codeRoots, Planner, readNodeCode } from "../../pipeline/run/plan.ts";
import {
  type NodeRecord,
  outputsDigest,
  type PublishedOutput,
} from "../../pipeline/store/records.ts";
import { Store } from "../../pipeline/store/store.ts";
import { loadExperiment } from "./load.ts";
import { PARTS } from "./parts.ts";
import { MINIMAL_CONFIG, ROOT } from "../reproduce_testing.ts";

type Code = ReadonlyMap<GraphNode, CodeClosure>;

const STAGES = Object.values(PARTS.stages);
const { nodes, results } = await loadExperiment(
  { config: join(ROOT, MINIMAL_CONFIG), set: [] },
  PARTS,
);
const graph = buildGraph(nodes, results);
const code: Code = await readNodeCode(graph, ROOT);

/** Files in the code of all nodes of a stage. */
function filesOf(stage: string): string[] {
  const closures = [...code].filter(([node]) => node.stage.name === stage);
  return closures.flatMap(([, { files }]) => Object.keys(files));
}

/** Stages whose closure has a file that matches. */
function stagesWith(pattern: RegExp): string[] {
  return STAGES.map(({ name }) => name)
    .filter((name) => filesOf(name).some((file) => pattern.test(file))).sort();
}

const GPU = ["benchmark", "evaluate", "train"];

Deno.test("each stage's closure holds what it runs, and no other stage's code", () => {
  const cases: [RegExp, string[]][] = [
    [/^stages\/report\//, ["report"]],
    [/^stages\/download\/sources\/(c4|hub|embedded|files)\.ts$/, ["download"]],
    [/^stages\/tokenize\/worker\.ts$/, ["tokenize"]],
    [/^stages\/ablate\/statistics\.ts$/, ["ablate", "report"]],
    [/^shaders\//, GPU],
    [/^model\/(gpu|ops|layer|attention|ffn)\//, GPU],
    [/^model\/training\/training\.ts$/, ["train"]],
    // The benchmark times whole steps and the generation of text.
    [/^model\/training\/(trainer|sampler|schedule)\.ts$/, ["benchmark", "train"]],
    [/^model\/(inference\/generator|bench\/[a-z]+_suite)\.ts$/, ["benchmark"]],
    [/^model\/inference\/evaluator\.ts$/, GPU],
    // Of the engine only the contract; nothing of the command line and the configuration.
    [/^pipeline\/(?!stage\.ts$)/, []],
    [/^stages\/(main|experiment\/.*|commands\/.*)\.ts$/, []],
    [/(_test|_bench|testing)\.ts$|\/reference\/|\/golden/, []],
  ];
  for (const [pattern, expected] of cases) assertEquals(stagesWith(pattern), expected);
  for (const stage of STAGES) {
    const own = filesOf(stage.name);
    const others = STAGES.filter(({ name }) => name !== stage.name)
      .filter(({ name }) => own.includes(`stages/${name}/${name}.ts`));
    assertEquals(others.map(({ name }) => name), [], `in the closure of ${stage.name}`);
    assert(own.includes(`stages/${stage.name}/${stage.name}.ts`));
  }
});

Deno.test("every shader is part of a key", async () => {
  const covered = new Set(STAGES.flatMap(({ name }) => filesOf(name)));
  const missing: string[] = [];
  for await (const group of Deno.readDir(join(ROOT, "shaders"))) {
    for await (const { name } of Deno.readDir(join(ROOT, "shaders", group.name))) {
      if (!covered.has(`shaders/${group.name}/${name}`)) missing.push(name);
    }
  }
  assertEquals(missing, []);
});

Deno.test("only a registry imports local modules dynamically, so that every node names what it loads", async () => {
  const roots = graph.nodes.flatMap(codeRoots);
  const dynamic = await readDynamicImports(roots, { root: ROOT });
  assertEquals(dynamic.filter(({ from }) => !from.endsWith("/registry.ts")), []);
  // The module graph doesn't show an import of an expression, which no registry needs.
  const hidden: string[] = [];
  for (const file of new Set(STAGES.flatMap(({ name }) => filesOf(name)))) {
    const text = file.endsWith(".ts") ? await Deno.readTextFile(join(ROOT, file)) : "";
    if (/\bimport\(\s*[^\s"')]/.test(text)) hidden.push(file);
  }
  assertEquals(hidden, []);
});

/** The closures as they would be after an edit of one file. */
function edited(code: Code, path: string): Code {
  return new Map([...code].map(([node, closure]) => {
    if (!(path in closure.files)) return [node, closure];
    const files = { ...closure.files, [path]: "0".repeat(64) };
    return [node, { ...closure, files, digest: `${closure.digest.slice(1)}0` }];
  }));
}

/** Publishes every node of a graph without running it: the plan asks only what was published. */
async function publishAll(graph: Graph, store: Store, code: Code): Promise<void> {
  const planner = new Planner(store, code);
  const records = new Map<GraphNode, NodeRecord>();
  for (const node of graph.nodes) {
    const components = planner.components(node, records);
    const outputs: Record<string, PublishedOutput> = { made: { kind: "json", value: node.name } };
    const now = new Date().toISOString();
    const record: NodeRecord = {
      format: 1,
      key: nodeKey(components),
      node: node.name,
      stage: node.stage.name,
      resource: "cpu",
      labels: node.labels,
      components,
      outputs,
      digest: outputsDigest(outputs, undefined),
      ...node.stage.readsMeasured &&
        { readings: Object.fromEntries(node.dependencies.map(({ name }) => [name, ""])) },
      provenance: { run: "test", started_at: now, finished_at: now, seconds: 0 },
    };
    await store.publish({ record, metrics: [], objects: [] });
    records.set(node, record);
  }
  await store.flush();
}

Deno.test("an edit of a file makes stale what depends on it, and the plan names the file", async (t) => {
  const dir = await Deno.makeTempDir();
  const store = await Store.open(join(dir, "store"), { command: "test", create: true });
  try {
    await publishAll(graph, store, code);
    const plan = async (path: string) => {
      const planned = await new Planner(store, edited(code, path)).plan(graph);
      const stages = (state: string) =>
        [...new Set(planned.filter((p) => p.state === state).map((p) => p.node.stage.name))].sort();
      for (const { state, reasons } of planned) {
        if (state === "stale") assertEquals(reasons[0], `code: ${path} changed`);
      }
      assertEquals(stages("new").concat(stages("damaged")), []);
      return { stale: stages("stale"), waiting: stages("waiting") };
    };
    const cases: Record<string, { stale: string[]; waiting: string[] }> = {
      "stages/report/html.ts": { stale: ["report"], waiting: [] },
      "stages/report/figures/style.ts": { stale: ["report"], waiting: [] },
      "stages/ablate/ablate.ts": { stale: ["ablate"], waiting: ["report"] },
      "stages/evaluate/evaluate.ts": { stale: ["evaluate"], waiting: ["ablate", "report"] },
      "model/training/training.ts": { stale: ["train"], waiting: ["ablate", "evaluate", "report"] },
      "shaders/gemm/gemm_tiled.wgsl": { stale: GPU, waiting: ["ablate", "report"] },
      "stages/tokenize/worker.ts": {
        stale: ["tokenize"],
        waiting: ["ablate", ...GPU, "report"].sort(),
      },
      "pipeline/run/scheduler.ts": { stale: [], waiting: [] },
      "stages/experiment/cells.ts": { stale: [], waiting: [] },
      "README.md": { stale: [], waiting: [] },
    };
    for (const [path, expected] of Object.entries(cases)) {
      await t.step(path, async () => assertEquals(await plan(path), expected));
    }
  } finally {
    await store.close();
    await Deno.remove(dir, { recursive: true });
  }
});
