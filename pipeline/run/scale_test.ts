/** Large graphs: what the coordinator does for a node does not grow with the number of nodes. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { Catalogue } from "../store/catalogue/catalogue.ts";
import { UserError } from "../errors.ts";
import { buildGraph, type Graph } from "../graph/graph.ts";
import type { NodeSpec } from "../stage.ts";
import { Store } from "../store/store.ts";
import { Queue } from "./queue.ts";
import {
  chainGraph,
  experimentGraph,
  fakeExecutor,
  randomGraph,
  schedule,
} from "./scale_testing.ts";

/** Counts what reaches the disk and the catalogue while `work` runs. */
async function counted(work: () => Promise<void>): Promise<{ files: number; sql: number }> {
  const counts = { files: 0, sql: 0 };
  const undo: (() => void)[] = [];
  const count = <Owner extends object>(owner: Owner, name: keyof Owner, what: "files" | "sql") => {
    const original = owner[name] as (...args: unknown[]) => unknown;
    const replacement = function (this: unknown, ...args: unknown[]) {
      counts[what]++;
      return original.apply(this, args);
    };
    Object.defineProperty(owner, name, { value: replacement, configurable: true, writable: true });
    undo.push(() =>
      Object.defineProperty(owner, name, { value: original, configurable: true, writable: true })
    );
  };
  for (const name of ["readTextFile", "stat", "open", "rename", "readDir"] as const) {
    count(Deno, name, "files");
  }
  count(Catalogue.prototype, "run", "sql");
  count(Catalogue.prototype, "rows", "sql");
  try {
    await work();
  } finally {
    for (const restore of undo) restore();
  }
  return counts;
}

/** Runs half of a graph, then the rest, then finds it cached; counts each. */
async function passes(graph: Graph): Promise<{ files: number; sql: number }[]> {
  const dir = await Deno.makeTempDir({ prefix: "scale_" });
  try {
    const counts: { files: number; sql: number }[] = [];
    const runs = new Map<string, number>();
    const { nodes } = graph;
    for (const stop of [Math.floor(nodes.length / 2), Infinity, Infinity]) {
      const controller = new AbortController();
      let ran = 0;
      const work = fakeExecutor(() => 0);
      counts.push(
        await counted(async () => {
          const store = await Store.open(dir, { command: "test", create: true });
          const result = await schedule(graph, store, {
            signal: controller.signal,
            executor: async (job) => {
              if (++ran > stop) {
                controller.abort();
                throw new Error("Stopped");
              }
              runs.set(job.key, (runs.get(job.key) ?? 0) + 1);
              return await work(job);
            },
          });
          await store.close();
          const states = new Set(result.nodes.map(({ state }) => state));
          if (stop === Infinity) assert(states.isSubsetOf(new Set(["done", "cached"])));
        }),
      );
    }
    assertEquals([...runs.values()].filter((n) => n !== 1), []);
    assertEquals(runs.size, nodes.length);
    return counts;
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const SMALL = 200;
const LARGE = 800;

for (
  const [name, make] of [
    ["an experiment", (n: number) => experimentGraph((n - 4) / 2)],
    ["a random graph", (n: number) => randomGraph(n, 7)],
  ] as const
) {
  Deno.test(`${name} of ${LARGE} nodes takes four times what ${SMALL} take`, async () => {
    const small = await passes(make(SMALL));
    const large = await passes(make(LARGE));
    for (const [i, pass] of ["first half", "second half", "cached"].entries()) {
      const few = small[i]!;
      const many = large[i]!;
      const about = `${pass}: ${JSON.stringify(few)}, ${JSON.stringify(many)}`;
      // A node costs at least one look at its manifest, and a few dozen operations are the store's own.
      assert(few.files >= SMALL / 2, about);
      assert(many.files <= 4.4 * few.files, about);
      assert(many.files <= 16 * LARGE, about);
      // Statements go with batches of nodes, not with nodes.
      assert(many.sql <= 200, about);
    }
  });
}

Deno.test("a chain of 20,000 nodes is sorted, and a cycle in it is found", () => {
  const { nodes } = chainGraph(20_000);
  assertEquals(nodes.length, 20_000);
  assertEquals(nodes.map(({ name }) => name), nodes.map((_, i) => `link[${i}]`));
  const stage = nodes[0]!.stage;
  const inputs: Record<string, NodeSpec[]> = { before: [] };
  const a: NodeSpec = { stage, label: "a", params: {}, inputs };
  const b: NodeSpec = { stage, label: "b", params: {}, inputs: { before: [a] } };
  const c: NodeSpec = { stage, label: "c", params: {}, inputs: { before: [b] } };
  inputs["before"]!.push(b);
  assertThrows(
    () => buildGraph([c]),
    UserError,
    "The nodes form a cycle: link[b] → link[a] → link[b].",
  );
});

Deno.test("a queue gives what it was given, in order, whatever comes in between", () => {
  const queue = new Queue<number>();
  const plain: number[] = [];
  let next = 0;
  for (let round = 0; round < 300; round++) {
    for (let i = 0; i < (round * 7) % 11; i++) {
      queue.push(next);
      plain.push(next++);
    }
    for (let i = 0; i < (round * 5) % 12; i++) assertEquals(queue.shift(), plain.shift());
    assertEquals(queue.length, plain.length);
    assertEquals(queue.peek(3), plain.slice(0, 3));
  }
});
