import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { openTestGpu } from "../../../model/gpu/testing.ts";
import { noisyTensors, smallModel } from "../../../model/inference/inference_testing.ts";
import { ReferenceModel } from "../../../model/reference/model.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { writeModel } from "../../pretrained/model_testing.ts";
import { generate } from "../model/generate.ts";
import { runLoad } from "./load_testing.ts";
import { events, startServer, taskArguments, writeByteModel } from "./serve_testing.ts";

const END = 256;
const folder = await Deno.makeTempDir();
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
await writeByteModel(folder);
const architecture = smallModel(257);
const reference = new ReferenceModel(architecture, noisyTensors(architecture, 5));

/** Nats of all tokens but the first. */
function nats(tokens: readonly number[]): number {
  const { crossEntropy } = reference.evaluate({
    tokens: Uint32Array.from(tokens.slice(0, -1)),
    targets: Uint32Array.from(tokens.slice(1)),
    length: tokens.length - 1,
  });
  return crossEntropy * (tokens.length - 1);
}

const bytes = (text: string) => [...new TextEncoder().encode(text)];
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

interface Choice {
  readonly index: number;
  readonly text: string;
  readonly finish_reason: string | null;
  readonly logprobs: null | {
    readonly tokens: string[];
    readonly token_logprobs: (number | null)[];
    readonly top_logprobs: (Record<string, number> | null)[];
    readonly text_offset: number[];
  };
}

Deno.test("serve answers as OpenAI's interface does", async (t) => {
  const server = await startServer(folder);
  const { url, post } = server;
  const ask = async (body: Record<string, unknown>) => {
    const response = await post({ model: "small", ...body });
    const json = await response.json();
    assertEquals(response.status, 200, JSON.stringify(json));
    return json as { choices: Choice[]; usage: Record<string, number> };
  };

  await t.step("the harness scores continuations, together and as the reference does", async () => {
    // The body that lm-evaluation-harness' local-completions sends, and the way it reads the answer.
    const prompts = ["the cat sat", "a dog ran to the river and", "né à Zürich"].map(bytes);
    const { choices, usage } = await ask({
      prompt: prompts,
      temperature: 0,
      max_tokens: 1,
      logprobs: 1,
      seed: 1234,
      echo: true,
    });
    assertEquals(choices.map(({ index }) => index), [0, 1, 2]);
    assertEquals(usage["prompt_tokens"], sum(prompts.map(({ length }) => length)));
    for (const [i, { logprobs, text }] of choices.entries()) {
      const prompt = prompts[i]!;
      const { token_logprobs, top_logprobs, tokens } = logprobs!;
      assertEquals([token_logprobs.length, token_logprobs[0]], [prompt.length + 1, null]);
      assert(text.startsWith(new TextDecoder().decode(Uint8Array.from(prompt))));
      for (const context of [1, 4]) {
        const found = sum(token_logprobs.slice(context, -1) as number[]);
        const given = context === 1 ? 0 : nats(prompt.slice(0, context));
        assertAlmostEquals(found, given - nats(prompt), 1e-4);
      }
      // A token is greedy if and only if it is the likeliest.
      for (const [at, top] of top_logprobs.slice(1).entries()) {
        const own = token_logprobs[at + 1]!;
        assertEquals(top![tokens[at + 1]!], own);
        assert(own <= Math.max(...Object.values(top!)));
      }
      assertEquals(Math.max(...Object.values(top_logprobs.at(-1)!)), token_logprobs.at(-1));
    }
    // Text is the beginning of a document, so that its first token has a probability, too.
    const [text] = (await ask({ prompt: "né", max_tokens: 0, logprobs: 0, echo: true })).choices;
    const { tokens, token_logprobs, text_offset } = text!.logprobs!;
    assertEquals(tokens, ["n", "bytes:\\xc3", "bytes:\\xa9"]);
    assertEquals([text!.text, text_offset, text!.finish_reason], ["né", [0, 1, 1], "length"]);
    assertAlmostEquals(sum(token_logprobs as number[]), -nats([END, ...bytes("né")]), 1e-4);
    assertEquals(text!.logprobs!.top_logprobs.map((top) => Object.keys(top!).length), [1, 1, 1]);
  });

  await t.step("texts are those of generate, streamed or not", async () => {
    const prompt = "the cat";
    const body = { prompt, max_tokens: 12, temperature: 0 };
    const { stories } = await generate({
      checkpoint: folder,
      storeDir: join(folder, "none"),
      prompt,
      max_tokens: 12,
      context: 96,
      sampling: { temperature: 0, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 },
      seed: 0,
      slide: false,
      num_stories: 1,
      precision: "f32",
      gpu: () => openTestGpu(),
      write() {},
    });
    const { choices: [choice], usage } = await ask(body);
    assertEquals([choice!.text, choice!.logprobs], [stories[0]!.text, null]);
    const ended = choice!.finish_reason === "stop" ? 1 : 0;
    assertEquals(usage, {
      prompt_tokens: 7,
      completion_tokens: stories[0]!.tokens + ended,
      total_tokens: 7 + stories[0]!.tokens + ended,
    });
    const options = { temperature: 3, n: 2, seed: 7, logprobs: 2, echo: true, max_tokens: 9 };
    const whole = await ask({ ...body, ...options });
    const streamed = await post({
      ...body,
      ...options,
      stream: true,
      stream_options: { include_usage: true },
    });
    assertEquals(streamed.headers.get("content-type"), "text/event-stream");
    const data = await Array.fromAsync(events(streamed));
    assertEquals(data.pop(), "[DONE]");
    const pieces = data.map((event) => JSON.parse(event));
    assertEquals(pieces.pop().usage, whole.usage);
    assertEquals(pieces.length > 6, true);
    for (const { index, text, finish_reason, logprobs } of whole.choices) {
      const own = pieces.map(({ choices }) => choices[0] as Choice)
        .filter((choice) => choice.index === index);
      assertEquals(own.map(({ text }) => text).join(""), text);
      assertEquals(own.at(-1)!.finish_reason, finish_reason);
      assertEquals(
        own.flatMap(({ logprobs }) => logprobs?.token_logprobs ?? []),
        logprobs!.token_logprobs,
      );
      assert(text.startsWith(prompt));
    }
    assert(whole.choices[0]!.text !== whole.choices[1]!.text);
    const other = await ask({ ...body, ...options, n: 1, seed: 8 });
    assertEquals(other.choices[0]!.text, whole.choices[1]!.text);
    // A stop sequence is left out, with all behind it.
    const completion = whole.choices[0]!.text.slice(prompt.length);
    const stop = completion.slice(4, 6);
    const stopped = await ask({ ...body, ...options, n: 1, echo: false, stop: [stop, "never"] });
    const text = completion.slice(0, completion.indexOf(stop));
    assertEquals([stopped.choices[0]!.text, stopped.choices[0]!.finish_reason], [text, "stop"]);
    // One token comes from the scorer, and is the same one.
    const single = await ask({ ...body, max_tokens: 1, logprobs: 0 });
    const first = (await ask({ ...body, max_tokens: 2, logprobs: 0 })).choices[0]!.logprobs!;
    assertEquals(single.choices[0]!.logprobs!.tokens, first.tokens.slice(0, 1));
    // Probabilities that the device finds are those of the logits, also of a draw.
    for (const temperature of [0, 1.5]) {
      const asked = { ...body, temperature, seed: 2, logprobs: 7, echo: false };
      const [one, two] = await Promise.all(
        [1, 2].map(async (max_tokens) =>
          (await ask({ ...asked, max_tokens })).choices[0]!.logprobs!
        ),
      );
      assertEquals(one!.tokens, two!.tokens.slice(0, 1));
      const [found, wanted] = [one, two].map((each) => each!.top_logprobs[0]!);
      assertEquals(Object.keys(found!), Object.keys(wanted!));
      assert(Object.keys(found!).length >= 7);
      for (const [name, value] of Object.entries(wanted!)) {
        assertAlmostEquals(found![name]!, value, 1e-5, name);
      }
    }
    // A full context ends a text.
    const full = await ask({
      prompt: bytes("x".repeat(94)),
      max_tokens: 96,
      temperature: 5,
      seed: 3,
    });
    assertEquals([full.choices[0]!.finish_reason, full.usage["completion_tokens"]], ["length", 3]);
  });

  await t.step("wrong requests are refused in one line of JSON", async () => {
    const refused = async (
      status: number,
      message: string,
      body: unknown,
      init: RequestInit = {},
    ) => {
      const response = await post(body, init);
      const { error } = await response.json();
      assertEquals([response.status, error.message], [status, message]);
      return error;
    };
    const long = await refused(
      400,
      "`prompt` 1 has 97 tokens; expected at most 96, the tokens of a context.",
      { prompt: ["a", "x".repeat(96)] },
    );
    assertEquals([long.code, long.param, long.type], [
      "context_length_exceeded",
      "prompt",
      "invalid_request_error",
    ]);
    await refused(400, "`prompt` has token 257; expected ids from 0 to 256.", { prompt: [1, 257] });
    await refused(400, "`prompt` is missing.", {});
    await refused(400, "`tempo` is no key that this server knows.", { prompt: "a", tempo: 1 });
    await refused(
      400,
      "`prompt` is []: expected a text, a list of texts, a list of token ids, or a list of such lists.",
      { prompt: [] },
    );
    await refused(400, "`max_tokens` is 97; expected at most 96, the tokens of a context.", {
      prompt: "a",
      max_tokens: 97,
    });
    await refused(400, "`best_of` is 3; expected 2 as `n`: no choice is left out.", {
      prompt: "a",
      n: 2,
      best_of: 3,
    });
    await refused(400, "`prompt` asks for 66 completions; expected at most 64.", {
      prompt: ["a", "b"],
      n: 33,
    });
    await refused(
      400,
      "`prompt` and its completions have up to 4096 tokens; expected at most 4000.",
      { prompt: ["a", "x"], n: 32, max_tokens: 62, model: "small" },
    );
    await refused(400, "The body is no JSON in UTF-8.", "{");
    await refused(400, "The body is no JSON object.", "3");
    await refused(404, "The model large is not served here; small is.", {
      model: "large",
      prompt: "a",
    });
    await refused(413, "The body has more than 20000 bytes.", { prompt: "x".repeat(20_000) });
    const chunks = ReadableStream.from(Array.from({ length: 30 }, () => new Uint8Array(1000)));
    await refused(413, "The body has more than 20000 bytes.", "", { body: chunks });
    await refused(415, "The Content-Type is not application/json.", "{}", {
      headers: { "content-type": "text/plain" },
    });
    const status = async (path: string, init: RequestInit = {}) => {
      const response = await fetch(new URL(path, url), init);
      await response.body?.cancel();
      return response.status;
    };
    assertEquals(await status("/v1/models"), 200);
    assertEquals(await status("/v1/models/small"), 200);
    assertEquals(await status("/v1/models/large"), 404);
    assertEquals(await status("/v1/completions"), 405);
    assertEquals(await status("/"), 404);
    // A name that leads here from another site is none of this server's.
    const { hostname, port } = new URL(url);
    using connection = await Deno.connect({ hostname, port: Number(port) });
    await connection.write(
      new TextEncoder().encode(
        "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
      ),
    );
    assert((await new Response(connection.readable).text()).startsWith("HTTP/1.1 403 "));
  });
  await server.stop();
  assertEquals(server.warnings, []);
});

Deno.test("A client that leaves takes its work with it, a full queue says so, and a stop answers what it took", async () => {
  const server = await startServer(folder, { sequences: 1 });
  const { post } = server;
  const load = async () => await (await fetch(new URL("/health", server.url))).json();
  const until = async (done: (load: Record<string, number>) => boolean) => {
    for (let i = 0; i < 400; i++) {
      if (done(await load())) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`The server did not come to rest: ${JSON.stringify(await load())}`);
  };
  // Long texts, of which 64 take far longer than this test waits: at a high temperature none of them ends soon by itself.
  const long = { prompt: "a", max_tokens: 90, temperature: 50, seed: 1, n: 32 };
  const [a, b] = [new AbortController(), new AbortController()];
  const streamed = await post({ ...long, stream: true }, { signal: a.signal });
  const waiting = post(long, { signal: b.signal });
  waiting.catch(() => {});
  await until(({ completions, generating }) => completions === 64 && generating === 1);
  const refused = await post(long);
  assertEquals([refused.status, refused.headers.get("retry-after")], [429, "1"]);
  assertEquals(
    (await refused.json()).error.message,
    "64 completions are waited for, and 64 is the most; try again later.",
  );
  b.abort();
  await assertRejects(() => waiting);
  a.abort();
  await streamed.body?.cancel().catch(() => {});
  await until(({ completions, generating, waiting }) =>
    completions! + generating! + waiting! === 0
  );
  const last = post({ ...long, max_tokens: 20, n: 1 });
  await until(({ generating }) => generating === 1);
  const stopped = server.stop();
  const { choices: [choice] } = await (await last).json();
  await stopped;
  assert(choice.text.length > 0);
  await assertRejects(() => load());
  assertEquals(server.warnings, []);
});

Deno.test("64 clients at once lose nothing, and leave nothing behind", async () => {
  const server = await startServer(folder, { queue: 256, sequences: 16 });
  const result = await runLoad(server, { clients: 64, seconds: 2 });
  assertEquals([result.wrong, server.warnings], [[], []]);
  assert(result.answered >= 64, `${result.answered} requests were answered`);
  assert(result.given_up > 0);
  assertEquals(Object.keys(result.latencies).sort(), ["generate", "score", "stream"]);
  // A client that left is forgotten within a step or two.
  const health = async () => await (await fetch(new URL("/health", server.url))).json();
  for (let i = 0; i < 300 && (await health()).completions > 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assertEquals(await health(), { status: "ok", completions: 0, waiting: 0, generating: 0 });
  await server.stop();
  const { resident } = result.memory;
  const growth = resident.at(-1)! - resident[0]!;
  assert(growth < 150 * 2 ** 20, `memory grew by ${growth} bytes`);
});

Deno.test("A published model is served with its own tokens", async () => {
  const published = await Deno.makeTempDir();
  await writeModel(published, "llama");
  const server = await startServer(published, { model: published, sequences: 1, context: 48 });
  const body = { prompt: ["the cat", ""], max_tokens: 3, temperature: 0, echo: true, logprobs: 1 };
  const response = await server.post(body);
  const { choices, usage }: { choices: Choice[]; usage: Record<string, number> } = await response
    .json();
  assertEquals(response.status, 200);
  const [choice, empty] = choices;
  const { tokens, token_logprobs, text_offset } = choice!.logprobs!;
  // Texts of this model begin with a token of their own, which is not told, and the first word with a space, which the text has not.
  assertEquals([tokens[0], text_offset.slice(0, 3)], [" ", [0, 0, 1]]);
  assertEquals([tokens.length, usage["prompt_tokens"]], [token_logprobs.length, tokens.length - 3]);
  assert(token_logprobs.every((one) => one !== null && one <= 0));
  assert(choice!.text.startsWith("the cat"));
  assertEquals(empty!.logprobs!.tokens.length, usage["completion_tokens"]! - 3);
  const [first] = text_offset.slice(-3);
  assertEquals(first, "the cat".length);
  await server.stop();
  await Deno.remove(published, { recursive: true });
});

Deno.test("serve refuses bad settings before a device is opened", async () => {
  const refused = async (changes: Parameters<typeof startServer>[1], message: string) => {
    const gpu = () => Promise.reject(new Error("No device should be opened"));
    const error = await assertRejects(
      () => startServer(folder, { gpu, ...changes }),
      UserError,
      message,
    );
    assertEquals(error.exitCode, 2);
  };
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  await refused({ port }, `--port ${port} of --host 127.0.0.1 is in use; expected a free port.`);
  await refused({ host: "192.0.2.1" }, "--port 0 of --host 192.0.2.1 can't be listened on");
  const empty = await Deno.makeTempDir();
  await refused({ checkpoint: empty }, "model.safetensors");
  await refused({ model: empty }, "config.json");
  await Deno.remove(empty);
});

Deno.test("The task serve answers with the permissions that it names, and a signal ends it", async () => {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...await taskArguments("serve"),
      ...["--checkpoint", folder, "--port", "0", "--context", "64", "--sequences", "1", "--json"],
    ],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value = "" } = await lines.read();
  const { url, context } = JSON.parse(value);
  assertEquals(context, 64);
  const response = await fetch(`${url}/models`);
  assertEquals((await response.json()).data[0].max_model_len, 64);
  child.kill("SIGINT");
  const { code } = await child.status;
  const told = await new Response(child.stderr).text();
  assertEquals([code, told.split("\n").length], [0, 2], told);
  await lines.cancel();
});
