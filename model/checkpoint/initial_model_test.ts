import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { openTestGpu } from "../gpu/testing.ts";
import { DENSE, type ModelChanges } from "../testing.ts";
import type { Trainer } from "../training/trainer.ts";
import {
  assertSameBits,
  batchesOf,
  makeTrainer,
  readAll,
  type TinyOptions,
} from "../training/trainer_testing.ts";
import { saveModel } from "./checkpoint.ts";
import { loadInitialModel } from "./initial_model.ts";

const model = (max_positions: number, more = {}): ModelChanges => ({
  ...DENSE,
  attention: { kind: "mha", num_heads: 4, d_head: 12 },
  trunk: { positions: "learned", max_positions, ...more },
});

/** A model of 13 positions after two updates, in a file, and trainers that are freed afterwards. */
async function scene(
  work: (
    trained: Trainer,
    path: string,
    make: (options: TinyOptions) => Promise<Trainer>,
  ) => Promise<void>,
): Promise<void> {
  const gpu = await openTestGpu();
  const folder = await Deno.makeTempDir();
  const trainers: Trainer[] = [];
  const make = async (options: TinyOptions) => {
    const trainer = await makeTrainer(gpu, options);
    trainers.push(trainer);
    return trainer;
  };
  try {
    const trained = await make({ model: model(13) });
    for (const step of [0, 1]) trained.update(batchesOf(trained, step));
    const path = join(folder, "model.safetensors");
    await saveModel(path, trained);
    await work(trained, path, make);
  } finally {
    for (const trainer of trainers) trainer.destroy();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a lengthened model has the file's rows first, and new ones as its seed gives them", async () => {
  await scene(async (trained, path, make) => {
    const options = { model: model(21), seed: 9, train: { precision: "mixed" } } as const;
    const longer = await make(options);
    const untrained = await readAll(longer);
    await loadInitialModel(path, longer, { lengthen: true });
    const [before, after] = [await readAll(trained), await readAll(longer)];
    const name = "value.position.weight";
    const table = after.get(name)!;
    const kept = before.get(name)!.length;
    assertEquals(table.length, kept / 13 * 21);
    assertEquals(table.subarray(0, kept), before.get(name));
    assertEquals(table.subarray(kept), untrained.get(name)!.subarray(kept));
    const rows = table.subarray(kept);
    const deviation = Math.sqrt(rows.reduce((n, x) => n + x * x, 0) / rows.length);
    assert(Math.abs(deviation / 0.02 - 1) < 0.2, `${deviation}`);
    for (const [key, values] of after) {
      if (key.startsWith("value.") && key !== name) assertEquals(values, before.get(key), key);
      if (!key.startsWith("value.")) assert(values.every((x) => x === 0), key);
    }
    assertEquals(longer.step, 0);
    // The halves that products read are those of the loaded weights, and training goes on from there alike each time.
    const [batch] = batchesOf(longer, 0);
    longer.update([batch!]);
    const again = await make(options);
    await loadInitialModel(path, again, { lengthen: true });
    again.update([batch!]);
    assertSameBits(await readAll(again), await readAll(longer));
  });
});

Deno.test("a model of as many positions starts as it was, whatever the seed", async () => {
  await scene(async (trained, path, make) => {
    const other = await make({ model: model(13), seed: 77 });
    const [batch] = batchesOf(other, 0);
    assertNotEquals(await other.losses(batch!), await trained.losses(batch!));
    await loadInitialModel(path, other, { lengthen: false });
    assertEquals(await other.losses(batch!), await trained.losses(batch!));
  });
});

Deno.test("a file that does not fit is refused, and says why", async () => {
  await scene(async (_, path, make) => {
    const refused = async (changes: ModelChanges, lengthen: boolean, message: string) => {
      const trainer = await make({ model: changes });
      await assertRejects(() => loadInitialModel(path, trainer, { lengthen }), Error, message);
    };
    await refused(model(21), false, "13 positions, the model 21; expected as many, or lengthen");
    await refused(model(13), true, "13 positions already, as the model");
    await refused(model(21, { norm: "layer" }), true, "trunk.norm is rms, expected layer");
    await refused({ ...model(21), trunk: {} }, true, "no learned positions");
    await refused({ ...model(21), trunk: {} }, false, "trunk.positions is learned, expected none");
    const shorter = { ...model(21), trunk: { positions: "learned", max_positions: 13 } };
    const trainer = await make({ model: model(14) });
    await saveModel(path, trainer);
    await refused(shorter, true, "has 14 positions, the model 13; expected at least as many");
  });
});
