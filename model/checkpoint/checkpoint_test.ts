import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import {
  bestModelPath,
  checkpointPath,
  listCheckpoints,
  loadCheckpoint,
  loadModel,
  pruneCheckpoints,
  readArchitecture,
  saveBestModel,
  saveCheckpoint,
  saveModel,
  verifyCheckpoint,
} from "./checkpoint.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { modelSchema } from "../config.ts";
import type { ModelConfig } from "../section.ts";
import { fromFlatForm } from "./flat_form.ts";
import { encodeSafetensors, parseSafetensors } from "./safetensors.ts";
import type { Trainer } from "../training/trainer.ts";
import {
  assertSameBits,
  batchesOf,
  makeTrainer,
  readAll,
  tinyModel,
  type TinyOptions,
} from "../training/trainer_testing.ts";

/** Runs a test in a folder of its own with trainers that are freed afterwards. */
async function scene(
  work: (make: (options?: TinyOptions) => Promise<Trainer>, folder: string) => Promise<void>,
): Promise<void> {
  const gpu = await openTestGpu();
  const folder = await Deno.makeTempDir();
  const trainers: Trainer[] = [];
  try {
    await work(async (options) => {
      const trainer = await makeTrainer(gpu, options);
      trainers.push(trainer);
      return trainer;
    }, folder);
  } finally {
    for (const trainer of trainers) trainer.destroy();
    await Deno.remove(folder, { recursive: true });
  }
}

/** A checkpoint after two updates in mixed precision, and the trainer that wrote it. */
async function saved(make: (options?: TinyOptions) => Promise<Trainer>, folder: string) {
  const trainer = await make({ train: { precision: "mixed", steps: 4 } });
  for (const step of [0, 1]) trainer.update(batchesOf(trainer, step));
  const path = checkpointPath(folder, 2);
  const best = await saveBestModel(folder, trainer, { step: 1, nats: 3.5 });
  await saveCheckpoint(path, trainer, { step: 2, best });
  return { trainer, path };
}

Deno.test("A checkpoint gives back every bit, and training goes on as if nothing had happened", async () => {
  await scene(async (make, folder) => {
    const { trainer, path } = await saved(make, folder);
    assertEquals((await Array.fromAsync(Deno.readDir(path), ({ name }) => name)).sort(), [
      "model.safetensors",
      "optimizer.safetensors",
      "state.json",
    ]);
    const other = await make({ seed: 99, train: { precision: "mixed", steps: 4 } });
    const state = await loadCheckpoint(path, other);
    const { step, nats, bytes } = state.best!;
    assertEquals([step, nats], [1, 3.5]);
    assertEquals((await Deno.stat(bestModelPath(folder, 1))).size, bytes);
    assertEquals(await verifyCheckpoint(path), state);
    assertEquals([state.step, other.step], [2, 2]);
    assertSameBits(await readAll(other), await readAll(trainer));
    assertEquals(await other.readControl(), await trainer.readControl());
    for (const step of [2, 3]) {
      trainer.update(batchesOf(trainer, step));
      other.update(batchesOf(other, step));
    }
    assertSameBits(await readAll(other), await readAll(trainer));
    const [, , third] = await trainer.records();
    assertEquals((await other.records())[0], third);
  });
});

Deno.test("A model file is safetensors with its configuration, and says how it was made", async () => {
  await scene(async (make, folder) => {
    const trainer = await make();
    const path = join(folder, "model.safetensors");
    await saveModel(path, trainer);
    assertEquals((await readArchitecture(path)).config, trainer.config);
    const { tensors } = parseSafetensors(await Deno.readFile(path));
    assertEquals(tensors.get("layers.1.ffn.z")?.shape, [49, 8]);
    // Another execution of the same model reads it.
    const other = await make({ seed: 7, model: { ffn: { execution: "naive" } } });
    await loadModel(path, other);
    const value = (all: Map<string, Float32Array>) =>
      new Map([...all].filter(([name]) => name.startsWith("value.")));
    assertSameBits(value(await readAll(other)), value(await readAll(trainer)));
  });
});

Deno.test("A file with the flat configuration of earlier versions is read", () => {
  const { vocab_size, d_model, num_layers, leading_dense, attention, ffn } = tinyModel().config;
  const { kind: _attention, rope_base: _base, ...sizes } = attention;
  const { kind, ...experts } = ffn;
  const shared = { vocab_size, d_model, num_layers, d_ffn: 28, ...sizes };
  const ethos = fromFlatForm({
    kind,
    num_dense_layers: leading_dense.num_layers,
    ...shared,
    ...experts,
  });
  assertEquals(withDefaults(ethos), tinyModel().config);
  const dense = fromFlatForm({ kind: "dense", num_dense_layers: 1, ...shared, ...experts });
  assertEquals(
    withDefaults(dense),
    tinyModel({ leading_dense: { num_layers: 0 }, ffn: { kind: "dense", d_ffn: 28 } }).config,
  );
});

/** A configuration as `modelSchema` completes it. */
function withDefaults(value: unknown): ModelConfig {
  const { vocab_size, ...section } = value as ModelConfig;
  return { ...modelSchema.parse(section), vocab_size };
}

Deno.test("loadCheckpoint() names what is wrong", async (t) => {
  await scene(async (make, folder) => {
    const { trainer, path } = await saved(make, folder);
    const refuses = (name: string, file: string, damage: () => Promise<void>, expected: string) =>
      t.step(name, async () => {
        const at = join(path, file);
        const whole = await Deno.readFile(at);
        await damage();
        const error = await assertRejects(() => loadCheckpoint(path, trainer), Error, expected);
        assert(error.message.includes(at), error.message);
        await Deno.writeFile(at, whole);
      });
    const model = join(path, "model.safetensors");
    const optimizer = join(path, "optimizer.safetensors");
    const state = join(path, "state.json");
    const edit = async (change: (state: Record<string, unknown>) => void) => {
      const json = JSON.parse(await Deno.readTextFile(state));
      change(json);
      await Deno.writeTextFile(state, JSON.stringify(json));
    };
    /** Rewrites the model's tensors and metadata. */
    const rewrite = async (
      change: (file: ReturnType<typeof parseSafetensors>) => Record<string, string> | void,
    ) => {
      const file = parseSafetensors(await Deno.readFile(model));
      const metadata = change(file) ?? file.metadata;
      const tensors = Array.from(file.tensors, ([name, tensor]) => ({ name, ...tensor }));
      await Deno.writeFile(model, encodeSafetensors(tensors, { metadata }));
    };
    await refuses(
      "a truncated model",
      "model.safetensors",
      async () => await Deno.truncate(model, (await Deno.stat(model)).size - 5),
      "safetensors",
    );
    await refuses(
      "a truncated header",
      "model.safetensors",
      () => Deno.truncate(model, 20),
      "safetensors",
    );
    await refuses("a header of noise", "optimizer.safetensors", async () => {
      const bytes = await Deno.readFile(optimizer);
      bytes.fill(0xff, 8, 40);
      await Deno.writeFile(optimizer, bytes);
    }, "safetensors");
    await refuses("no moments", "optimizer.safetensors", async () => {
      await Deno.writeFile(optimizer, encodeSafetensors([]));
    }, "has no tensor m.embed.weight");
    await refuses("a missing tensor", "model.safetensors", () =>
      rewrite(({ tensors }) => {
        tensors.delete("layers.1.ffn.w1");
      }), "has no tensor layers.1.ffn.w1");
    await refuses("another shape", "model.safetensors", () =>
      rewrite(({ tensors }) => {
        const norm = tensors.get("final_norm.weight")!;
        tensors.set("final_norm.weight", { ...norm, shape: [4, 5] });
      }), "final_norm.weight is F32 [4, 5], expected F32 [20]");
    await refuses(
      "no configuration",
      "model.safetensors",
      () => rewrite(() => ({})),
      "no model configuration",
    );
    await refuses(
      "a configuration that is no JSON",
      "model.safetensors",
      () => rewrite(() => ({ config: "{" })),
      "not JSON",
    );
    await refuses(
      "an impossible configuration",
      "model.safetensors",
      () => rewrite(() => ({ config: JSON.stringify({ ...trainer.config, d_model: 3 }) })),
      "3 is not a multiple of 4",
    );
    await refuses(
      "an impossible vocabulary",
      "model.safetensors",
      () => rewrite(() => ({ config: JSON.stringify({ ...trainer.config, vocab_size: 0 }) })),
      "vocab_size",
    );
    await refuses("half a state", "state.json", () => Deno.truncate(state, 30), "state");
    await refuses(
      "a foreign state",
      "state.json",
      () => edit((json) => json["format"] = "something-else"),
      "format",
    );
    await refuses(
      "a state with too few numbers",
      "state.json",
      () => edit((json) => json["control"] = [1, 2]),
      "control",
    );
    await refuses(
      "another digit in the state",
      "state.json",
      async () => {
        const text = await Deno.readTextFile(state);
        await Deno.writeTextFile(state, text.replace('"nats": 3.5', '"nats": 3.6'));
      },
      "does not have the SHA-256 that it says",
    );
    await refuses("no state", "state.json", () => Deno.remove(state), "is missing");

    await t.step("a checkpoint of another model", async () => {
      const other = await make({ model: { ffn: { d_latent: 12, router_batch_norm: false } } });
      await assertRejects(
        () => loadCheckpoint(path, other),
        Error,
        "is of another model: ffn.router_batch_norm is true, expected false; ffn.d_latent is 8, expected 12",
      );
    });
    await t.step("nothing, once whole again", async () => {
      assertEquals((await loadCheckpoint(path, trainer)).step, 2);
    });
  });
});

Deno.test("verifyCheckpoint() finds one changed bit in any file, and names the file", async (t) => {
  await scene(async (make, folder) => {
    const { path } = await saved(make, folder);
    const flip = async (file: string) => {
      const bytes = await Deno.readFile(file);
      bytes[bytes.length - 3]! ^= 4;
      await Deno.writeFile(file, bytes);
    };
    const cases: [string, (file: string) => Promise<void>, string][] = [
      [join(path, "model.safetensors"), flip, "has the SHA-256"],
      [join(path, "optimizer.safetensors"), flip, "has the SHA-256"],
      [bestModelPath(folder, 1), flip, "has the SHA-256"],
      [join(path, "optimizer.safetensors"), (file) => Deno.truncate(file, 1000), "has 1000 bytes"],
      [join(path, "model.safetensors"), (file) => Deno.remove(file), "is missing"],
      [bestModelPath(folder, 1), (file) => Deno.remove(file), "is missing"],
      [join(path, "state.json"), async (file) => {
        await Deno.remove(file);
        await Deno.mkdir(file);
      }, "can't be read: "],
    ];
    for (const [file, damage, expected] of cases) {
      await t.step(`${file.slice(folder.length + 1)} ${expected}`, async () => {
        const whole = await Deno.readFile(file);
        await damage(file);
        const error = await assertRejects(() => verifyCheckpoint(path), Error, expected);
        assert(error.message.startsWith(file), error.message);
        assertEquals(error.message.includes("\n"), false);
        await Deno.remove(file, { recursive: true }).catch(() => {});
        await Deno.writeFile(file, whole);
        await verifyCheckpoint(path);
      });
    }
  });
});

Deno.test("pruneCheckpoints() keeps the best models that checkpoints name, and those of no other", async () => {
  await scene(async (make, folder) => {
    const trainer = await make();
    const best = async (step: number) => await saveBestModel(folder, trainer, { step, nats: 3 });
    const [first, second] = [await best(1), await best(4)];
    await best(9);
    for (const [step, best] of [[3, first], [6, second], [8, second]] as const) {
      await saveCheckpoint(checkpointPath(folder, step), trainer, { step, best });
    }
    await Deno.writeTextFile(`${bestModelPath(folder, 5)}.partial`, "");
    const kept = () => [...Deno.readDirSync(join(folder, "best"))].map(({ name }) => name);
    await pruneCheckpoints(folder, 2);
    assertEquals(kept(), ["step-000000004.safetensors"]);
    // Nobody knows which model a damaged checkpoint names.
    await best(9);
    await Deno.writeTextFile(join(checkpointPath(folder, 6), "state.json"), "{");
    await pruneCheckpoints(folder, 2);
    assertEquals(kept().length, 2);
  });
});

Deno.test("pruneCheckpoints() keeps the last ones and sweeps up what was half-written", async () => {
  const folder = await Deno.makeTempDir();
  try {
    assertEquals(await listCheckpoints(join(folder, "nowhere")), []);
    for (const step of [5, 100, 20, 1000]) {
      await Deno.mkdir(checkpointPath(folder, step));
      await Deno.writeTextFile(join(checkpointPath(folder, step), "state.json"), "{}");
    }
    await Deno.mkdir(`${checkpointPath(folder, 2000)}.partial`);
    await Deno.mkdir(join(folder, "best"));
    const steps = async () => (await listCheckpoints(folder)).map(({ step }) => step);
    assertEquals(await steps(), [5, 20, 100, 1000]);
    await pruneCheckpoints(folder, 2);
    assertEquals(await steps(), [100, 1000]);
    assertEquals((await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort(), [
      "best",
      "step-000000100",
      "step-000001000",
    ]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("saveCheckpoint() replaces what a killed run left under its name", async () => {
  await scene(async (make, folder) => {
    const path = checkpointPath(folder, 2);
    for (const left of [path, `${path}.partial`]) {
      await Deno.mkdir(left);
      await Deno.writeTextFile(join(left, "state.json"), "rubbish");
    }
    const { trainer } = await saved(make, folder);
    assertEquals((await loadCheckpoint(path, trainer)).step, 2);
    const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
    assertEquals(names.sort(), ["best", "step-000000002"]);
  });
});
