import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { withFolder } from "../../../model/checkpoint/folder_testing.ts";
import { openTestGpu } from "../../../model/gpu/testing.ts";
import { tinyConfig, tinyTrain } from "../../../model/training/trainer_testing.ts";
import { tuningSchema } from "../../../model/training/tuning.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { Store } from "../../../pipeline/store/store.ts";
import { readTuning } from "../../tuning_file.ts";
import { runTask } from "./task_testing.ts";
import { chooseQuestions, renderTune, tune, tunedDevice, tuningOf } from "./tune.ts";
import { writeResult } from "./write_result.ts";

const ROOT = fromFileUrl(new URL("../../..", import.meta.url));
const MODEL = {
  name: "tiny",
  path: "tiny.yaml",
  config: tinyConfig({ d_model: 64, d_ffn: 128 }),
  train: tinyTrain({ sequence_length: 64, micro_batch: 8 }),
};
const ID = "product.tn.64x128x512.f32.f32.f32";

async function measure(store: Store, options: { only?: string[]; force?: boolean } = {}) {
  const lines: string[] = [];
  const result = await tune({
    gpu: await openTestGpu({ software: false }),
    model: MODEL,
    root: ROOT,
    store,
    only: options.only ?? [ID],
    force: options.force ?? false,
    timing: { warmup: 1, repeats: 1, minimum: 0, settle: 0 },
    progress: (line) => void lines.push(line),
  });
  return { result, lines };
}

Deno.test("tune() measures once, keeps what it measured, and writes what a configuration takes", async () => {
  await withFolder(async (folder) => {
    const dir = join(folder, "store");
    const options = { command: "tune", create: true };
    let store = await Store.open(dir, options);
    const { result, lines } = await measure(store);
    await store.close();
    assertEquals(result.failures, []);
    const [entry] = result.questions;
    assertEquals(result.questions.length, 1);
    assertEquals([entry!.id, entry!.times, entry!.cached], [ID, 2, false]);
    assertEquals(entry!.ways.map(({ name }) => name), ["64x64/2", "64x64"]);
    assertEquals(entry!.rule, entry!.ways[0]);
    assert(entry!.best.seconds <= entry!.rule.seconds);
    assertEquals(result.seconds.rules, 2 * entry!.rule.seconds);
    assertMatch(lines[0]!, /^\[1\/1\] product\.tn\.64x128x512\.f32\.f32\.f32: 64x64.* [mµ]s/);
    const text = renderTune(result);
    assertStringIncludes(text, ID);
    assertMatch(text, /by the rules, .* by the best ways, .* % less\.$/);

    // The store was closed in between: what is known comes from the catalogue.
    store = await Store.open(dir, options);
    const again = await measure(store);
    assertEquals(again.result.questions, [{ ...entry!, cached: true }]);
    assertStringIncludes(again.lines[0]!, ", measured before");
    const rows = await store.catalogue.query(
      "SELECT question, candidate, seconds FROM tunings ORDER BY candidate DESC",
    );
    assertEquals(rows.rows, entry!.ways.map(({ name, seconds }) => [ID, name, seconds]));
    const forced = await measure(store, { force: true });
    assert(!forced.result.questions[0]!.cached);
    // One way that is not known, and all are measured again.
    await store.catalogue.run("UPDATE tunings SET code = 'older' WHERE candidate = '64x64'");
    assert(!(await measure(store)).result.questions[0]!.cached);
    assertEquals((await store.catalogue.rows("SELECT * FROM tunings")).length, 2);
    await store.close();

    const path = join(folder, "tuned.json");
    await writeResult(path, tuningOf(result));
    const written = tuningSchema.parse(JSON.parse(await Deno.readTextFile(path)));
    assertEquals(written.measured_on["date"], result.measured_on.date);
    assertEquals(await readTuning(path), { [ID]: entry!.best.name });
  });
});

Deno.test("tune() asks only what has several answers on the device", async () => {
  const gpu = await openTestGpu({ software: false });
  const subject = { gpu, model: MODEL, only: ["x128x512"] };
  assertEquals(chooseQuestions(subject).map(({ question }) => question.id), [ID]);
  assertThrows(
    () => chooseQuestions({ ...subject, only: ["nothing"] }),
    UserError,
    "--only nothing matches none of",
  );
  const small = { ...MODEL, config: tinyConfig(), train: tinyTrain() };
  assertThrows(
    () => chooseQuestions({ gpu, model: small, only: [] }),
    UserError,
    "A training of tiny.yaml asks nothing that",
  );
});

Deno.test("what is measured through another compiler is another device's", () => {
  const on = { adapter: "A", software: false, deno: "2.9.6", date: "2026-01-01" };
  assertEquals(tunedDevice({ ...on, runtime: "deno", driver: "NVIDIA 1" }), {
    adapter: "A",
    runtime: "deno 2.9.6",
    driver: "NVIDIA 1",
  });
  assertMatch(tunedDevice({ ...on, runtime: "dawn" }).runtime, /^dawn \d+\.\d+\.\d+$/);
});

Deno.test("The task tune refuses what it cannot do, with the permissions that it names", async () => {
  await withFolder(async (folder) => {
    const task = (...args: string[]) =>
      runTask(["tune", "--store", join(folder, "store"), ...args]);
    const minimal = ["--config", "configs/testing/minimal.yaml"];
    const nowhere = await task(...minimal, "--out", join(folder, "none", "tuned.json"));
    assertEquals(nowhere.code, 2);
    assertStringIncludes(nowhere.stderr, "--out is ");
    const gpu = await openTestGpu();
    if (gpu.capabilities.software) {
      const software = await task(...minimal, "--gpu", "deno");
      assertEquals(software.code, 1);
      assertStringIncludes(software.stderr, "error: There is nothing to tune on ");
    }
    assertEquals([...Deno.readDirSync(folder)], []);
  });
});
