/** The key of each stage of Sparse Expansion covers its code: what reads a model has no code of what finds one. */

import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { buildGraph } from "../../pipeline/graph/graph.ts";
import { readNodeCode } from "../../pipeline/run/plan.ts";
import { ROOT } from "../reproduce_testing.ts";
import { loadSparseExpansion } from "./load.ts";

const config = join(ROOT, "configs/testing/sparse_expansion_offline.yaml");
const { nodes, results } = await loadSparseExpansion({ config, set: [] });
const graph = buildGraph(nodes, results);
const code = await readNodeCode(graph, ROOT);

const STAGES = ["calibrate", "expand", "perplexity", "publish", "report"];

/** Those of {@linkcode STAGES} whose closure has a file that matches. */
function stagesWith(pattern: RegExp): string[] {
  return STAGES.filter((name) =>
    [...code].some(([node, { files }]) =>
      node.stage.name === name && Object.keys(files).some((file) => pattern.test(file))
    )
  );
}

Deno.test("each stage's closure holds what it runs, and no other stage's code", () => {
  const cases: readonly (readonly [RegExp, readonly string[]])[] = [
    [/^stages\/calibrate\/(calibrate|texts|windows)\.ts$/, ["calibrate"]],
    [/^stages\/download\/sources\/(embedded|files|hub\/hub)\.ts$/, ["calibrate"]],
    [/^stages\/expand\/expand\.ts$/, ["expand"]],
    [/^model\/sparse\/(folder|entanglement\/neurons)\.ts$/, ["expand"]],
    [/^model\/sparse\/files\/checkpoint\.ts$/, ["perplexity"]],
    [/^model\/inference\/evaluator\.ts$/, ["perplexity"]],
    [/^model\/pretrained\/export\.ts$/, ["publish"]],
    [/^stages\/expansion_report\//, ["report"]],
    [/^shaders\/compressed\//, ["expand", "perplexity"]],
    [/^stages\/pretrained\/fetch\.ts$/, []],
    [/^pipeline\/(?!stage\.ts$)/, []],
    [/^stages\/(main|experiment\/.*|commands\/.*|sparse_expansion\/.*)\.ts$/, []],
    [/(_test|_bench|testing)\.ts$|\/reference\/|\/golden/, []],
  ];
  for (const [pattern, expected] of cases) {
    assertEquals(stagesWith(pattern), expected, String(pattern));
  }
});

Deno.test("the code of the kinds that a published model is made of is in the keys of those that load it", () => {
  for (const [node, { files }] of code) {
    const loads = ["expand", "perplexity", "publish"].includes(node.stage.name);
    if (!loads) continue;
    for (const kind of ["attention/mha", "ffn/dense"]) {
      assert(`model/${kind}/kind.ts` in files, `${node.name} leaves out ${kind}`);
    }
  }
});
