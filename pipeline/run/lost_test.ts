/** A run whose store another process takes over in the middle. */

import { assertEquals, assertRejects } from "@std/assert";
import { dirname, fromFileUrl, join } from "@std/path";
import { z } from "zod";
import { buildGraph } from "../graph/graph.ts";
import type { NodeSpec, Stage } from "../stage.ts";
import type { TryLock } from "../store/lease/folder.ts";
import { LeaseLostError } from "../store/lease/lease.ts";
import { Store } from "../store/store.ts";
import { runPipeline } from "./run.ts";

const NO_LOCKS: TryLock = () => Promise.reject(new Error("No locks available (os error 37)"));
const OPTIONS = { command: "reproduce", create: true, tryLock: NO_LOCKS };

Deno.test("a run ends in one line when its store is taken over, and publishes nothing more", async () => {
  const dir = await Deno.makeTempDir({ prefix: "lost_" });
  const started: number[] = [];
  let second: Store | undefined;
  const stage: Stage<{ i: number }> = {
    name: "step",
    description: "A step.",
    module: import.meta.url,
    params: z.strictObject({ i: z.int() }),
    outputs: { value: "json", file: "file" },
    async run({ params, json, output }) {
      started.push(params.i);
      await Deno.writeTextFile(output("file"), `file ${params.i}`);
      json("value", params.i);
      if (params.i !== 1) return;
      // As if this process had stood still for a minute.
      for await (const { name } of Deno.readDir(join(dir, "lease"))) {
        if (!name.endsWith(".json")) await Deno.remove(join(dir, "lease", name));
      }
      second = await Store.open(dir, OPTIONS);
    },
  };
  try {
    let last: NodeSpec | undefined;
    const specs = Array.from({ length: 4 }, (_, i): NodeSpec =>
      last = {
        stage,
        label: `${i}`,
        params: { i },
        inputs: last === undefined ? {} : { before: [last] },
      });
    const first = await Store.open(dir, OPTIONS);
    const lines: string[] = [];
    await assertRejects(
      () =>
        runPipeline({
          graph: buildGraph(specs),
          store: first,
          root: dirname(dirname(dirname(fromFileUrl(import.meta.url)))),
          command: "reproduce",
          configPath: "a.yaml",
          configuration: {},
          display: {
            bar: () => ({ update: () => {}, stop: () => {} }),
            line: (text) => lines.push(text),
            sample: () => {},
            stop: () => {},
          },
        }),
      LeaseLostError,
      `was taken over by process ${Deno.pid} on host`,
    );
    await first.close().catch(() => {});
    assertEquals(started, [0, 1]);
    assertEquals(lines.filter((line) => /failed/.test(line)).length, 1, lines.join("\n"));
    const records = await Promise.all(
      (await second!.records.nodeKeys()).map((key) => second!.records.readNode(key)),
    );
    assertEquals(records.map((record) => record?.node), ["step[0]"]);
    await second!.close();
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
