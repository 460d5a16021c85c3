/** The key of each real stage covers its code: an edit runs again the stages that it may change, and no others. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import {
  type CodeClosure,
  moduleUrl,
  readCode,
  readDynamicImports,
} from "../../pipeline/graph/code.ts";
import { buildGraph, type Graph, type GraphNode } from "../../pipeline/graph/graph.ts";
import { nodeKey } from "../../pipeline/graph/key.ts";
import { codeRoots, Planner, readNodeCode } from "../../pipeline/run/plan.ts";
import {
  type NodeRecord,
  outputsDigest,
  type PublishedOutput,
} from "../../pipeline/store/records/records.ts";
import { Store } from "../../pipeline/store/store.ts";
import { ATTENTION } from "../../model/attention/registry.ts";
import { FFN } from "../../model/ffn/registry.ts";
import { loadExperiment } from "./load.ts";
import { PARTS } from "./parts.ts";
import { MINIMAL_CONFIG, ROOT } from "../reproduce_testing.ts";
import { STAGES as SPARSE } from "../sparse_expansion/parts.ts";

type Code = ReadonlyMap<GraphNode, CodeClosure>;

const STAGES = Object.values(PARTS.stages);

/** The graph of the minimal experiment with other values. */
async function graphOf(...set: string[]): Promise<Graph> {
  const request = { config: join(ROOT, MINIMAL_CONFIG), set };
  const { nodes, results } = await loadExperiment(request, PARTS);
  return buildGraph(nodes, results);
}

const graph = await graphOf();
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
/** Stages that load the kinds of a model; the report only counts. */
const KINDS = [...GPU, "report"].sort();

Deno.test("each stage's closure holds what it runs, and no other stage's code", () => {
  const cases: [RegExp, string[]][] = [
    [/^stages\/report\//, ["report"]],
    [/^stages\/download\/sources\/(hub\/shards|hub\/hub|embedded|files)\.ts$/, ["download"]],
    [/^stages\/tokenize\/worker\.ts$/, ["tokenize"]],
    [/^stages\/ablate\/statistics\.ts$/, ["ablate", "report"]],
    [/^shaders\//, KINDS],
    [/^model\/(gpu|ops|layer|attention|ffn)\//, KINDS],
    [/^model\/training\/training\.ts$/, ["train"]],
    // A training may be shared by several processes: their program is part of its code.
    [/^(model\/training\/mpi\/mpi_ranks|stages\/train\/ranks\/rank)\.ts$/, ["train"]],
    // The benchmark times whole steps and the generation of text.
    [/^model\/training\/(trainer|sampler|schedule)\.ts$/, ["benchmark", "train"]],
    [/^model\/(inference\/generator|bench\/suites\/[a-z]+_suite)\.ts$/, ["benchmark"]],
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

/** Shaders of commands, which no node runs: `experts` and `evaluate` leave experts out. */
const OF_COMMANDS = ["experts_without.wgsl"];

Deno.test("every shader is part of a key, but for those of commands", async () => {
  // A node of another model names the modules of its kinds.
  const kinds = new Map(
    Object.values({ ...ATTENTION, ...FFN }).map(({ module }) => [module, [module]]),
  );
  const ofKinds = [...(await readCode(kinds, { root: ROOT })).values()];
  const expansion = new Map(Object.entries(SPARSE).map(([name, { module }]) => [name, [module]]));
  ofKinds.push(...(await readCode(expansion, { root: ROOT })).values());
  const covered = new Set([
    ...STAGES.flatMap(({ name }) => filesOf(name)),
    ...ofKinds.flatMap(({ files }) => Object.keys(files)),
  ]);
  const missing: string[] = [];
  for await (const group of Deno.readDir(join(ROOT, "shaders"))) {
    for await (const { name } of Deno.readDir(join(ROOT, "shaders", group.name))) {
      if (!covered.has(`shaders/${group.name}/${name}`)) missing.push(name);
    }
  }
  assertEquals(missing.sort(), OF_COMMANDS);
});

Deno.test("only a registry imports local modules dynamically, so that every node names what it loads", async () => {
  const roots = graph.nodes.flatMap(codeRoots);
  const dynamic = await readDynamicImports(roots, { root: ROOT });
  assertEquals(dynamic.filter(({ from }) => !from.endsWith("/registry.ts")), []);
  // No key covers a registry, so it holds nothing but its table.
  const registries = new Set(dynamic.map(({ from }) => from));
  assertEquals([...registries].sort(), [
    "model/attention/registry.ts",
    "model/ffn/registry.ts",
    "stages/train/registry.ts",
  ]);
  const table =
    /^\s*export const [A-Z]+ = \{(\s*\w+: \{\s*module: import\.meta\.resolve\((".*?")\),\s*load: \(\) => import\(\2\),?\s*\},)+\s*\} as const;\s*$/;
  for (const file of registries) {
    const text = await Deno.readTextFile(join(ROOT, file));
    assertMatch(text.replaceAll(/\/\*[^]*?\*\//g, ""), table, file);
  }
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

/** Publishes every node of a graph without running it: the plan looks only at published nodes. */
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
      "stages/report/pdf/paper.typ": { stale: ["report"], waiting: [] },
      "stages/report/figures/style.ts": { stale: ["report"], waiting: [] },
      "stages/ablate/ablate.ts": { stale: ["ablate"], waiting: ["report"] },
      "stages/evaluate/evaluate.ts": { stale: ["evaluate"], waiting: ["ablate", "report"] },
      "model/training/training.ts": { stale: ["train"], waiting: ["ablate", "evaluate", "report"] },
      "shaders/gemm/gemm_tiled.wgsl": { stale: KINDS, waiting: ["ablate"] },
      // The leading layers of the minimal model are dense.
      "model/ffn/dense/swiglu.ts": { stale: KINDS, waiting: ["ablate"] },
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

/** Copies the modules and texts below a folder. */
async function copyCode(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyCode(join(from, name), join(to, name));
    else if (/\.(ts|wgsl|json|js|css|typ)$/.test(name)) {
      await Deno.copyFile(join(from, name), join(to, name));
    }
  }
}

Deno.test("an edit of a kind's code or shader makes stale only the nodes that run it", async (t) => {
  const dense = "{value: dense, equal_active_parameters: true}";
  const graph = await graphOf(
    "model.leading_dense.num_layers=0",
    `ablations=[{name: architecture, variants: [{value: ethos}, ${dense}]}]`,
  );
  const dir = await Deno.realPath(await Deno.makeTempDir());
  const copy = join(dir, "project");
  for (const folder of ["model", "pipeline", "shaders", "stages", "types"]) {
    await copyCode(join(ROOT, folder), join(copy, folder));
  }
  for (const file of ["deno.json", "deno.lock"]) {
    await Deno.copyFile(join(ROOT, file), join(copy, file));
  }
  await Deno.symlink(join(ROOT, "node_modules"), join(copy, "node_modules"), { type: "dir" });
  const moved = (url: string) => url.replace(moduleUrl(ROOT), moduleUrl(copy));
  const read = () =>
    readCode(new Map(graph.nodes.map((node) => [node, codeRoots(node).map(moved)])), {
      root: copy,
    });
  const code = await read();
  assertEquals(code, await readNodeCode(graph, ROOT));
  const store = await Store.open(join(dir, "store"), { command: "test", create: true });
  try {
    await publishAll(graph, store, code);
    const ethos = ["train[base,seed=1]", "evaluate[base,seed=1]", "benchmark"];
    const other = ["train[architecture=dense,seed=1]", "evaluate[architecture=dense,seed=1]"];
    // The report counts the paper's model, which has both.
    const cases: Record<string, readonly string[]> = {
      "shaders/experts/experts_fused.wgsl": [...ethos, "report"],
      "shaders/routing/routing_softmax_backward.wgsl": [...ethos, "report"],
      "model/ffn/ethos/kind.ts": [...ethos, "report"],
      "model/ffn/product_key/router.ts": [...ethos, "report"],
      "shaders/elementwise/swiglu_forward.wgsl": [...other, "report"],
      "model/ffn/dense/kind.ts": [...other, "report"],
      "shaders/decoding/latent_attention.wgsl": [...ethos, ...other, "report"],
      "model/attention/mla/mla.ts": [...ethos, ...other, "report"],
      "model/ffn/registry.ts": [],
    };
    for (const [path, expected] of Object.entries(cases)) {
      await t.step(path, async () => {
        const text = await Deno.readTextFile(join(copy, path));
        await Deno.writeTextFile(join(copy, path), `${text}\n// An edit.\n`);
        const planned = await new Planner(store, await read()).plan(graph);
        await Deno.writeTextFile(join(copy, path), text);
        const stale = planned.filter(({ state }) => state === "stale");
        assertEquals(stale.map(({ node }) => node.name).sort(), expected.toSorted());
        for (const { reasons } of stale) assertEquals(reasons[0], `code: ${path} changed`);
      });
    }
  } finally {
    await store.close();
    await Deno.remove(dir, { recursive: true });
  }
});
