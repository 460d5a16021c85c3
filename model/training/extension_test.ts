import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { withFolder } from "../checkpoint/folder_testing.ts";
import { checkpointPath, listCheckpoints } from "../checkpoint/checkpoint.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { assertSameBits, makeTrainer, readAll } from "./trainer_testing.ts";
import { runTraining } from "./training.ts";
import { Table, tinyData } from "./training_testing.ts";

const RATE = { initial: 2e-3, peak: 4e-3, warmup_steps: 2 };

interface Attempt {
  readonly folder: string;
  readonly steps?: number;
  readonly extend?: number;
  readonly schedule?: "constant" | "cosine";
  readonly table?: Table;
  readonly signal?: AbortSignal;
  /** Folder of a finished training of 4 updates. */
  readonly from?: string;
}

/** Trains the tiny model with checkpoints after every third update, and returns all that it ends in. */
async function attempt(options: Attempt) {
  const { folder, steps = 4, extend, schedule = "constant", table = new Table(), signal } = options;
  const trainer = await makeTrainer(await openTestGpu(), {
    train: {
      steps,
      ...(extend !== undefined && { extend }),
      learning_rate: { ...RATE, schedule },
      evaluate_every: 0,
      checkpoint_every: 3,
      log_every: 1,
    },
  });
  try {
    const best = options.from && await onlyFile(join(options.from, "best"));
    const result = await runTraining(trainer, {
      data: tinyData,
      seed: 3,
      folder,
      hooks: table,
      ...(options.from && { from: { checkpoint: checkpointPath(options.from, 4), best: best! } }),
      ...(signal && { signal }),
    });
    const rates = table.rows.flatMap(([step, { lr }]) => lr === undefined ? [] : [[step, lr]]);
    return { state: await readAll(trainer), control: await trainer.readControl(), result, rates };
  } finally {
    trainer.destroy();
  }
}

async function onlyFile(folder: string): Promise<string> {
  const [{ name }] = await Array.fromAsync(Deno.readDir(folder)) as [Deno.DirEntry];
  return join(folder, name);
}

Deno.test("An extended run has the bits of one that was as long from the beginning, with a kill in between too", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    const whole = await attempt({ folder: at("whole"), steps: 8 });
    const table = new Table();
    await attempt({ folder: at("finished"), table });
    const before = structuredClone(table.rows);
    const extension = { folder: at("extended"), extend: 8, from: at("finished"), table };

    const controller = new AbortController();
    table.onFlush = () => controller.abort(new Error("killed"));
    await assertRejects(
      () => attempt({ ...extension, signal: controller.signal }),
      Error,
      "killed",
    );
    assertEquals((await listCheckpoints(at("extended"))).map(({ step }) => step), [6]);
    table.write(1000, {});
    table.onFlush = () => {};
    const extended = await attempt(extension);
    assertSameBits(extended.state, whole.state);
    assertEquals(extended.control, whole.control);
    assertEquals(extended.result.last, whole.result.last);
    assertEquals(table.resumed, [4, 6]);
    assertEquals(table.rows.slice(0, before.length), before);
    assertEquals(extended.rates, whole.rates);

    // A damaged checkpoint of the extension leaves the finished training to go on from.
    for (const { path } of await listCheckpoints(at("extended"))) {
      await Deno.writeTextFile(join(path, "state.json"), "{}");
    }
    const again = await attempt(extension);
    assertEquals(table.resumed.at(-1), 4);
    assertSameBits(again.state, whole.state);
  });
});

Deno.test("A cosine that has ended stays at its end in an extension", async () => {
  await withFolder(async (folder) => {
    const cosine = { schedule: "cosine", from: join(folder, "finished") } as const;
    await attempt({ folder: cosine.from, schedule: "cosine" });
    const table = new Table();
    const { rates } = await attempt({
      folder: join(folder, "longer"),
      ...cosine,
      extend: 7,
      table,
    });
    assertEquals(rates.map(([step]) => step), [5, 6, 7]);
    for (const [step, rate] of rates) assert(Math.abs(rate! - 4e-4) < 1e-9, `${step}: ${rate}`);
  });
});
