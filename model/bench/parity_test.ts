import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { withFolder } from "../checkpoint/folder_testing.ts";
import { openTestGpu, testRuntime } from "../gpu/testing.ts";
import { parameterSpecs } from "../trunk/parameters.ts";
import { SafetensorsFile, writeSafetensors } from "../checkpoint/safetensors.ts";
import { tinyConfig, tinyTrain, tokenSource } from "../training/trainer_testing.ts";
import { measureParity, type ParityOptions, type ParityResult } from "./parity.ts";
import { compareCurves, curveDifferences, mergeParity } from "./parity_compare.ts";
import type { WayResult } from "./parity_way.ts";

const runtime = testRuntime();
const F32 = { runtime, precision: "f32" } as const;
const MIXED = { runtime, precision: "mixed" } as const;
const config = tinyConfig();

const measure = (folder: string, options: Partial<ParityOptions> = {}) =>
  measureParity({
    config,
    train: tinyTrain({ gradient_accumulation: 2, loss_scale: { initial: 1024 } }),
    seed: 3,
    text: { name: "noise", source: tokenSource(600, config.vocab_size) },
    ways: [F32],
    steps: 4,
    folder,
    open: () => openTestGpu(),
    ...options,
  });

Deno.test("measureParity() holds mixed precision against f32, and each against itself", async () => {
  await withFolder(async (folder) => {
    const said: string[] = [];
    const kept: ParityResult[] = [];
    const result = await measure(folder, {
      ways: [MIXED, F32],
      identity: { steps: 3, twice: true, resume: true },
      gradients: true,
      progress: (line) => void said.push(line),
      measured: (sofar) => void kept.push(sofar),
    });
    assertEquals(result.ways.map(({ way }) => way), [`${runtime}:f32`, `${runtime}:mixed`]);
    assertEquals(kept.map(({ ways }) => ways.length), [1, 2]);
    assertEquals(kept[1], result);
    assertEquals(result.setup.tokens_per_update, 52);
    assertAlmostEquals(result.setup.text.epochs, 16 / 46, 1e-12);
    const [f32, mixed] = result.ways as [WayResult, WayResult];
    for (const way of result.ways) {
      assertEquals([way.losses.length, way.gradient_norms.length, way.skipped], [4, 4, []]);
      assert(way.losses.every((loss) => loss !== null && loss > 3 && loss < 5));
      assert(way.tokens_per_second > 0 && way.peak_bytes > 1e5);
      const { twice, resumed, weights_sha256, steps } = way.identity!;
      assertEquals(steps, 3);
      const same = { same_losses: true, same_weights: true, weights_sha256 };
      assertEquals(twice, same);
      assertEquals(resumed, { stopped_at: 1, ...same });
      assert(weights_sha256 !== way.weights_sha256, "the fourth update changes the weights");
    }
    assertEquals([f32.loss_scales[0], mixed.loss_scales[0]], [1, 1024]);
    assert(mixed.weights_sha256 !== f32.weights_sha256);
    const [curve] = result.curves;
    assertEquals([curve!.way, curve!.reference, curve!.steps], [mixed.way, f32.way, 4]);
    assert(curve!.within && curve!.largest.nats! > 0 && curve!.largest.nats! < 0.01);
    assertEquals([f32.gradients, mixed.rounding], [undefined, undefined]);
    const rounding = f32.rounding!;
    assertEquals(rounding.reference, f32.way);
    assertEquals(rounding.parameters.length, mixed.gradients!.parameters.length);
    assert(rounding.whole.cosine > 0.999 && rounding.whole.cosine < 1);
    const gradients = mixed.gradients!;
    const trained = parameterSpecs(config).filter(({ held }) => !held).map(({ name }) => name);
    assertEquals(gradients.parameters.map(({ name }) => name), trained);
    assertEquals([gradients.reference, gradients.loss_scale], [f32.way, 1024]);
    assert(gradients.lowest.cosine > 0.999 && gradients.whole.cosine < 1);
    assertAlmostEquals(gradients.whole.length_ratio!, 1, 0.01);
    assertEquals(gradients.below, []);
    assert(said.some((line) => line.startsWith(`${mixed.way}: resumed run, update 3: loss `)));
    // Only the gradient stays, for a later call.
    const left = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
    assertEquals(left.length, 1);
    await spoilGradient(`${folder}/${left[0]}`, "layers.1.ffn.w1");
    const later = await measure(folder, { ways: [MIXED], gradients: true, steps: 1 });
    assertEquals(later.curves, []);
    assertEquals(later.ways[0]!.losses, mixed.losses.slice(0, 1));
    const { lowest, below, whole } = later.ways[0]!.gradients!;
    assertEquals(lowest.name, "layers.1.ffn.w1");
    assert(lowest.cosine < -0.999 && whole.cosine > 0.5);
    assertEquals(below, [lowest]);
  });
});

Deno.test("measureParity() starts a rounded way from other weights, and holds it against the whole ones", async () => {
  await withFolder(async (folder) => {
    const rounded = { ...F32, rounded: true } as const;
    const { ways, curves } = await measure(folder, {
      ways: [rounded, F32],
      identity: { twice: true, resume: true },
      gradients: true,
    });
    assertEquals(ways.map(({ way }) => way), [`${runtime}:f32`, `${runtime}:f32:rounded`]);
    const [whole, other] = ways as [WayResult, WayResult];
    assertEquals([whole.rounded, other.rounded, other.precision], [undefined, true, "f32"]);
    assert(other.weights_sha256 !== whole.weights_sha256);
    assertEquals([other.gradients, other.rounding], [undefined, undefined]);
    // A run that is resumed is not rounded again.
    assertEquals(other.identity!.twice!.same_weights, true);
    assertEquals(other.identity!.resumed!.same_weights, true);
    assertEquals([curves.length, curves[0]!.reference], [1, whole.way]);
    const { nats } = curves[0]!.largest;
    assert(nats! > 0 && nats! < 0.01, `${nats} nats`);
    await assertRejects(
      () => measure(folder, { ways: [rounded], gradients: true, seed: 4 }),
      RangeError,
      "None of the ways is f32",
    );
    await assertRejects(
      () => measure(folder, { ways: [{ ...MIXED, rounded: true }] }),
      RangeError,
      "rounded for a training in f32",
    );
  });
});

/** Turns one parameter's gradient around in a file. */
async function spoilGradient(path: string, which: string): Promise<void> {
  using file = await SafetensorsFile.open(path);
  const tensors = [];
  for (const name of file.tensors.keys()) {
    const { dtype, shape, data } = await file.read(name);
    const values = (data as Float32Array<ArrayBuffer>).map((v) => name === which ? -v : v);
    tensors.push({ name, dtype, shape, data: values });
  }
  const { metadata } = file;
  await writeSafetensors(`${path}.new`, tensors, { metadata });
  await Deno.rename(`${path}.new`, path);
}

Deno.test("measureParity() sees when a second run is not the first", async () => {
  await withFolder(async (folder) => {
    const good = tokenSource(600, config.vocab_size);
    let reads = 0;
    // Once to hash the text, two sequences for the first batch, once to train: from then on it is another text.
    const change = 2 * (4 * 4) + 2;
    const source = {
      length: good.length,
      read: (at: number, count: number) =>
        good.read(reads++ < change ? at : (at + 200) % 580, count),
    };
    const { ways: [way] } = await measure(folder, {
      text: { name: "fickle", source },
      identity: { twice: true, resume: true },
    });
    for (const same of [way!.identity!.twice!, way!.identity!.resumed!]) {
      assertEquals([same.same_losses, same.same_weights], [false, false]);
      assert(same.weights_sha256 !== way!.identity!.weights_sha256);
    }
  });
});

Deno.test("measureParity() keeps what it has when it is interrupted, and goes on with it", async () => {
  await withFolder(async (folder) => {
    const whole = tokenSource(600, config.vocab_size);
    const identity = { steps: 3, twice: true, resume: false };
    const full = await measure(folder, { identity });
    const [way] = full.ways as [WayResult];
    /** Measures until so many sequences were read in training, and gives what was kept then: before, all are hashed and two are a batch. */
    const interrupted = async (reads: number) => {
      const controller = new AbortController();
      let left = 4 * 4 + 2 + reads;
      const read = (at: number, count: number) => {
        if (left-- === 0) controller.abort(new Error("Enough"));
        return whole.read(at, count);
      };
      const kept: ParityResult[] = [];
      const run = measure(folder, {
        identity,
        text: { name: "noise", source: { length: whole.length, read } },
        signal: controller.signal,
        measured: (sofar) => void kept.push(sofar),
      });
      await assertRejects(() => run, Error, "Enough");
      return kept.at(-1);
    };
    assertEquals(await interrupted(-1), undefined, "no update was done");
    // Four sequences an update: in the second update of the curve, and in the first of its second run.
    const [early] = (await interrupted(4))!.ways;
    assertEquals([early!.stopped, early!.losses], [true, way.losses.slice(0, 2)]);
    const stopped = (await interrupted(16))!;
    const [late] = stopped.ways;
    assertEquals([late!.stopped, late!.identity], [true, undefined]);
    assertEquals([late!.losses, late!.weights_sha256], [way.losses, way.weights_sha256]);

    const said: string[] = [];
    const goOn = (result: ParityResult, more: Partial<ParityOptions> = {}) =>
      measure(folder, {
        identity,
        known: { name: "a.json", result },
        progress: (line) => void said.push(line),
        ...more,
      });
    const open = () => Promise.reject(new Error("No device should be opened"));
    assertEquals(await goOn(full, { open }), full);
    assertEquals(said, [`${runtime}:f32: measured before, ${way.date}`]);
    await assertRejects(() => goOn(stopped, { open }), Error, "No device");
    await assertRejects(() => goOn(full, { open, ways: [MIXED] }), Error, "No device");
    await assertRejects(
      () => goOn(full, { open, identity: { ...identity, steps: 4 } }),
      Error,
      "No device",
    );
    // What is not asked for stays.
    const more = await goOn(full, { ways: [MIXED] });
    assertEquals(more.ways.map(({ way }) => way), [`${runtime}:mixed`, way.way]);
    assertEquals(more.ways[1], way);
    assertEquals(more.curves.map(({ way }) => way), [`${runtime}:mixed`]);
    await assertRejects(
      () => goOn(full, { open, seed: 4 }),
      RangeError,
      "a.json is of another training: seed, text differ",
    );
  });
});

Deno.test("measureParity() makes the gradient to compare with anew where it goes on without it", async () => {
  await withFolder(async (folder) => {
    const known = { name: "a.json", result: await measure(`${folder}/a`, { gradients: true }) };
    const both = { ways: [F32, MIXED], gradients: true, known };
    const result = await measure(`${folder}/b`, both);
    const [f32, mixed] = result.ways as [WayResult, WayResult];
    assertEquals([f32.gradients, mixed.rounding], [undefined, undefined]);
    assertEquals(mixed.gradients!.reference, f32.way);
    assert(f32.rounding && f32.weights_sha256 === known.result.ways[0]!.weights_sha256);
    // What has nothing left to compare needs none.
    const open = () => Promise.reject(new Error("No device should be opened"));
    const again = { name: "b.json", result };
    const ways = [MIXED];
    assertEquals(
      (await measure(`${folder}/c`, { ...both, ways, known: again, open })).ways.length,
      2,
    );
  });
});

Deno.test("measureParity() refuses what cannot be before it opens a device", async () => {
  await withFolder(async (folder) => {
    const refused = async (options: Partial<ParityOptions>, message: string) => {
      const open = () => Promise.reject(new Error("No device should be opened"));
      await assertRejects(() => measure(folder, { open, ...options }), RangeError, message);
    };
    await refused({ ways: [] }, "There is no way to measure");
    await refused({ ways: [F32, MIXED, F32] }, `The way ${runtime}:f32 is named twice`);
    await refused({ ways: [MIXED], gradients: true }, "None of the ways is f32");
    await refused({ steps: 1, identity: { twice: true, resume: true } }, "fewer than 2 updates");
    const text = { name: "odd text", source: tokenSource(600, 90) };
    await refused({ text }, "odd text has the token");
    await refused({ text: { name: "none", source: tokenSource(13, 9) } }, "needs 14");
  });
});

const way = (name: "f32" | "mixed", losses: readonly (number | null)[]) =>
  ({ way: `deno:${name}`, precision: name, losses }) as WayResult;

Deno.test("compareCurves() finds the largest difference of updates and of means", () => {
  const reference = way("f32", Array.from({ length: 30 }, (_, i) => 5 - i / 10));
  const apart = (at: number) => at === 4 ? -0.05 : at >= 20 ? 0.01 : 0;
  const other = way("mixed", reference.losses.map((loss, i) => loss! + apart(i)));
  const [curve] = compareCurves([other, reference]);
  assertAlmostEquals(curve!.largest.nats!, 0.05, 1e-12);
  assertEquals([curve!.largest.step, curve!.within], [4, false]);
  assertAlmostEquals(curve!.largest_mean.nats!, 0.01, 1e-12);
  assertEquals(curve!.largest_mean.step, 29);
  assertAlmostEquals(curve!.mean_absolute!, 0.15 / 30, 1e-12);
  assertEquals(compareCurves([reference, way("mixed", [4.99])])[0]!.within, true);
  assertEquals(compareCurves([other]), []);
  const broken = way("mixed", [5, null, 4.8]);
  const { largest, within, mean_absolute } = compareCurves([reference, broken])[0]!;
  assertEquals([largest, within, mean_absolute], [{ nats: null, step: 1 }, false, null]);
  assertEquals(curveDifferences(broken, reference).slice(0, 2), [0, null]);
});

Deno.test("mergeParity() joins ways of the same training alone", () => {
  const result = (ways: WayResult[], steps = 2): ParityResult => ({
    format: "ethos-parity-1",
    setup: { steps, seed: 1 } as ParityResult["setup"],
    ways,
    curves: [],
  });
  const merged = mergeParity([result([way("mixed", [5, 4.9])]), result([way("f32", [5, 4.95])])]);
  assertEquals(merged.ways.map(({ way }) => way), ["deno:mixed", "deno:f32"]);
  assertAlmostEquals(merged.curves[0]!.largest.nats!, 0.05, 1e-12);
  const named = (name: string, sha256: string): ParityResult => ({
    ...result([]),
    setup: { text: { name, sha256 } } as ParityResult["setup"],
  });
  assertEquals(mergeParity([named("a", "1"), named("b", "1")]).setup.text.name, "a");
  assertThrows(() => mergeParity([named("a", "1"), named("a", "2")]), RangeError, "text differ");
  assertThrows(
    () => mergeParity([result([]), result([], 3)]),
    RangeError,
    "Result 2 is of another training than the first: steps differ",
  );
  assertThrows(
    () => mergeParity([result([way("f32", [5])]), result([way("f32", [5])])]),
    RangeError,
    "has deno:f32, which an earlier one has",
  );
});
