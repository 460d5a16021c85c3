/** From a configuration of Sparse Expansion to its cells and nodes. */

import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import type { JsonValue, NodeSpec } from "../../pipeline/stage.ts";
import { cellLabelsSchema } from "../perplexity/result.ts";
import { ROOT } from "../reproduce_testing.ts";
import { expansionCells } from "./cells.ts";
import { sparseExpansionSchema } from "./config.ts";
import { sparseExpansion } from "./experiment.ts";
import { loadSparseExpansion } from "./load.ts";
import { STAGES } from "./parts.ts";

/** A configuration with other sections. */
const configured = (sections: Record<string, JsonValue> = {}) =>
  sparseExpansionSchema.parse({
    name: "test",
    experiment: "sparse_expansion",
    model: { name: "someone/model" },
    ...sections,
  });

const names = (sections: Record<string, JsonValue>) =>
  expansionCells(configured(sections)).map(({ name }) => name);

Deno.test("one cell unless a grid asks for more, with the published options", () => {
  const [cell, ...more] = expansionCells(configured());
  assertEquals(more, []);
  assertEquals(cell, {
    name: "sparsity=0.5,clusters=16",
    sparsity: 0.5,
    clusters: 16,
    expansion: { clusters: 16, pca_factor: 32, restarts: 10, max_iterations: 300 },
    pruning: { sparsity: 0.5, symmetric: false, block: 128, damping: 0.01 },
    labels: {
      cell: "sparsity=0.5,clusters=16",
      dense: false,
      sparsity: 0.5,
      pattern: null,
      bits: null,
      clusters: 16,
      method: "sparsegpt",
      control: null,
      of: null,
    },
  });
});

Deno.test("a grid has each cell once: magnitude has no clusters, and a control none without them", () => {
  const grid = {
    sparsities: [0.9, "2:4"],
    clusters: [1, 4],
    methods: ["sparsegpt", "magnitude"],
    controls: ["rows", "random", "matched"],
  };
  assertEquals(names({ grid }), [
    "sparsity=0.9,clusters=1",
    "sparsity=0.9,clusters=4",
    "sparsity=0.9,clusters=4,control=rows",
    "sparsity=0.9,clusters=4,control=random",
    "sparsity=0.9,clusters=4,control=matched",
    "sparsity=0.9,clusters=1,method=magnitude",
    "sparsity=2:4,clusters=1",
    "sparsity=2:4,clusters=4",
    "sparsity=2:4,clusters=4,control=rows",
    "sparsity=2:4,clusters=4,control=random",
    // Four experts of 2:4 keep twice the dense weights: one that keeps as many is the dense layer.
    "sparsity=2:4,clusters=1,method=magnitude",
  ]);
  const cells = expansionCells(configured({ grid }));
  const of = (name: string) => cells.find((cell) => cell.name === name)!;
  const matched = of("sparsity=0.9,clusters=4,control=matched");
  assertEquals(matched.labels.of, "sparsity=0.9,clusters=4");
  assertEquals([matched.labels.clusters, matched.expansion.clusters], [1, 1]);
  assert(Math.abs(matched.labels.sparsity! - 0.6) < 1e-12);
  const pattern = of("sparsity=2:4,clusters=4");
  assertEquals([pattern.labels.pattern, pattern.labels.sparsity], ["2:4", 0.5]);
  assertEquals(pattern.pruning.pattern, [2, 4]);
  // Of two cells with the same options each has its name, and both have one key.
  const twice = expansionCells(
    configured({ grid: { sparsities: [0.75, 0.5], clusters: [1, 2], controls: ["matched"] } }),
  );
  const [control, same] = ["sparsity=0.75,clusters=2,control=matched", "sparsity=0.5,clusters=1"]
    .map((name) => twice.find((cell) => cell.name === name)!);
  assertEquals([control!.expansion, control!.pruning], [same!.expansion, same!.pruning]);
  // Nor do expansions share a control, or a digit of float64 part what has one key.
  const thrice = expansionCells(
    configured({
      grid: { sparsities: [0.6, 0.8, 0.9, 0.95], clusters: [1, 2, 4, 8], controls: ["matched"] },
    }),
  ).filter(({ expansion, pruning }) => expansion.clusters === 1 && pruning.sparsity === 0.6);
  assertEquals(thrice.map(({ name }) => name), [
    "sparsity=0.6,clusters=1",
    "sparsity=0.8,clusters=2,control=matched",
    "sparsity=0.9,clusters=4,control=matched",
    "sparsity=0.95,clusters=8,control=matched",
  ]);
  for (const { expansion, pruning } of thrice) {
    assertEquals([expansion, pruning], [thrice[0]!.expansion, thrice[0]!.pruning]);
  }
  assertEquals(names({ pruning: { bits: 4 } }), ["sparsity=0.5,clusters=16,bits=4"]);
  assertEquals(
    expansionCells(configured({ expansion: { pca: false } }))[0]!.expansion.pca_factor,
    0,
  );
});

Deno.test("nodes read a model, its windows, and their own cell's experts", () => {
  const configuration = configured({
    seed: 7,
    calibration: { seed: 3, length: 64 },
    grid: { clusters: [1, 2] },
  });
  const { nodes, results } = sparseExpansion(configuration, {
    stages: STAGES,
    fingerprint: "f".repeat(64),
  });
  const name = ({ stage, label }: NodeSpec) => label ? `${stage.name}[${label}]` : stage.name;
  const reads = Object.fromEntries(
    nodes.map((node) => [name(node), Object.values(node.inputs ?? {}).flat().map(name)]),
  );
  const cells = ["sparsity=0.5,clusters=1", "sparsity=0.5,clusters=2"];
  assertEquals(reads, {
    pretrained: [],
    calibrate: ["pretrained"],
    ...Object.fromEntries(cells.map((cell) => [`expand[${cell}]`, ["pretrained", "calibrate"]])),
    "perplexity[dense]": ["calibrate", "pretrained"],
    ...Object.fromEntries(
      cells.map((cell) => [`perplexity[${cell}]`, ["calibrate", `expand[${cell}]`]]),
    ),
    report: [
      "pretrained",
      "calibrate",
      ...cells.map((cell) => `expand[${cell}]`),
      ...["dense", ...cells].map((cell) => `perplexity[${cell}]`),
    ],
  });
  const params = (stage: string) =>
    nodes.find((node) => node.stage.name === stage)!.params as Record<string, JsonValue>;
  assertEquals(params("pretrained").fingerprint, "f".repeat(64));
  // Windows have a seed of their own; k-means has the experiment's.
  assertEquals([params("calibrate").seed, params("expand").seed], [3, 7]);
  for (const node of nodes.filter(({ stage }) => stage.name === "perplexity")) {
    assert(cellLabelsSchema.safeParse(node.labels).success, name(node));
  }
  assertEquals(results.map(({ output, to }) => [output, to]), [
    ["report", "results/sparse_expansion"],
  ]);
});

Deno.test("a made model is trained by the stages that train any model, and then published", async () => {
  const config = join(ROOT, "configs/testing/sparse_expansion_offline.yaml");
  const { nodes } = await loadSparseExpansion({ config, set: [], seed: 4 });
  assertEquals(nodes.slice(0, 4).map(({ stage }) => stage.name), [
    "download",
    "tokenize",
    "train",
    "publish",
  ]);
  const { seed, model } = nodes[2]!.params as { seed: number; model: Record<string, JsonValue> };
  assertEquals([seed, model.d_model, model.num_layers], [4, 48, 2]);
});
