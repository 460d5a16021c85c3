import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { z } from "zod";
import { renderMermaid, renderSvg, renderText } from "./dag_render.ts";
import { UserError } from "../errors.ts";
import { buildGraph } from "./graph.ts";
import type { NodeSpec, Stage } from "../stage.ts";

function stage(name: string, outputs: Stage["outputs"] = { out: "file" }): Stage<{ n: number }> {
  return {
    name,
    description: `Does <${name}>.`,
    module: import.meta.url,
    params: z.strictObject({ n: z.number().default(1) }),
    outputs,
    run: () => Promise.resolve(),
  };
}

const a: NodeSpec = { stage: stage("a"), params: {} };
const b1: NodeSpec = { stage: stage("b"), label: "x=1", params: {}, inputs: { from: [a] } };
const b2: NodeSpec = { stage: stage("b"), label: "x=2", params: {}, inputs: { from: [a] } };
const c: NodeSpec = { stage: stage("c"), params: { n: 2 }, inputs: { all: [b2, b1], a: [a] } };

Deno.test("buildGraph() orders nodes after what they read, by name", () => {
  const graph = buildGraph([c, b1]);
  assertEquals(graph.nodes.map((node) => node.name), ["a", "b[x=2]", "b[x=1]", "c"]);
  assertEquals(graph.get("c").dependencies.map((node) => node.name), ["b[x=2]", "b[x=1]", "a"]);
  assertEquals(graph.get("a").params, { n: 1 });
  assertEquals(graph.dependents(graph.get("a")).map((n) => n.name), ["b[x=2]", "b[x=1]", "c"]);
});

Deno.test("buildGraph() refuses two nodes of one name", () => {
  const twin: NodeSpec = { stage: stage("b"), label: "x=1", params: { n: 3 } };
  const error = assertThrows(() => buildGraph([b1, twin]), UserError);
  assertStringIncludes(error.message, "Two nodes are named `b[x=1]`");
});

Deno.test("buildGraph() refuses a cycle and shows it", () => {
  const inputs: Record<string, NodeSpec[]> = {};
  const p: NodeSpec = { stage: stage("p"), params: {}, inputs };
  const q: NodeSpec = { stage: stage("q"), params: {}, inputs: { p: [p] } };
  inputs["q"] = [q];
  const error = assertThrows(() => buildGraph([q]), UserError);
  assertStringIncludes(error.message, "q → p → q");
});

Deno.test("buildGraph() refuses parameters that the stage refuses, and says where", () => {
  const error = assertThrows(
    () => buildGraph([{ stage: stage("a"), params: { n: "x", typo: 1 } }]),
    UserError,
  );
  assertStringIncludes(error.message, "Parameters of node `a`");
  assertStringIncludes(error.message, "params.n");
});

Deno.test("buildGraph() refuses results that are not there, with a suggestion", () => {
  const node: NodeSpec = {
    stage: stage("r", { report: "directory", info: "json", times: "measured" }),
    params: {},
  };
  const unknown = assertThrows(
    () => buildGraph([node], [{ node, output: "reprot", to: "x" }]),
    UserError,
  );
  assertStringIncludes(unknown.message, "no output `reprot`. Did you mean `report`?");
  for (const output of ["info", "times"]) {
    const error = assertThrows(() => buildGraph([], [{ node, output, to: "x" }]), UserError);
    assertStringIncludes(error.message, "is JSON");
  }
});

Deno.test("Graph.select() takes stages and nodes, and suggests", () => {
  const graph = buildGraph([c]);
  assertEquals(graph.select("b").length, 2);
  assertEquals(graph.select("b[x=1]").length, 1);
  const error = assertThrows(() => graph.select("bb"), UserError);
  assertStringIncludes(error.message, "Did you mean `b`?");
});

Deno.test("Graph.restrict() keeps what the targets need", () => {
  const graph = buildGraph([c]);
  const part = graph.restrict([graph.get("b[x=1]")]);
  assertEquals(part.nodes.map((node) => node.name), ["a", "b[x=1]"]);
});

Deno.test("pictures of a graph name every node and edge", () => {
  const graph = buildGraph([c]);
  assertEquals(
    renderText(graph),
    "a\nb[x=2]  ←  from: a\nb[x=1]  ←  from: a\nc  ←  all: b[x=2], b[x=1]; a: a",
  );
  const mermaid = renderMermaid(graph);
  assertStringIncludes(mermaid, 'n1["b[x=2]"]');
  assertStringIncludes(mermaid, "n0 --> n1");
  const svg = renderSvg(graph);
  assertEquals(svg.match(/<rect /g)?.length, 4);
  assertEquals(svg.match(/class="edge"/g)?.length, 5);
  assertStringIncludes(svg, "<title>Does &lt;a&gt;.</title>");
  assertEquals(svg, renderSvg(buildGraph([c])));
});
