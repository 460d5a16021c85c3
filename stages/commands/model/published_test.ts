/** Published models in the commands: their numbers against float64, their text, and what is refused. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { dirname, join } from "@std/path";
import { withFolder } from "../../../model/checkpoint/folder_testing.ts";
import { openTestGpu } from "../../../model/gpu/testing.ts";
import { PretrainedCheckpoint } from "../../../model/pretrained/checkpoint.ts";
import {
  SMALL_LLAMA,
  SMALL_NEOX,
  writePretrained,
  type WritePretrainedOptions,
} from "../../../model/pretrained/pretrained_testing.ts";
import { openPretrainedTokenizer } from "../../../model/pretrained/tokenizer.ts";
import { crossEntropy } from "../../../model/reference/loss.ts";
import { type Matrix, matrix, row } from "../../../model/reference/matrix.ts";
import { networkForward } from "../../../model/reference/network.ts";
import {
  besideCheckout,
  byteTokenizer,
  markTokenizer,
} from "../../../model/text/tokenizer_json_testing.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { runTask } from "../speed/task_testing.ts";
import { someText } from "./checkpoint_testing.ts";
import { evaluateCheckpoint, type EvaluateCheckpointOptions } from "./evaluate.ts";
import { generate, type GenerateOptions } from "./generate.ts";

/** Writes a whole model: tokens that begin texts as Llama's do, or none as with Pythia. */
async function writeModel(
  folder: string,
  family: "llama" | "gpt_neox",
  options: WritePretrainedOptions & { readonly config?: Readonly<Record<string, unknown>> } = {},
) {
  const llama = family === "llama";
  const eos_token_id = llama ? 2 : 0;
  const config = { ...(llama ? SMALL_LLAMA : SMALL_NEOX), eos_token_id, ...options.config };
  await writePretrained(folder, config, options);
  const tokenizer = llama ? markTokenizer() : byteTokenizer();
  await Deno.writeTextFile(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  return folder;
}

/** The model in a folder in float64: the logits after each of the tokens. */
async function inFloat64(folder: string) {
  using checkpoint = await PretrainedCheckpoint.open(folder);
  const parameters = new Map<string, Float64Array>();
  await checkpoint.fill({
    architecture: checkpoint.architecture,
    writeState: (_, name, values) => void parameters.set(name, Float64Array.from(values)),
  });
  const { config } = checkpoint.architecture;
  const tokenizer = await openPretrainedTokenizer(folder, config.vocab_size);
  const logits = (tokens: readonly number[]): Matrix =>
    networkForward(config, parameters, { tokens, length: tokens.length, training: false }).logits;
  return { logits, tokenizer };
}

const evaluate = (changes: Partial<EvaluateCheckpointOptions>) =>
  evaluateCheckpoint({
    storeDir: "nowhere",
    micro_batch: 3,
    precision: "f32",
    gpu: () => openTestGpu(),
    ...changes,
  });

const continued = (changes: Partial<GenerateOptions>) =>
  generate({
    storeDir: "nowhere",
    prompt: "",
    max_tokens: 9,
    context: 64,
    sampling: { temperature: 0, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 },
    seed: 0,
    slide: false,
    num_stories: 1,
    precision: "f32",
    gpu: () => openTestGpu(),
    write() {},
    ...changes,
  });

for (const family of ["llama", "gpt_neox"] as const) {
  Deno.test(`A published model's measures and greedy text are those of float64, ${family}`, async () => {
    await withFolder(async (dir) => {
      const model = await writeModel(join(dir, "model"), family, { shards: 2, dtype: "BF16" });
      const { logits, tokenizer } = await inFloat64(model);
      const text = someText(300) + "\n\n\n" + someText(77);
      await Deno.writeTextFile(join(dir, "text.txt"), `${text}\n\n`);
      const length = 32;
      const ids = [...tokenizer.begin, ...tokenizer.encode(text)];
      const windows = Math.floor(ids.length / length);
      let [nats, bytes] = [0, 0];
      for (let w = 0; w < windows; w++) {
        const tokens = ids.slice(w * length, (w + 1) * length);
        const all = logits(tokens);
        const predicted = matrix(length - 1, all.columns);
        for (let i = 0; i < length - 1; i++) row(predicted, i).set(row(all, i));
        nats += crossEntropy(predicted, tokens.slice(1)).loss / windows;
        bytes += tokenizer.decodeBytes(tokens.slice(1)).length;
      }
      const score = await evaluate({ model, files: join(dir, "*.txt"), sequence_length: length });
      assertAlmostEquals(score.nats, nats, 1e-5);
      assertEquals([score.tokens, score.bytes], [windows * (length - 1), bytes]);
      assertAlmostEquals(score.perplexity!, Math.exp(nats), 1e-2);
      assertAlmostEquals(
        score.bits_per_byte!,
        nats * windows * (length - 1) / bytes / Math.LN2,
        1e-4,
      );
      assertEquals([score.checkpoint, score.documents], [model, "whole"]);
      assertEquals(score.sequence_length, length);
      const some = { model, files: join(dir, "*.txt"), sequence_length: length, tokens: 100 };
      assertEquals((await evaluate(some)).tokens, 3 * (length - 1));
      const mixed = await evaluate({
        model,
        files: join(dir, "*.txt"),
        sequence_length: length,
        precision: "mixed",
      });
      assertAlmostEquals(mixed.nats, nats, 1e-2);
      // The model's longest is the default.
      assertEquals((await evaluate({ model, files: join(dir, "*.txt") })).sequence_length, 64);

      for (const prompt of ["", "the cat"]) {
        const seen = [...tokenizer.begin, ...tokenizer.encode(prompt)];
        if (seen.length === 0) seen.push(tokenizer.endoftext);
        const start = seen.length;
        while (seen.length < start + 9) {
          const all = logits(seen);
          const last = row(all, all.rows - 1);
          const best = last.indexOf(Math.max(...last));
          if (tokenizer.ends.has(best)) break;
          seen.push(best);
        }
        const { stories: [story] } = await continued({ model, prompt });
        const made = seen.slice(start);
        const spelled = new TextDecoder().decode(tokenizer.decodeBytes(made));
        const trimmed = prompt === "" && tokenizer.trims ? spelled.replace(/^ /, "") : spelled;
        assertEquals([story!.prompt_tokens, story!.tokens], [start, made.length]);
        assertEquals(story!.text, trimmed);
      }
    });
  });
}

Deno.test("Options that can't be are refused in one line, before a device is opened", async () => {
  await withFolder(async (dir) => {
    const model = await writeModel(join(dir, "model"), "llama");
    const files = join(dir, "text.txt");
    await Deno.writeTextFile(files, someText(500));
    const gpu = () => Promise.reject(new Error("No device should be opened"));
    const refused = async (changes: Partial<EvaluateCheckpointOptions>, message: string) => {
      const error = await assertRejects(
        () => evaluate({ model, files, gpu, ...changes }),
        UserError,
        message,
      );
      assertEquals([error.exitCode, error.message.includes("\n")], [2, false]);
    };
    await refused({ checkpoint: "train" }, "Expected either --checkpoint or --model");
    await refused({ which: "best" }, "--which is best, which only --checkpoint has");
    await refused({ revision: "main" }, `--revision is main, but --model ${model} is a folder`);
    await refused({ model: "no such/folder/here" }, "there is no such folder; expected one");
    await refused({ documents: "single" }, "--documents is single, which only --checkpoint has");
    await refused({ separator: "--" }, "--separator is --, which only --checkpoint has");
    await refused({ sequence_length: 65 }, "but the model has 64 positions; lower it");
    await refused({ sequence_length: 1 }, "--sequence-length is 1; expected 2 or more");
    await refused({ tokens: 10 }, "--tokens is 10, fewer than the 63 predictions of a sequence");
    const split = await assertRejects(
      () => evaluate({ model, gpu, split: "train" }),
      UserError,
    );
    assertEquals(split.message, "--split is train, which only --checkpoint has.");
    await Deno.writeTextFile(join(dir, "short.txt"), "a b a");
    await refused({ files: join(dir, "short.txt") }, "fewer than a sequence of 64");
    await Deno.writeTextFile(join(dir, "blank.txt"), " \n\n");
    await refused({ files: join(dir, "blank.txt") }, "--files has no text");

    const bad = async (
      name: string,
      config: Readonly<Record<string, unknown>>,
      message: string,
    ) => {
      const folder = await writeModel(join(dir, name), "llama");
      const path = join(folder, "config.json");
      const before = JSON.parse(await Deno.readTextFile(path));
      await Deno.writeTextFile(path, JSON.stringify({ ...before, ...config }));
      await refused({ model: folder }, message);
    };
    await bad("window", { sliding_window: 9 }, "config.json: sliding_window is 9");
    await bad("end", { eos_token_id: null }, "eos_token_id is null; expected the token that ends");
    await bad("far", { eos_token_id: 300 }, "the token 300 that ends a text is not in it");
    const nan = await writeModel(join(dir, "nan"), "llama", {
      edit: (tensors) => void (tensors.get("model.norm.weight")!.values[3] = NaN),
    });
    const error = await assertRejects(() => evaluate({ model: nan, files }), UserError);
    assert(error.message.includes("tensor model.norm.weight has NaN at [3]"), error.message);
    await Deno.remove(join(model, "tokenizer.json"));
    await refused({}, "has no tokenizer.json");
    await assertRejects(
      () => continued({ model: "elsewhere/none/at/all", gpu }),
      UserError,
      "there is no such folder",
    );
  });
});

Deno.test("The tasks take a published model", async () => {
  await withFolder(async (dir) => {
    const model = await writeModel(join(dir, "model"), "gpt_neox");
    await Deno.writeTextFile(join(dir, "text.txt"), someText(400));
    const task = async (...args: string[]) => {
      const { code, stdout, stderr } = await runTask([...args, "--model", model], {
        env: { ETHOS_GPU: "none", HF_HUB_OFFLINE: "1", HF_HOME: join(dir, "home") },
      });
      return { code, stdout, stderr };
    };
    const score = await task("evaluate", "--files", join(dir, "text.txt"), "--gpu", "deno");
    assertEquals(score.code, 0, score.stderr);
    for (const name of ["nats", "perplexity", "bits/byte"]) assert(score.stdout.includes(name));
    const text = await task(
      "generate",
      "--prompt",
      "the cat",
      "--max-tokens",
      "3",
      "--gpu",
      "deno",
    );
    assertEquals(text.code, 0, text.stderr);
    assert(text.stdout.startsWith("the cat"));
    const none = await task("generate", "--checkpoint", "train");
    assertEquals([none.code, none.stdout], [2, ""]);
    const { code, stderr } = await runTask(["generate", "--model", "someone/nothing"], {
      env: { HF_HUB_OFFLINE: "1", HF_HOME: join(dir, "home") },
    });
    assertEquals(code, 2);
    assert(/HF_HUB_OFFLINE is set, and .* does not hold someone\/nothing at main/.test(stderr));
  });
});

const trained = besideCheckout("data/stories260k/model.safetensors");
const stories = besideCheckout("data/tinystories/valid.txt");

Deno.test({
  name: "A trained model has the perplexity that was measured elsewhere in float64",
  ignore: trained === undefined || stories === undefined,
  async fn() {
    const model = dirname(trained!);
    const measure = (precision: "f32" | "mixed", windows: number) =>
      evaluate({ model, files: stories!, tokens: windows * 511, precision, micro_batch: 4 });
    const score = await measure("f32", 100);
    assertEquals([score.tokens, score.sequence_length], [51100, 512]);
    assertAlmostEquals(score.perplexity!, 4.01012, 1e-5);
    const exact = await measure("f32", 8);
    const mixed = await measure("mixed", 8);
    assertAlmostEquals(mixed.perplexity!, exact.perplexity!, 1e-2);
    const { stories: [story] } = await continued({ model, max_tokens: 60, context: 512 });
    assert(
      story!.text.startsWith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.",
      ),
      story!.text,
    );
  },
});
