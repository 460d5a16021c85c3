import { assert, assertEquals, assertRejects } from "@std/assert";
import { basename, join } from "@std/path";
import { withFolder } from "../checkpoint/folder_testing.ts";
import {
  bestModelPath,
  checkpointPath,
  listCheckpoints,
  loadModel,
  readArchitecture,
  shareCheckpoint,
  verifyCheckpoint,
} from "../checkpoint/checkpoint.ts";
import { openTestGpu } from "../gpu/testing.ts";
import type { Trainer } from "./trainer.ts";
import { assertSameBits, makeTrainer, readAll, type TinyOptions } from "./trainer_testing.ts";
import { DivergedError, runTraining, type TrainingResult } from "./training.ts";
import { Table, tinyData as data } from "./training_testing.ts";

const OPTIONS: TinyOptions = {
  model: { ffn: { load_balance_coef: 0.05 } },
  train: {
    steps: 10,
    evaluate_every: 4,
    checkpoint_every: 3,
    keep_checkpoints: 2,
    log_every: 2,
    gradient_accumulation: 2,
  },
};

async function copyFolder(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyFolder(join(from, name), join(to, name));
    else await Deno.copyFile(join(from, name), join(to, name));
  }
}

/** A run with a trainer of its own; `after` sees the trainer before it is freed. */
async function run<T>(
  folder: string,
  options: { table: Table; signal?: AbortSignal; tiny?: TinyOptions },
  after: (trainer: Trainer, result: TrainingResult) => Promise<T>,
): Promise<T> {
  const { table: hooks, signal, tiny = OPTIONS } = options;
  const trainer = await makeTrainer(await openTestGpu(), tiny);
  try {
    const result = await runTraining(trainer, {
      data,
      seed: 3,
      folder,
      hooks,
      ...(signal && { signal }),
    });
    return await after(trainer, result);
  } finally {
    trainer.destroy();
  }
}

for (const documents of ["packed", "single"] as const) {
  const name =
    `A run of ${documents} documents that is killed and resumed ends in the bits of one that was not`;
  Deno.test(name, () => resumes({ ...OPTIONS, train: { ...OPTIONS.train, documents } }));
}

async function resumes(tiny: TinyOptions): Promise<void> {
  await withFolder(async (folder) => {
    const whole = new Table();
    const killed = new Table();
    const finish = async (trainer: Trainer, result: TrainingResult) => {
      const { lastPath: _, bestPath: __, ...rest } = result;
      return { state: await readAll(trainer), control: await trainer.readControl(), rest };
    };
    const expected = await run(join(folder, "whole"), { table: whole, tiny }, finish);

    const attempt = join(folder, "killed");
    for (const checkpoint of [1, 2]) {
      const controller = new AbortController();
      const before = killed.flushed.length;
      killed.onFlush = () => {
        if (killed.flushed.length === before + checkpoint) controller.abort(new Error("killed"));
      };
      await assertRejects(
        () => run(attempt, { table: killed, signal: controller.signal, tiny }, finish),
        Error,
        "killed",
      );
      // A row of a step that the next attempt repeats.
      killed.write(1000, {});
      await Deno.mkdir(join(attempt, "step-000001000.partial"));
    }
    assertEquals((await listCheckpoints(attempt)).map(({ step }) => step), [6, 9]);
    killed.onFlush = () => {};
    const actual = await run(attempt, { table: killed, tiny: { ...tiny, seed: 77 } }, finish);
    assertSameBits(actual.state, expected.state);
    assertEquals(actual.control, expected.control);
    assertEquals(actual.rest, expected.rest);
    assertEquals(killed.rows, whole.rows);

    // Resuming what is done evaluates, and changes nothing.
    const again = await run(attempt, { table: killed, tiny }, finish);
    assertSameBits(again.state, expected.state);
    assertEquals(again.rest, expected.rest);
  });
}

Deno.test("A run of single documents goes over an epoch, counts real tokens, and learns no padding", async () => {
  await withFolder(async (folder) => {
    const tiny = { ...OPTIONS, train: { ...OPTIONS.train, documents: "single", steps: 6 } };
    const end = data.endoftext;
    const text = data.train.read(0, data.train.length);
    const documents: number[] = [];
    for (let start = 0; start < text.length;) {
      const found = text.indexOf(end, start);
      const last = found < 0 ? text.length - 1 : found;
      if (last > start) documents.push(Math.min(13, last - start));
      start = last + 1;
    }
    // Six updates of two micro-batches of two documents are more than an epoch.
    assert(documents.length > 3 && documents.length < 24, `${documents.length} documents`);
    const table = new Table();
    await run(folder, { table, tiny }, (_, result) => {
      const sum = documents.reduce((a, b) => a + b);
      const rows = table.rows.filter(([, values]) => "tokens" in values);
      assertEquals(rows.at(-1)?.[1]["tokens"], result.tokens);
      const epochs = Math.floor(24 / documents.length);
      assert(result.tokens >= epochs * sum && result.tokens <= (epochs + 1) * sum);
      assert(result.tokens < 24 * 13, "padding would be as many as packed documents have");
      const records = table.rows.filter(([, values]) => "loss" in values);
      assert(records.every(([, values]) => Number.isFinite(values["loss"])));
      return Promise.resolve();
    });
  });
});

Deno.test("With best_of: checkpoints only models that are checkpoints compete, and nothing else differs", async () => {
  await withFolder(async (folder) => {
    // Evaluations come after updates 4, 8 and 10, checkpoints after 3, 6, 9 and 10.
    const finish = (_: Trainer, { bestPath, lastPath: __, ...rest }: TrainingResult) =>
      Promise.resolve({ name: basename(bestPath), rest });
    const [every, some] = [new Table(), new Table()];
    const expected = await run(join(folder, "every"), { table: every }, finish);
    const train = { ...OPTIONS.train, best_of: "checkpoints" as const };
    const tiny = { ...OPTIONS, train };
    const actual = await run(join(folder, "some"), { table: some, tiny }, finish);
    assertEquals(some.rows, every.rows);
    assertEquals(actual.rest.last, expected.rest.last);
    assert(expected.rest.best.step < 10, "otherwise the choice would make no difference");
    assertEquals(actual.rest.best, { step: 10, nats: expected.rest.last.nats });
    const best = Array.from(Deno.readDirSync(join(folder, "some", "best")), ({ name }) => name);
    assertEquals(best, [actual.name]);
  });
});

Deno.test("A damaged checkpoint is left out with a warning; the run ends in the bits of an undisturbed one", async (t) => {
  await withFolder(async (folder) => {
    const finish = async (trainer: Trainer, result: TrainingResult) => ({
      state: await readAll(trainer),
      last: result.last,
      best: [result.best, await Deno.readFile(result.bestPath)],
      checkpoint: await Deno.readFile(join(result.lastPath, "state.json")),
    });
    const whole = new Table();
    const expected = await run(join(folder, "whole"), { table: whole }, finish);

    const killed = new Table();
    const controller = new AbortController();
    killed.onFlush = () => killed.flushed.length === 3 && controller.abort(new Error("killed"));
    const left = join(folder, "left");
    await assertRejects(
      () => run(left, { table: killed, signal: controller.signal }, finish),
      Error,
      "killed",
    );
    assertEquals((await listCheckpoints(left)).map(({ step }) => step), [6, 9]);
    const { best } = await verifyCheckpoint(checkpointPath(left, 9));

    const flip = async (path: string) => {
      const bytes = await Deno.readFile(path);
      bytes[bytes.length - 2]! ^= 1;
      await Deno.writeFile(path, bytes);
    };
    const newest = (name: string) => (at: string) => join(checkpointPath(at, 9), name);
    const all = (name: string) => (at: string) =>
      [6, 9].map((s) => join(checkpointPath(at, s), name));
    type Paths = (at: string) => string | string[];
    type Damage = (path: string) => Promise<void>;
    const cases: [string, Paths, Damage, resumed: number[]][] = [
      ["a truncated model", newest("model.safetensors"), (path) => Deno.truncate(path, 3000), [6]],
      ["a flipped bit in a moment", newest("optimizer.safetensors"), flip, [6]],
      ["an empty state", newest("state.json"), (path) => Deno.truncate(path), [6]],
      ["a missing file", newest("optimizer.safetensors"), (path) => Deno.remove(path), [6]],
      [
        "a flipped bit in the best model, which both name",
        (at) => bestModelPath(at, best!.step),
        flip,
        [],
      ],
      ["an older one, which is not read", (at) => join(checkpointPath(at, 6), "state.json"), flip, [
        9,
      ]],
      ["both", all("model.safetensors"), flip, []],
    ];
    for (const [name, paths, damage, resumed] of cases) {
      await t.step(name, async () => {
        const attempt = join(folder, name);
        await copyFolder(left, attempt);
        const damaged = [paths(attempt)].flat();
        for (const path of damaged) await damage(path);
        const table = new Table();
        table.rows = [...killed.rows];
        const actual = await run(attempt, { table, tiny: { ...OPTIONS } }, finish);
        assertSameBits(actual.state, expected.state);
        assertEquals({ ...actual, state: null }, { ...expected, state: null });
        assertEquals(table.rows, whole.rows);
        assertEquals(table.resumed, resumed);
        // One line each, the newest first, with the file and what comes next.
        const warned = [9, 6].slice(0, [9, 6, undefined].indexOf(resumed[0]));
        assertEquals(table.warnings.length, warned.length, table.warnings.join("\n"));
        for (const [i, step] of warned.entries()) {
          const warning = table.warnings[i]!;
          assert(warning.startsWith(`the checkpoint after update ${step} is damaged`), warning);
          assert(damaged.some((path) => warning.includes(`: ${path} `)), warning);
          const next = step === 9 ? "trying that after update 6" : "starting from the beginning";
          assert(warning.endsWith(next), warning);
          assertEquals(warning.includes("\n"), false);
        }
      });
    }
  });
});

Deno.test("An interrupted run keeps what it did, and rows are on disk before the checkpoint that counts on them", async () => {
  await withFolder(async (folder) => {
    const finish = (trainer: Trainer) => readAll(trainer);
    const whole = new Table();
    const kept: number[] = [];
    const missing: number[] = [];
    whole.onFlush = () => {
      // A kill comes at any moment: what a checkpoint resumes from must have been flushed by then.
      for (const { name } of Deno.readDirSync(join(folder, "whole"))) {
        const step = Number(/^step-(\d+)$/.exec(name)?.[1] ?? 0);
        if (step > (kept.at(-1) ?? 0)) missing.push(step);
      }
      kept.push(Math.max(...whole.rows.map(([step]) => step)) + 1);
    };
    const expected = await run(join(folder, "whole"), { table: whole }, finish);
    assertEquals(missing, []);

    const stopped = new Table();
    const controller = new AbortController();
    stopped.measure = (step) => {
      if (step === 4) controller.abort(new Error("interrupted"));
    };
    const attempt = join(folder, "stopped");
    const interrupted = { table: stopped, signal: controller.signal };
    await assertRejects(() => run(attempt, interrupted, finish), Error, "interrupted");
    assertEquals((await listCheckpoints(attempt)).map(({ step }) => step), [3, 4]);
    assertSameBits(await run(attempt, { table: stopped }, finish), expected);
    assertEquals(stopped.rows, whole.rows);
  });
});

Deno.test("shareCheckpoint: both places have the files, and either may go", async () => {
  await withFolder(async (folder) => {
    await Deno.mkdir(join(folder, "a", "deep"), { recursive: true });
    await Deno.writeTextFile(join(folder, "a", "deep", "file"), "bytes");
    await shareCheckpoint(join(folder, "a"), join(folder, "b"));
    assertEquals(await Deno.readTextFile(join(folder, "a", "deep", "file")), "bytes");
    await Deno.remove(join(folder, "b"), { recursive: true });
    await shareCheckpoint(join(folder, "a"), join(folder, "b"));
    await Deno.remove(join(folder, "a"), { recursive: true });
    assertEquals(await Deno.readTextFile(join(folder, "b", "deep", "file")), "bytes");
  });
});

Deno.test("A run leaves its last checkpoints and its best model", async () => {
  await withFolder(async (folder) => {
    const table = new Table();
    await run(folder, { table }, async (trainer, result) => {
      assertEquals((await listCheckpoints(folder)).map(({ step }) => step), [9, 10]);
      assertEquals(result.lastPath, join(folder, "step-000000010"));
      assertEquals((await readArchitecture(result.bestPath)).config, trainer.config);
      const validation = table.rows.flatMap(([step, row]) =>
        row["validation_nats"] === undefined ? [] : [[step, row["validation_nats"]] as const]
      );
      assertEquals(validation.map(([step]) => step), [4, 8, 10]);
      const [step, nats] = validation.reduce((a, b) => b[1] < a[1] ? b : a);
      assertEquals(result.best, { step, nats });
      // The best model is the one that measured so.
      await loadModel(result.bestPath, trainer);
      await trainer.resume(10, await trainer.readControl());
      const { nats: measured } = await trainer.evaluate(data.validation, { tokens: 40 });
      assertEquals(measured, nats);
    });
    const logged = table.rows.filter(([, row]) => row["loss"] !== undefined);
    assertEquals(logged.map(([step]) => step), [1, 2, 4, 6, 8, 10]);
    assertEquals(logged[1]![1]["tokens"], 2 * 2 * 2 * 13);
    assert(logged.every(([, row]) => row["balance"]! > 0 && row["grad_norm"]! > 0));
    const rates = table.measured.flatMap(([, row]) => row["tokens_per_second"] ?? []);
    assert(rates.length > 0 && rates.every((rate) => rate > 0));
    const used = table.measured.filter(([, row]) =>
      Object.keys(row).some((name) => /^expert_usage\.\d+$/.test(name))
    );
    assertEquals(used.map(([step]) => step), [4, 8, 10]);
    assertEquals(table.warnings, []);
  });
});

Deno.test("A run stops when update after update is not finite, and warns of each", async () => {
  await withFolder(async (folder) => {
    const table = new Table();
    const tiny: TinyOptions = {
      train: {
        ...OPTIONS.train,
        max_non_finite_steps: 3,
        learning_rate: { peak: 1e-3, warmup_steps: 0 },
      },
    };
    const trainer = await makeTrainer(await openTestGpu(), tiny);
    try {
      const gain = await trainer.readState("value", "final_norm.weight");
      trainer.writeState("value", "final_norm.weight", gain.fill(Infinity));
      await assertRejects(
        () => runTraining(trainer, { data, seed: 3, folder, hooks: table }),
        DivergedError,
        "3 updates in a row were not finite, the last being update 3",
      );
    } finally {
      trainer.destroy();
    }
    assertEquals(table.warnings.length, 3);
    assert(table.warnings[0]!.includes("update 1 was not finite and was skipped"));
  });
});
