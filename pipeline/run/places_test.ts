/** How many nodes of a resource run at a time. */

import { assertEquals } from "@std/assert";
import { z } from "zod";
import { buildGraph } from "../graph/graph.ts";
import type { JsonValue, NodeSpec, Stage } from "../stage.ts";
import { Store } from "../store/store.ts";
import { fakeExecutor, schedule } from "./scale_testing.ts";

const stage = (name: string, alone = false): Stage<JsonValue> => ({
  name,
  description: `${name}.`,
  module: import.meta.url,
  resource: "gpu",
  alone,
  params: z.json(),
  outputs: { value: "json" },
  run: () => Promise.reject(new Error("The executor runs nothing")),
});

/** Runs six trainings with a benchmark among them, and returns which nodes ran at the same time. */
async function together(gpus: number | (() => Promise<number>)): Promise<Set<string>[]> {
  const train = stage("train");
  const nodes = Array.from({ length: 6 }, (_, i): NodeSpec => ({
    stage: train,
    label: `${i}`,
    params: { i },
  }));
  nodes.splice(3, 0, { stage: stage("benchmark", true), params: {} });
  const dir = await Deno.makeTempDir();
  try {
    const store = await Store.open(dir, { command: "test", create: true });
    const work = fakeExecutor(() => 5);
    const running = new Set<string>();
    const seen: Set<string>[] = [];
    await schedule(buildGraph(nodes), store, {
      gpus,
      executor: async (job) => {
        running.add(job.node.name);
        seen.push(new Set(running));
        try {
          return await work(job);
        } finally {
          running.delete(job.node.name);
        }
      },
    });
    await store.close();
    return seen;
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const most = (seen: readonly Set<string>[]) => Math.max(...seen.map(({ size }) => size));

Deno.test("as many gpu nodes run at a time as the executor has places for, and a benchmark alone", async () => {
  for (const places of [1, 2, 3, Infinity]) {
    const seen = await together(places);
    assertEquals(seen.length, 7);
    // A batch system has hosts enough: there a benchmark waits for nobody.
    assertEquals(most(seen), Math.min(places, 7));
    const beside = seen.find((nodes) => nodes.has("benchmark"))!;
    if (places !== Infinity) assertEquals([...beside], ["benchmark"]);
  }
});

Deno.test("an executor is asked for its places once, when the first gpu node is due", async () => {
  let asked = 0;
  const seen = await together(() => Promise.resolve(++asked + 1));
  assertEquals([asked, most(seen)], [1, 2]);
});
