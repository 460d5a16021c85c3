/** A node that several processes train: the same bits as one process, whatever becomes of them in between. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import { ensureOpenMpi, TEST_ENVIRONMENT } from "../../../model/training/mpi/open_mpi_testing.ts";
import { architectureOf } from "../../../model/config.ts";
import { parameterSpecs, statisticSpecs } from "../../../model/trunk/parameters.ts";
import { RATES } from "../../../model/bench/scaling/paper.ts";
import { simulateUpdate } from "../../../model/bench/scaling/simulation.ts";
import type { JsonValue, NodeOutput, StageContext } from "../../../pipeline/stage.ts";
import { SMALL_TRAINING, writeDataset } from "../../commands/model/checkpoint_testing.ts";
import { runStage } from "../../testing.ts";
import { train, type TrainParams } from "../train.ts";
import { chooseRanks } from "./chosen.ts";

/** Updates of the training. */
const STEPS = 6;
/** Ranks that share its groups. */
const GROUPS = 4;

/** Batch norm, a load-balance term, dropout, four groups and samples of text. */
const PARAMS = (() => {
  const { model, train, seed } = structuredClone(SMALL_TRAINING) as unknown as TrainParams;
  return {
    seed,
    model: {
      ...model,
      trunk: { dropout: 0.1 },
      ffn: { ...model.ffn, load_balance_coef: 0.1 },
    },
    train: {
      ...train,
      ...{ steps: STEPS, gradient_accumulation: GROUPS, gradient_groups: GROUPS },
      ...{ sample_every: 2, sample_tokens: 4 },
    },
  } as unknown as JsonValue;
})();

/** The part of a training's results that follows from its key. */
interface Published {
  readonly files: Readonly<Record<string, string>>;
  readonly summary: JsonValue;
  readonly metrics: readonly unknown[];
  /** Seconds of an update, the least of those measured. */
  readonly seconds: number;
}

/** Trains with so many ranks; `during` is called after each progress. */
async function trainBy(
  ranks: number,
  { dir, dataset, signal, during }: {
    readonly dir: string;
    readonly dataset: NodeOutput;
    readonly signal?: AbortSignal;
    readonly during?: (step: number) => void;
  },
): Promise<Published & { readonly log: readonly string[] }> {
  const watched = (context: StageContext<TrainParams>) =>
    train.run({ ...context, progress: () => ({ update: (step) => during?.(step) }) });
  chooseRanks(ranks);
  try {
    const { output, json, metrics, log } = await runStage(train, {
      params: PARAMS,
      inputs: { dataset: [dataset] },
      dir,
      ...(signal && { signal }),
    }, watched);
    const files = output.files("checkpoint").map((file) => {
      const bytes = Deno.readFileSync(output.file("checkpoint", file));
      return [file, createHash("sha256").update(bytes).digest("hex")] as const;
    });
    return {
      files: Object.fromEntries(files),
      summary: json.summary!,
      metrics: metrics.filter(({ measured }) => !measured),
      seconds: Math.min(
        ...metrics.flatMap(({ name, value }) => name === "step_seconds" ? [value!] : []),
      ),
      log,
    };
  } finally {
    chooseRanks(1);
  }
}

/** The parts that an update adds up: running statistics, then the gradients of parameters that are not held, and two terms of the loss. */
function partsOf(summary: JsonValue): { readonly bytes: number; readonly ready: number }[] {
  const { config } = summary as unknown as { config: Parameters<typeof architectureOf>[0] };
  const architecture = architectureOf(config);
  const bytes = (specs: readonly { readonly shape: readonly number[] }[]) =>
    4 * specs.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const trained = parameterSpecs(architecture).filter(({ held }) => !held);
  return [
    { bytes: bytes(statisticSpecs(architecture)), ready: 1 / 3 },
    { bytes: bytes(trained) + 4 * 2, ready: 1 },
  ];
}

/** Process ids of the ranks that train in a folder, by rank. A shell looks for them: Deno opens `/proc` only to a program that may do everything. */
function ranksIn(dir: string): Map<number, number> {
  const script = `
    for file in $(grep -lzxFe "$1" /proc/[0-9]*/cmdline 2>/dev/null); do
      process=\${file%/cmdline}
      rank=$(tr '\\0' '\\n' 2>/dev/null <"$process/environ" | sed -n 's/^OMPI_COMM_WORLD_RANK=//p')
      [ -z "$rank" ] || echo "$rank \${process#/proc/}"
    done`;
  const { stdout } = new Deno.Command("sh", {
    args: ["-c", script, "sh", join(dir, "state", "ranks.json")],
  }).outputSync();
  const lines = new TextDecoder().decode(stdout).trim().split("\n");
  return new Map(
    lines.filter((line) => line !== "").map((line) =>
      line.split(" ").map(Number) as [number, number]
    ),
  );
}

Deno.test("A node is trained by one, two and four ranks to the same bits", async (t) => {
  await ensureOpenMpi();
  for (const [name, value] of Object.entries(TEST_ENVIRONMENT)) Deno.env.set(name, value);
  const folder = await Deno.makeTempDir();
  const dataset = await writeDataset(join(folder, "dataset"));
  const alone = await trainBy(1, { dir: join(folder, "alone"), dataset });
  const same = (actual: Published) => {
    assertEquals(actual.files, alone.files);
    assertEquals(actual.summary, alone.summary);
  };

  for (const ranks of [2, 4]) {
    await t.step(`${ranks} ranks, and their numbers`, async () => {
      const actual = await trainBy(ranks, { dir: join(folder, `by ${ranks}`), dataset });
      same(actual);
      assertEquals(actual.metrics, alone.metrics);
      assert(actual.log.some((line) => /^info: update 6: validation /.test(line)));
      // The ranks share this machine's cores: all compute as long as one with all groups.
      const { messages, bytes, seconds } = simulateUpdate({
        ranks,
        groupsPerRank: GROUPS / ranks,
        microBatches: 1,
        microBatchSeconds: alone.seconds / GROUPS * ranks,
        optimizerSeconds: 0,
        parts: partsOf(alone.summary),
        rates: RATES,
      });
      const [, ...sent] = /by (\d+) messages of (\d+) bytes/.exec(actual.log.join("\n"))!;
      assertEquals(sent.map(Number), [STEPS * messages, STEPS * bytes]);
      const ratio = (actual.seconds / seconds).toFixed(2);
      // deno-lint-ignore no-console -- a time is reported, for on shared cores it can't be asserted
      console.log(`    ${ranks} ranks: an update took ${ratio} of the simulated time`);
    });
  }

  await t.step("four ranks that are asked to stop, and two that go on", async () => {
    const dir = join(folder, "restarted");
    const controller = new AbortController();
    const reason = new Error("enough");
    const during = (step: number) => {
      if (step >= 3) controller.abort(reason);
    };
    const { signal } = controller;
    const stopped = await assertRejects(() => trainBy(4, { dir, dataset, signal, during }), Error);
    assertEquals(stopped, reason);
    assertEquals(ranksIn(dir).size, 0);
    const resumed = await trainBy(2, { dir, dataset });
    assertMatch(resumed.log.join("\n"), /info: resumed after update [345] of 6/);
    same(resumed);
  });

  await t.step("a rank that is killed ends all, and one rank goes on", async () => {
    const dir = join(folder, "killed");
    // Without the stage the ranks end too: it fails while they train.
    const fails = () => {
      throw new Error("the disk is full");
    };
    await assertRejects(() => trainBy(2, { dir, dataset, during: fails }), Error, "disk is full");
    assertEquals(ranksIn(dir).size, 0);
    const during = (step: number) => {
      const pid = step >= 3 ? ranksIn(dir).get(1) : undefined;
      if (pid !== undefined) Deno.kill(pid, "SIGKILL");
    };
    const error = await assertRejects(() => trainBy(2, { dir, dataset, during }), Error);
    assertMatch(
      error.message,
      /^rank 1 of 2 on \S+ was ended by signal 9 \(Killed\): all ranks ended; the training goes on/,
    );
    assert(!error.message.includes("\n"));
    assertEquals(ranksIn(dir).size, 0);
    const resumed = await trainBy(1, { dir, dataset });
    assertMatch(resumed.log.join("\n"), /info: resumed after update [24] of 6/);
    same(resumed);
  });
  await Deno.remove(folder, { recursive: true });
});
