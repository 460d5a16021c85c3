/** The page in Chromium, on SwiftShader's WebGPU: served and opened as a file, beside `generate`. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join, toFileUrl } from "@std/path";
import { BYTES, COMPACT } from "../../../model/export/export_testing.ts";
import { openTestGpu } from "../../../model/gpu/testing.ts";
import {
  noisyTensors,
  smallModel,
  writeModelFile,
} from "../../../model/inference/inference_testing.ts";
import { samplingSchema } from "../../../model/inference/sampling.ts";
import type { ModelChanges } from "../../../model/testing.ts";
import { formatVocabulary, openTokenizer, type Vocabulary } from "../../../model/text/tokenizer.ts";
import { Browser } from "../../../pipeline/dashboard/chromium_testing.ts";
import { VOCABULARY_FILE } from "../../dataset.ts";
import { generate } from "../model/generate.ts";
import { exportModel } from "../publish/export_model.ts";
import { servePlayground, writePlayground } from "./playground.ts";

const PROMPT = "né the cat 😀 and";
/** The most likely token of those that were not there: a model of noise would repeat its last one. */
const GREEDY = { temperature: 0, repetition_penalty: 4 };
const MIXTURE: ModelChanges = { ffn: { kind: "topk_moe", num_experts: 5, d_expert: 20, top_k: 2 } };

/** A folder with exported models of noise. */
class Models implements AsyncDisposable {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async create(): Promise<Models> {
    return new Models(await Deno.makeTempDir());
  }

  /** Exports a small model; returns the folder that `export-model` writes. */
  async export(
    name: string,
    { vocabulary, changes = {} }: { vocabulary: Vocabulary; changes?: ModelChanges },
  ): Promise<string> {
    const folder = join(this.folder, `${name}_made`);
    await Deno.mkdir(folder);
    const architecture = smallModel(vocabulary.vocab_size, changes);
    await writeModelFile(
      join(folder, "model.safetensors"),
      architecture,
      noisyTensors(architecture, 5),
    );
    await Deno.writeTextFile(join(folder, VOCABULARY_FILE), formatVocabulary(vocabulary));
    const out = join(this.folder, name);
    const { storeDir } = this;
    await exportModel({ checkpoint: folder, out, license: "agpl-3.0", storeDir });
    return out;
  }

  /** A store that is not there. */
  get storeDir(): string {
    return join(this.folder, "none");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** A page that is served until it is disposed. */
async function served(checkpoint: string, storeDir: string) {
  const stop = new AbortController();
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const ended = servePlayground({
    checkpoint,
    storeDir,
    port: 0,
    signal: stop.signal,
    ready: ({ url }) => resolve(url),
  });
  ended.catch(reject);
  const url = await promise;
  return {
    url,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await ended;
    },
  };
}

/** The text that `generate` makes of the prompt. */
async function generated(
  checkpoint: string,
  { storeDir, max_tokens, sampling, context = 4096 }: {
    storeDir: string;
    max_tokens: number;
    sampling: Partial<Record<string, number>>;
    context?: number;
  },
): Promise<string> {
  const { stories } = await generate({
    checkpoint,
    storeDir,
    prompt: PROMPT,
    max_tokens,
    context,
    slide: true,
    num_stories: 1,
    sampling: samplingSchema.parse(sampling),
    seed: 7,
    precision: "f32",
    gpu: openTestGpu,
    write() {},
  });
  return stories[0]!.text;
}

const status = `document.getElementById("status")?.textContent`;
const error = `document.getElementById("error")?.textContent`;

async function ready(browser: Browser): Promise<void> {
  await browser.until(`${status} === "Ready" || ${error}`, 60_000);
  assertEquals(await browser.evaluate(error), "");
}

/** Fills the form and sends it. */
async function submit(browser: Browser, values: Readonly<Record<string, unknown>>): Promise<void> {
  await browser.evaluate(`(() => {
    for (const [id, value] of Object.entries(${JSON.stringify(values)})) {
      document.getElementById(id).value = value;
    }
    document.getElementById("form").requestSubmit();
  })()`);
}

/** The text that the page makes, and the numbers of the tokens that it read. */
async function made(
  browser: Browser,
  values: Readonly<Record<string, unknown>>,
): Promise<{ text: string; tokens: number[] }> {
  await submit(browser, { prompt: PROMPT, seed: 7, ...values });
  await browser.until(`document.getElementById("stop").disabled`, 60_000);
  assertEquals(await browser.evaluate(error), "");
  const text = `document.getElementById("text").lastChild.textContent`;
  // The heat map follows within a quarter of a second.
  await new Promise((resolve) => setTimeout(resolve, 500));
  const titles = `[...document.querySelectorAll("#heat tbody th")].map(({ title }) => title)`;
  return {
    text: await browser.evaluate<string>(text),
    tokens: (await browser.evaluate<string[]>(titles))
      .map((title) => Number(/\(token (\d+)\)$/.exec(title)![1])),
  };
}

Deno.test("a page makes the tokens that generate makes", async (t) => {
  await using models = await Models.create();
  const { storeDir } = models;
  await using browser = await Browser.start({ webgpu: true });

  await t.step("ETHOS, served", async () => {
    const checkpoint = await models.export("ethos", { vocabulary: COMPACT });
    const tokenizer = await openTokenizer(COMPACT);
    await using server = await served(checkpoint, storeDir);
    await browser.open(server.url);
    await ready(browser);
    assertStringIncludes(
      await browser.evaluate(`document.getElementById("device").textContent`),
      "swiftshader",
    );

    const sampling = GREEDY;
    const greedy = await generated(checkpoint, { storeDir, max_tokens: 40, sampling });
    const here = await made(browser, { ...sampling, max_tokens: 40 });
    assertEquals(here.text, greedy);
    // The text ends before its tokens run out, so every token was read, the first of them the end of a text.
    const prompt = [COMPACT.endoftext, ...tokenizer.encode(PROMPT)];
    assertEquals(here.tokens.slice(0, prompt.length), prompt);
    assertEquals(tokenizer.decode(here.tokens.slice(prompt.length)), greedy);
    assert(new Set(here.tokens).size > 25, `the text goes in circles: ${here.tokens}`);

    // Draws with every option, and a context that slides.
    const drawn = {
      temperature: 0.9,
      top_k: 50,
      top_p: 0.95,
      min_p: 0.01,
      repetition_penalty: 1.2,
    };
    const sliding = { max_tokens: 30, context: 32 };
    assertEquals(
      (await made(browser, { ...drawn, ...sliding })).text,
      await generated(checkpoint, { storeDir, sampling: drawn, ...sliding }),
    );
    assertEquals(browser.complaints, []);
  });

  await t.step("a mixture, from a file", async () => {
    const checkpoint = await models.export("mixture", {
      vocabulary: BYTES,
      changes: MIXTURE,
    });
    const out = join(models.folder, "page");
    const { files } = await writePlayground({ checkpoint, storeDir, out });
    assert(files.includes("model/0000.js"), `${files}`);
    await browser.open(toFileUrl(join(out, "index.html")).href);
    await ready(browser);
    const sampling = GREEDY;
    const here = await made(browser, { ...sampling, max_tokens: 40 });
    assertEquals(here.text, await generated(checkpoint, { storeDir, max_tokens: 40, sampling }));
    assert(new Set(here.tokens).size > 30, `the text goes in circles: ${here.tokens}`);
    assertEquals(browser.complaints, []);
  });
});
