import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { openTestGpu } from "../../gpu/testing.ts";
import { CompactTokenizer } from "../../text/compact.ts";
import { openCl100k, type Tokenizer } from "../../text/tokenizer.ts";
import { generateText, type GenerationSummary } from "../generate_text.ts";
import { CapacityError, Generator } from "../generator.ts";
import { noisyTensors, smallModel, writeModelFile } from "../inference_testing.ts";
import { openInferenceModel } from "../open.ts";
import { BatchGenerator } from "./batch_generator.ts";
import { generateTexts, type GenerateTextsOptions } from "./generate_texts.ts";

/** The 256 bytes and the end of text, so that a character is often several tokens. */
const BYTES = new CompactTokenizer(await openCl100k(), []);

/** Some tokens end a text, so that texts end at different times. */
const ENDING: Tokenizer = {
  vocab_size: BYTES.vocab_size,
  endoftext: BYTES.endoftext,
  ends: new Set(
    Array.from({ length: BYTES.vocab_size }, (_, id) => id).filter((id) => id % 16 === 3),
  ),
  encode: (text) => BYTES.encode(text),
  decode: (ids) => BYTES.decode(ids),
  decodeBytes: (ids) => BYTES.decodeBytes(ids),
} as Tokenizer;

/** Texts and counts, without times. */
interface Made {
  readonly text: string;
  readonly counts: Omit<GenerationSummary, "prefill_seconds" | "decode_seconds">;
}

function made(text: string, summary: GenerationSummary): Made {
  const { prefill_seconds: _p, decode_seconds: _d, ...counts } = summary;
  return { text, counts };
}

async function together(batch: BatchGenerator, options: GenerateTextsOptions): Promise<Made[]> {
  const run = generateTexts(batch, ENDING, options);
  const texts = options.texts.map(() => "");
  for (;;) {
    const next = await run.next();
    if (next.done) return next.value.map((summary, i) => made(texts[i]!, summary));
    texts[next.value.text] += next.value.piece;
  }
}

/** The same texts, one after the other. */
async function alone(generator: Generator, options: GenerateTextsOptions): Promise<Made[]> {
  const { texts, ...common } = options;
  const all: Made[] = [];
  for (const text of texts) {
    const run = generateText(generator, ENDING, { ...common, ...text });
    let whole = "";
    for (;;) {
      const next = await run.next();
      if (next.done) {
        all.push(made(whole, next.value));
        break;
      }
      whole += next.value;
    }
  }
  return all;
}

Deno.test("generateTexts() continues each prompt as generateText() does", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "model.safetensors");
    const architecture = smallModel(BYTES.vocab_size);
    await writeModelFile(path, architecture, noisyTensors(architecture, 5));
    using model = await openInferenceModel(await openTestGpu(), path);
    using generator = await Generator.create(model, { capacity: 48, chunk: 16 });
    using batch = await BatchGenerator.create(generator, { sequences: 5 });
    const texts = ["x".repeat(30), "ab", "", "ab", "Once upon a time"]
      .map((prompt, seed) => ({ prompt, seed }));
    const sampling = { temperature: 50, top_k: 200, repetition_penalty: 1.1 };
    const finishes = new Set<string>();
    for (
      const options of [
        { texts, sampling, max_tokens: 20 },
        { texts, sampling, max_tokens: 1 },
        { texts, sampling: { temperature: 0 }, max_tokens: 60 },
        { texts, sampling: { temperature: 0 }, max_tokens: 60, slide: true },
        { texts: texts.slice(0, 3), sampling: { temperature: 3 }, max_tokens: 30, slide: true },
      ]
    ) {
      const found = await together(batch, options);
      assertEquals(found, await alone(generator, options));
      for (const { counts } of found) finishes.add(counts.finish);
    }
    assertEquals([...finishes].sort(), ["context", "endoftext", "max_tokens"]);

    const nothing = await together(batch, { texts, max_tokens: 0 });
    assert(nothing.every(({ text, counts }) => text === "" && counts.tokens === 0));
    await assertRejects(
      () => together(batch, { texts: [...texts, ...texts], max_tokens: 1 }),
      RangeError,
      "10 texts for 5 sequences",
    );
    await assertRejects(
      () => together(batch, { texts: [{ prompt: "x".repeat(48), seed: 0 }], max_tokens: 1 }),
      CapacityError,
      "The prompt has 49 tokens, but the context holds 48",
    );
    await assertRejects(
      () => together(batch, { texts, max_tokens: 9, signal: AbortSignal.abort() }),
      DOMException,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
