import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { decodeSamples } from "../../pipeline/store/series/samples.ts";
import type { JsonValue, NodeOutput, StageContext } from "../../pipeline/stage.ts";
import {
  BYTE_VOCABULARY,
  SMALL_TRAINING,
  writeDataset,
} from "../commands/model/checkpoint_testing.ts";
import { runStage } from "../testing.ts";
import { train, type TrainParams } from "./train.ts";

const SMALL = SMALL_TRAINING as { readonly train: Record<string, JsonValue> };
const SAMPLES = { sample_every: 2, sample_prompts: ["", "the cat"], sample_tokens: 9 };

interface Scene {
  readonly folder: string;
  readonly dataset: NodeOutput;
}

/** Trains the small model with more keys in its section `train`; `during` is called after each progress. */
async function trained({ folder, dataset }: Scene, name: string, options: {
  readonly keys?: Record<string, JsonValue>;
  readonly during?: (step: number) => void;
  readonly inputs?: Record<string, NodeOutput[]>;
} = {}) {
  const { keys = {}, during, inputs } = options;
  const run = await runStage(
    train,
    {
      params: { ...SMALL, train: { ...SMALL.train, ...keys } },
      inputs: { dataset: [dataset], ...inputs },
      dir: join(folder, name),
    },
    (context: StageContext<TrainParams>) =>
      train.run({ ...context, progress: () => ({ update: (step) => during?.(step) }) }),
  );
  const files = new Map(
    run.output.files("checkpoint").map((file) => [
      file,
      Deno.readFileSync(run.output.file("checkpoint", file)),
    ]),
  );
  const written = files.get("samples.jsonl");
  files.delete("samples.jsonl");
  const text = written && new TextDecoder().decode(written);
  return {
    ...run,
    files,
    metrics: run.metrics.filter(({ measured }) => !measured),
    ...(text !== undefined && { text }),
  };
}

async function scene(work: (scene: Scene) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await work({ folder, dataset: await writeDataset(join(folder, "dataset")) });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("samples change no bit of a training, and a killed one writes the same, each once", () =>
  scene(async (scene) => {
    const without = await trained(scene, "without");
    assertEquals([without.text, without.samples], [undefined, []]);
    const whole = await trained(scene, "whole", { keys: { ...SAMPLES, sample_every: 1 } });
    assertEquals(whole.files, without.files);
    assertEquals(whole.metrics, without.metrics);
    assertEquals(whole.json, without.json);
    const samples = decodeSamples(whole.text!);
    assertEquals(
      samples.map(({ step, index, prompt }) => [step, index, prompt]),
      [1, 2, 3, 4].flatMap((step) => [[step, 0, ""], [step, 1, "the cat"]]),
    );
    assert(samples.every(({ text, finish }) => text.length > 0 || finish === "endoftext"));
    // Draws depend on the step and on the prompt's place.
    assert(new Set(samples.map(({ text }) => text)).size > 4);

    // The checkpoint is after update 2; updates 3 and 4 are trained again.
    const kill = (step: number) => {
      if (step === 4) throw new Error("killed");
    };
    const keys = { ...SAMPLES, sample_every: 1 };
    await assertRejects(
      () => trained(scene, "killed", { keys, during: kill }),
      Error,
      "killed",
    );
    const kept = decodeSamples(
      await Deno.readTextFile(join(scene.folder, "killed", "samples.jsonl")),
    );
    assertEquals(kept.at(-1)!.step, 3);
    const resumed = await trained(scene, "killed", { keys });
    assertEquals(resumed.samples.map(({ step }) => step), [3, 3, 4, 4]);
    assertEquals(resumed.text, whole.text);
    assertEquals(resumed.files, without.files);
  }));

Deno.test("samples follow the seed, the temperature and the weights; the last update has some", () =>
  scene(async (scene) => {
    const texts = async (name: string, keys: Record<string, JsonValue>) =>
      decodeSamples((await trained(scene, name, { keys: { ...SAMPLES, ...keys } })).text!);
    const warm = await texts("warm", { sample_every: 3 });
    assertEquals(warm.map(({ step }) => step), [3, 3, 4, 4]);
    const cold = await texts("cold", { sample_every: 3, sample_temperature: 0 });
    assertNotEquals(cold, warm);
    assertEquals(await texts("again", { sample_every: 3, sample_temperature: 0 }), cold);
    // The most likely tokens are those of `generate`.
    const { TextSampler } = await import("../../model/inference/text_samples.ts");
    const { openInferenceModel } = await import("../../model/inference/open.ts");
    const { openTestGpu } = await import("../../model/gpu/testing.ts");
    const { openTokenizer } = await import("../../model/text/tokenizer.ts");
    const path = join(scene.folder, "cold", "output", "checkpoint", "last", "model.safetensors");
    using model = await openInferenceModel(await openTestGpu(), path);
    using sampler = await TextSampler.create(model, {
      tokenizer: await openTokenizer(BYTE_VOCABULARY),
      prompts: SAMPLES.sample_prompts,
      tokens: 9,
      temperature: 0,
      seed: 7,
    });
    const last = cold.filter(({ step }) => step === 4);
    assertEquals((await sampler.take(1)).map(({ text }) => text), last.map(({ text }) => text));
  }));

Deno.test("an extension begins with the samples of the finished training", () =>
  scene(async (scene) => {
    const finished = await trained(scene, "finished", { keys: SAMPLES });
    const longer = await trained(scene, "longer", {
      keys: { ...SAMPLES, extend: 6 },
      inputs: { finished: [finished.output] },
    });
    assert(longer.text!.startsWith(finished.text!));
    assertEquals(decodeSamples(longer.text!).map(({ step }) => step), [2, 2, 4, 4, 6, 6]);
    assertEquals(longer.samples.map(({ step }) => step), [6, 6]);
    const whole = await trained(scene, "whole", { keys: { ...SAMPLES, steps: 6 } });
    assertEquals(decodeSamples(whole.text!), decodeSamples(longer.text!));
  }));

Deno.test("a prompt beyond the model's positions is refused before the first update", () =>
  scene(async (scene) => {
    const model = {
      ...(SMALL as unknown as { model: Record<string, JsonValue> }).model,
      trunk: { positions: "learned", max_positions: 20 },
    };
    const keys = { ...SMALL.train, ...SAMPLES, sample_prompts: ["a", "b".repeat(30)] };
    const error = await assertRejects(
      () =>
        runStage(train, {
          params: { ...SMALL, model, train: keys },
          inputs: { dataset: [scene.dataset] },
          dir: join(scene.folder, "long"),
        }),
      Error,
    );
    assertEquals(
      error.message,
      "train.sample_prompts[1] has 31 tokens with those that begin a text; expected at most 20, the model's positions",
    );
  }));
