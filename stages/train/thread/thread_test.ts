/** A node that a thread trains: the same bits as without one, whatever becomes of it in between. */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import type { JsonValue, NodeOutput, StageContext } from "../../../pipeline/stage.ts";
import { SMALL_TRAINING, writeDataset } from "../../commands/model/checkpoint_testing.ts";
import { nodesAtOnce, sharesProcessor } from "../../shared_gpu.ts";
import { runStage } from "../../testing.ts";
import { train, type TrainParams } from "../train.ts";
import { endIdleThreads } from "./launch.ts";

/** Samples of text, whose module the thread loads by itself, and a read-back each second update. */
const params = (seed: number) => {
  const { model, train } = structuredClone(SMALL_TRAINING) as unknown as TrainParams;
  const further = { steps: 6, log_every: 2, sample_every: 2, sample_tokens: 4 };
  return { seed, model, train: { ...train, ...further } } as unknown as JsonValue;
};

interface Options {
  readonly dir: string;
  readonly dataset: NodeOutput;
  readonly seed?: number;
  readonly signal?: AbortSignal;
  /** Takes the place of parts of the stage's context. */
  readonly change?: (context: StageContext<TrainParams>) => Partial<StageContext<TrainParams>>;
}

/** Trains, and returns what follows from the key, with the lines of the log. */
async function trained({ dir, dataset, seed = 1, signal, change }: Options) {
  const { output, json, metrics, samples, log } = await runStage(
    train,
    { params: params(seed), inputs: { dataset: [dataset] }, dir, ...(signal && { signal }) },
    (context) => train.run({ ...context, ...change?.(context) }),
  );
  const files = output.files("checkpoint").map((file) => {
    const bytes = Deno.readFileSync(output.file("checkpoint", file));
    return [file, createHash("sha256").update(bytes).digest("hex")];
  });
  const rows = metrics.filter(({ measured }) => !measured);
  return { published: { files, summary: json.summary }, rows, samples, log };
}

Deno.test("A thread trains to the bits of the stage's own", async (t) => {
  const threads = Deno.env.get("LP_NUM_THREADS");
  const dir = await Deno.makeTempDir();
  const dataset = await writeDataset(join(dir, "dataset"));
  const alone = await trained({ dir: join(dir, "alone"), dataset });
  const other = await trained({ dir: join(dir, "other"), dataset, seed: 2 });
  // A GPU has one node at a time, and then there are no threads.
  if (await nodesAtOnce() === 1) return;
  assertEquals(sharesProcessor(), true);

  await t.step("two side by side, and the next in a thread that was used", async () => {
    const [first, second] = await Promise.all([
      trained({ dir: join(dir, "first"), dataset }),
      trained({ dir: join(dir, "second"), dataset, seed: 2 }),
    ]);
    assertEquals(first, alone);
    assertEquals(second, other);
    assertEquals(await trained({ dir: join(dir, "third"), dataset, seed: 2 }), other);
  });

  await t.step("one that is asked to stop, and goes on", async () => {
    const stop = new AbortController();
    const reason = new Error("enough");
    const options = { dir: join(dir, "stopped"), dataset };
    const progress = () => ({ update: () => stop.abort(reason) });
    const error = await assertRejects(() =>
      trained({ ...options, signal: stop.signal, change: () => ({ progress }) })
    );
    assertEquals(error, reason);
    const resumed = await trained(options);
    assertEquals(resumed.published, alone.published);
    assertMatch(resumed.log.join("\n"), /info: resumed after update \d of 6/);
  });

  await t.step("one whose numbers can't be kept, and one that can't be told of", async () => {
    const full = Object.assign(new Error("no space"), { code: "ENOSPC" });
    const fail = () => {
      throw full;
    };
    const changes: NonNullable<Options["change"]>[] = [
      ({ metrics }) => ({ metrics: { ...metrics, flush: fail } }),
      () => ({ progress: () => ({ update: fail }) }),
    ];
    for (const [i, change] of changes.entries()) {
      const options = { dir: join(dir, `failed ${i}`), dataset };
      assertEquals(await assertRejects(() => trained({ ...options, change })), full);
      assertEquals((await trained(options)).published, alone.published);
    }
  });

  await t.step("one that fails in the thread", async () => {
    const broken: NodeOutput = {
      ...dataset,
      files: (name) => dataset.files(name).filter((file) => !file.startsWith("validation/")),
    };
    const options = { dir: join(dir, "broken"), dataset: broken };
    const { message } = await assertRejects(() => trained(options), Error);
    assertEquals(message.includes("\n"), false);
  });

  endIdleThreads();
  if (threads === undefined) Deno.env.delete("LP_NUM_THREADS");
  await Deno.remove(dir, { recursive: true });
});
