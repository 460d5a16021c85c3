import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { openTestGpu } from "../gpu/testing.ts";
import { generateText, type GenerateTextOptions, type GenerationSummary } from "./generate_text.ts";
import { CapacityError, Generator } from "./generator.ts";
import { openInferenceModel } from "./open.ts";
import { noisyTensors, smallModel, writeModelFile } from "./inference_testing.ts";
import { CompactTokenizer } from "../text/compact.ts";
import { openCl100k, type Tokenizer } from "../text/tokenizer.ts";

/** The 256 bytes and the end of text, so that a character is often several tokens. */
const BYTES = new CompactTokenizer(await openCl100k(), []);

async function withGenerator(work: (generator: Generator) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "model.safetensors");
    const architecture = smallModel(BYTES.vocab_size);
    const tensors = noisyTensors(architecture, 5);
    // Noise repeats the last token; the end of text should be unlikely after itself.
    tensors.get("embed.weight")!.fill(0, BYTES.endoftext * architecture.config.d_model);
    await writeModelFile(path, architecture, tensors);
    using model = await openInferenceModel(await openTestGpu(), path);
    using generator = await Generator.create(model, { capacity: 48, chunk: 16 });
    await work(generator);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function collect(
  generator: Generator,
  options: Partial<GenerateTextOptions>,
  tokenizer: Tokenizer = BYTES,
): Promise<{ pieces: string[]; summary: GenerationSummary }> {
  const run = generateText(generator, tokenizer, {
    prompt: "",
    max_tokens: 20,
    seed: 1,
    sampling: { temperature: 4 },
    ...options,
  });
  const pieces: string[] = [];
  for (;;) {
    const next = await run.next();
    if (next.done) return { pieces, summary: next.value };
    pieces.push(next.value);
  }
}

Deno.test("generateText() is a function of prompt and seed", async () => {
  await withGenerator(async (generator) => {
    const a = await collect(generator, { prompt: "Once upon a time, there was" });
    const b = await collect(generator, { prompt: "Once upon a time, there was" });
    const c = await collect(generator, { prompt: "Once upon a time, there was", seed: 2 });
    assertEquals(a.pieces, b.pieces);
    assert(a.pieces.join("") !== c.pieces.join(""));
    assertEquals(a.summary.prompt_tokens, 28);
    const { tokens, decode_passes, finish } = a.summary;
    if (finish === "max_tokens") assertEquals([tokens, decode_passes], [20, 19]);
    else assertEquals(tokens, decode_passes);
    const greedy = { prompt: "ab", sampling: { temperature: 0 } };
    const first = await collect(generator, { ...greedy, seed: 1 });
    assertEquals(first.pieces, (await collect(generator, { ...greedy, seed: 2 })).pieces);
  });
});

Deno.test("generateText() gives the same text, whoever chooses the tokens", async () => {
  await withGenerator(async (generator) => {
    const finishes = new Set<string>();
    /** Some tokens end a text, so that several texts end in the middle of what the device chose. */
    const ending: Tokenizer = {
      ...BYTES,
      ends: new Set(
        Array.from({ length: BYTES.vocab_size }, (_, id) => id).filter((id) => id % 10 === 3),
      ),
      encode: (text) => BYTES.encode(text),
      decode: (ids) => BYTES.decode(ids),
      decodeBytes: (ids) => BYTES.decodeBytes(ids),
    };
    const cases = [
      { sampling: { temperature: 0 }, prompt: "x".repeat(30), max_tokens: 60 },
      { sampling: { temperature: 0, repetition_penalty: 1.3 }, prompt: "", max_tokens: 20 },
      { sampling: { temperature: 50 }, prompt: "ab", max_tokens: 40 },
      { sampling: { temperature: 50, top_k: 200 }, prompt: "abc", max_tokens: 40 },
      {
        sampling: { temperature: 3, top_k: 30, top_p: 0.9, repetition_penalty: 1.1 },
        prompt: "x",
        max_tokens: 3,
      },
    ];
    for (const options of cases) {
      const one = await collect(generator, { ...options, tokens_at_once: 1 }, ending);
      for (const tokens_at_once of [5, undefined]) {
        const { pieces, summary } = await collect(generator, {
          ...options,
          ...tokens_at_once && { tokens_at_once },
        }, ending);
        assertEquals(pieces, one.pieces);
        const { prefill_seconds: _p, decode_seconds: _d, ...counts } = one.summary;
        assertEquals({ ...summary, ...counts }, summary);
      }
      finishes.add(one.summary.finish);
    }
    assertEquals([...finishes].sort(), ["context", "endoftext", "max_tokens"]);
  });
});

Deno.test("generateText() says why it ends, and refuses a prompt that does not fit", async () => {
  await withGenerator(async (generator) => {
    const full = await collect(generator, { prompt: "x".repeat(47), max_tokens: 20 });
    assertEquals([full.summary.tokens, full.summary.finish], [1, "context"]);
    const some = await collect(generator, { prompt: "x".repeat(40), max_tokens: 3 });
    assertEquals([some.summary.tokens, some.summary.finish], [3, "max_tokens"]);
    const none = await collect(generator, { max_tokens: 0 });
    assertEquals([none.pieces, none.summary.tokens], [[], 0]);
    await assertRejects(
      () => collect(generator, { prompt: "x".repeat(48) }),
      CapacityError,
      "The prompt has 49 tokens, but the context holds 48",
    );
    await assertRejects(() => collect(generator, { signal: AbortSignal.abort() }), DOMException);
  });
});

Deno.test("generateText() reads the last half of a full context anew", async () => {
  await withGenerator(async (generator) => {
    const options = { prompt: "x".repeat(40), max_tokens: 60, sampling: { temperature: 0 } };
    const fed: number[][] = [];
    const recording = new Proxy(generator, {
      get: (target, key) =>
        key === "feed"
          ? (tokens: ArrayLike<number>) => (fed.push([...Array.from(tokens)]), target.feed(tokens))
          : typeof target[key as keyof Generator] === "function"
          ? (target[key as "reset"] as () => void).bind(target)
          : target[key as keyof Generator],
    });
    const { pieces, summary } = await collect(recording, {
      ...options,
      slide: true,
      tokens_at_once: 1,
    });
    assertEquals([summary.tokens, summary.finish], [60, "max_tokens"]);
    const windows = fed.slice(1).filter((tokens) => tokens.length > 1);
    // 41 tokens are read; of 60 the 8th finds the 48 positions full, and then every 24th or so.
    assertEquals(windows.map((tokens) => tokens.length), [24, 24, 24]);
    const sequence = [fed[0]!, ...fed.slice(1).map((tokens) => [tokens.at(-1)!])].flat();
    assertEquals(windows[0], sequence.slice(49 - 24, 49));
    const atOnce = await collect(generator, { ...options, slide: true });
    assertEquals([atOnce.pieces, atOnce.summary.tokens], [pieces, 60]);
  });
});

Deno.test("generateText() yields whole characters, and what is left of one at the end", async () => {
  /** A stand-in that says what comes next; the real generator would need a trained model for this. */
  const saying = (ids: readonly number[]) => {
    let at = 0;
    return {
      capacity: 100,
      get position() {
        return at;
      },
      reset: () => {},
      feed: () => {
        const logits = new Float32Array(BYTES.vocab_size);
        logits[ids[at++]!] = 100;
        return Promise.resolve(logits);
      },
    } as unknown as Generator;
  };
  const text = "né €🙂";
  const ids = [...new TextEncoder().encode(text)];
  const tokens_at_once = 1;
  const whole = await collect(saying([...ids, BYTES.endoftext]), { tokens_at_once });
  assertEquals(whole.pieces, ["n", "é", " ", "€", "🙂"]);
  assertEquals([whole.summary.tokens, whole.summary.finish], [ids.length, "endoftext"]);
  const cut = await collect(saying(ids), { max_tokens: ids.length - 1, tokens_at_once });
  assertEquals(cut.pieces, ["n", "é", " ", "€", "�"]);
});
