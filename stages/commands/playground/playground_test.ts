/** The page in Chromium, on SwiftShader's WebGPU: served and opened as a file, beside `generate`. */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { join, toFileUrl } from "@std/path";
import { loadModel } from "../../../model/checkpoint/checkpoint.ts";
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
import { UserError } from "../../../pipeline/errors.ts";
import { VOCABULARY_FILE } from "../../dataset.ts";
import { openCheckpoint } from "../model/checkpoints.ts";
import { generate } from "../model/generate.ts";
import { exportModel } from "../publish/export_model.ts";
import { Received } from "./page/received.ts";
import { PAGE_GLOBAL } from "./page_model.ts";
import { servePlayground, writePlayground } from "./playground.ts";
import { buildScript } from "./script.ts";
import { buildSite } from "./site.ts";

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

  await t.step("a text that is stopped, and inputs that can't be", async () => {
    await submit(browser, { max_tokens: 4000, temperature: 1, repetition_penalty: 1 });
    await browser.until(`/^[0-9]+ …$/.test(${status})`);
    await browser.evaluate(`document.getElementById("stop").click()`);
    await browser.until(`/^Stopped after [0-9]+$/.test(${status})`);

    const refused = async (values: Readonly<Record<string, unknown>>) => {
      await submit(browser, values);
      await browser.until(`${error} !== "" && document.getElementById("stop").disabled`);
      return await browser.evaluate<string>(error);
    };
    const prompt = "word ".repeat(20);
    assertEquals(
      await refused({ prompt, context: 64 }),
      "The prompt has 101 tokens, but the context holds 64; raise the context or shorten it.",
    );
    assertEquals(
      await refused({ context: "" }),
      "Context is no number; expected a whole number from 2 to 16777216.",
    );
    assertStringIncludes(await refused({ context: 256, top_p: 0 }), "top p: ");
    // Whatever was typed, the page goes on.
    assertEquals(
      (await made(browser, { ...GREEDY, top_p: 1, max_tokens: 2 })).text.length > 0,
      true,
    );
  });

  await t.step("names and texts are no markup; a page that is wide scrolls inside", async () => {
    await submit(browser, {
      prompt: `<img src=x onerror="document.title='taken'">`,
      max_tokens: 3,
    });
    await browser.until(`document.getElementById("stop").disabled`);
    assertEquals(await browser.evaluate(`document.querySelectorAll("main img").length`), 0);
    for (const width of [1400, 390]) {
      await browser.picture(width, "dark");
      const over = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
      assertEquals(await browser.evaluate(over), 0, `${width} pixels`);
    }
    // Numbers stand beside the colours, in a table whose rows and columns have names.
    const cells = await browser.evaluate<[string, string][]>(
      `[...document.querySelectorAll("#heat td[class^=h]")].map((td) => [td.className, td.textContent])`,
    );
    assert(cells.length > 0);
    for (const [step, number] of cells) {
      assert(/^h[1-7]$/.test(step) && /^(<|\d*)\.\d+$/.test(number), `${step} ${number}`);
    }
    assertEquals(
      await browser.evaluate(`document.querySelectorAll("#heat th:not([scope])").length`),
      0,
    );
    assertStringIncludes(
      await browser.evaluate(`document.getElementById("summary").textContent`),
      "of 5 experts, at most 2 each",
    );
    assertEquals(browser.complaints, []);
  });

  await t.step("a folder that lacks a file, and a browser without WebGPU, say so", async () => {
    const page = join(models.folder, "page");
    await Deno.remove(join(page, "model/0000.js"));
    const url = toFileUrl(join(page, "index.html")).href;
    await browser.open(url);
    await browser.until(`${error}?.startsWith("model/0000.js could not be loaded")`);
    const without = `Object.defineProperty(Navigator.prototype, "gpu", { value: undefined })`;
    await browser.send("Page.addScriptToEvaluateOnNewDocument", { source: without });
    await using server = await served(join(models.folder, "ethos"), storeDir);
    await browser.open(server.url);
    await browser.until(`${error}?.startsWith("This browser has no WebGPU; expected ")`);
    assertEquals(await browser.evaluate(`document.getElementById("generate").disabled`), true);
  });
});

Deno.test("only the page's files are served, to names of this machine", async () => {
  await using models = await Models.create();
  const checkpoint = await models.export("mixture", { vocabulary: BYTES, changes: MIXTURE });
  const { storeDir } = models;
  await using server = await served(checkpoint, storeDir);
  const { port } = new URL(server.url);
  /** The answer to a request as it is written: `fetch` mends paths and sets the host. */
  const ask = async (path: string, { host = `127.0.0.1:${port}`, method = "GET" } = {}) => {
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: Number(port) });
    await connection.write(new TextEncoder().encode(
      `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`,
    ));
    return await new Response(connection.readable).text();
  };
  const page = await ask("/");
  assert(page.startsWith("HTTP/1.1 200"));
  for (
    const policy of [
      "default-src 'none'",
      "script-src 'self'",
      "require-trusted-types-for 'script'",
    ]
  ) assertStringIncludes(page.slice(0, page.indexOf("\r\n\r\n")), policy);
  assertStringIncludes(await ask("/model/0000.js"), `playground.part("`);
  assertStringIncludes(await ask("/licenses.txt"), "GNU AFFERO GENERAL PUBLIC LICENSE");
  const refused = [
    "/model.safetensors",
    "/../model.safetensors",
    "/model/../../vocabulary.json",
    "/model/..%2f..%2fvocabulary.json",
    "//etc/passwd",
    "/page/app.js",
  ];
  for (const path of refused) assert((await ask(path)).startsWith("HTTP/1.1 404"), path);
  assert((await ask("/", { host: "example.org" })).startsWith("HTTP/1.1 403"));
  assert((await ask("/", { method: "POST" })).startsWith("HTTP/1.1 405"));

  const again = servePlayground({
    checkpoint,
    storeDir,
    port: Number(port),
    signal: AbortSignal.timeout(10_000),
    ready() {},
  });
  await assertRejects(() => again, UserError, `Port ${port} of 127.0.0.1 is in use`);
});

Deno.test("what can't be a page is one line, and nothing is written", async () => {
  await using models = await Models.create();
  const { folder, storeDir } = models;
  const checkpoint = await models.export("mixture", { vocabulary: BYTES, changes: MIXTURE });
  const out = join(folder, "page");
  const refused = async (named: string, message: string) => {
    await assertRejects(
      () => writePlayground({ checkpoint: named, storeDir, out }),
      UserError,
      message,
    );
    await assertRejects(() => Deno.stat(out), Deno.errors.NotFound);
  };
  const empty = join(folder, "empty");
  await Deno.mkdir(empty);
  await refused(empty, "holds no checkpoint: expected model.safetensors");
  await refused(join(folder, "absent"), "There is no checkpoint");
  await Deno.copyFile(join(checkpoint, "model.safetensors"), join(empty, "model.safetensors"));
  await refused(empty, "has no vocabulary.json beside it");
  await Deno.writeTextFile(join(empty, VOCABULARY_FILE), "{}");
  await refused(empty, "The vocabulary is not valid");
  await Deno.copyFile(join(checkpoint, VOCABULARY_FILE), join(empty, VOCABULARY_FILE));
  // Half of the weights.
  const { size } = await Deno.stat(join(empty, "model.safetensors"));
  await Deno.truncate(join(empty, "model.safetensors"), size >> 1);
  await refused(empty, "is it truncated?");
  await assertRejects(
    () => writePlayground({ checkpoint, storeDir, out: checkpoint }),
    UserError,
    "has files already",
  );
});

Deno.test("scripts of any size give the page the numbers of the file", async () => {
  await using models = await Models.create();
  const { storeDir } = models;
  const folder = await models.export("mixture", { vocabulary: BYTES, changes: MIXTURE });
  const checkpoint = await openCheckpoint(folder, { storeDir });
  using site = await buildSite(checkpoint, { part: 1000 });
  const received = new Received(() => {});
  const scripts = [...site.files.keys()].filter((path) => path.startsWith("model/"));
  // Tensors are cut, and parts hold several.
  assert(scripts.length > site.bytes / 1000, `${scripts}`);
  for (const path of scripts) {
    assertThrows(() => received.take(), Error, "not whole");
    new Function(PAGE_GLOBAL, await site.files.get(path)!.text())(received);
  }
  assertEquals(received.progress, 1);
  const { model, weights } = received.take();
  assertEquals(model.name, "mixture");
  assertEquals(model.config, checkpoint.architecture.config);
  const names: string[] = [];
  await loadModel(checkpoint.model, {
    architecture: checkpoint.architecture,
    writeState(_kind, name, values) {
      names.push(name);
      assertEquals(weights.get(name), values, name);
    },
  });
  assertEquals([...weights.keys()], names);
});

Deno.test("the page's script has nothing that browsers lack", async () => {
  const { text, packages } = await buildScript();
  for (const word of [/\bDeno\./, /\bnode:/, /\brequire\(/, /\bimport\(/, /tiktoken_bg/]) {
    assertEquals(text.match(word), null);
  }
  const names = [...packages.keys()].map((name) => name.replace(/@[^@]+$/, "")).sort();
  assertEquals(names, ["@huggingface/jinja", "pure-rand", "zod"]);
});
