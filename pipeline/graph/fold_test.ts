import { assertEquals } from "@std/assert";
import { foldNames, foldNodes, type NodeLine } from "./fold.ts";

const line = (node: string, state: string, note = ""): NodeLine => (
  { node, stage: node.replace(/\[.*/, ""), state, note }
);
const cells = (n: number) => Array.from({ length: n }, (_, i) => `train[d=${i},seed=1]`);

Deno.test("foldNodes: a few are listed, many are counted, exceptions stay visible", () => {
  const few = cells(4).map((name) => line(name, "cached"));
  assertEquals(foldNodes(few), few);
  const many = cells(7).map((name, i) => line(name, i === 3 ? "failed" : "cached"));
  assertEquals(foldNodes([line("download", "cached"), ...many]).map((l) => [l.node, l.state]), [
    ["download", "cached"],
    ["train (6 nodes)", "cached"],
    ["train[d=3,seed=1]", "failed"],
  ]);
});

Deno.test("foldNodes: notes that differ only in the nodes waited for are the same", () => {
  const lines = cells(5).map((name, i) => (
    { ...line(`evaluate[${i}]`, "new", `never ran; waits for ${name}, tokenize`) }
  ));
  assertEquals(foldNodes(lines).map(({ node, note }) => [node, note]), [
    ["evaluate (5 nodes)", "never ran; waits for train, tokenize"],
  ]);
  const reader = line("ablate", "new", `never ran; waits for ${cells(9).join(", ")}, tokenize`);
  assertEquals(foldNodes([reader])[0]!.note, "never ran; waits for train (9 nodes), tokenize");
});

Deno.test("foldNames: counts what is many", () => {
  assertEquals(foldNames(["a", ...cells(5)]), ["a", "train (5 nodes)"]);
});

Deno.test("foldNodes() shows the first of many reasons, and what is waited for", () => {
  const note = Array.from({ length: 9 }, (_, i) => `code: file${i}.ts changed`).join("; ");
  const [line] = foldNodes([
    { node: "ablate", stage: "ablate", state: "stale", note: `${note}; waits for train` },
  ]);
  assertEquals(
    line!.note,
    `${note.split("; ").slice(0, 5).join("; ")}; 4 more reasons (see why); waits for train`,
  );
});
