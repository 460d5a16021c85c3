import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { encode as encodeGpt2 } from "gpt-tokenizer/encoding/r50k_base";
import { get_encoding } from "tiktoken";
import { chooseCompact, CompactTokenizer } from "./compact.ts";
import {
  CL100K_ENDOFTEXT,
  CL100K_SIZE,
  CL100K_VOCABULARY,
  encodingVocabulary,
  ENDOFTEXT,
  formatVocabulary,
  openCl100k,
  openTokenizer,
  parseVocabulary,
  vocabularyDigest,
} from "./tokenizer.ts";

/** Any text: letters, controls, emoji, combining marks, long runs. */
const anyText = fc.oneof(
  fc.string({ unit: "binary", maxLength: 200 }),
  fc.string({ unit: "grapheme", maxLength: 60 }),
  fc.array(fc.constantFrom(" the", ENDOFTEXT, "\r\n", "  ", "über", "日本語", "👩‍👩‍👧", "\0"), {
    maxLength: 30,
  }).map((parts) => parts.join("")),
);

async function openCompact(text: string, vocab_size: number) {
  const base = await openCl100k();
  const counts = new Float64Array(CL100K_SIZE);
  for (const id of base.encode(text)) counts[id]!++;
  return chooseCompact(counts, { vocab_size, base });
}

Deno.test("cl100k_base: ids are tiktoken's", async () => {
  const tokenizer = await openTokenizer(CL100K_VOCABULARY);
  assertEquals([...tokenizer.encode("hello world")], [15339, 1917]);
  assertEquals([tokenizer.vocab_size, tokenizer.endoftext], [100277, 100257]);
  const reference = get_encoding("cl100k_base");
  try {
    fc.assert(fc.property(anyText, (text) => {
      assertEquals(tokenizer.encode(text), reference.encode(text, [], []));
    }));
  } finally {
    reference.free();
  }
});

Deno.test("gpt2: ids are those of two other programs, and of the published model", async () => {
  const tokenizer = await openTokenizer(encodingVocabulary("gpt2"));
  assertEquals([tokenizer.vocab_size, tokenizer.endoftext], [50257, 50256]);
  // As the model's authors publish it: `Hello` is 15496, ` world` is 995, `!` is 0.
  assertEquals([...tokenizer.encode("Hello world!")], [15496, 995, 0]);
  assertEquals([...tokenizer.encode("hello world")], [31373, 995]);
  const reference = get_encoding("gpt2");
  try {
    fc.assert(
      fc.property(anyText, (text) => {
        const expected = reference.encode_ordinary(text);
        assertEquals(tokenizer.encode(text), expected);
        // The other program takes a special token for itself, and its white space is JavaScript's.
        if (text.includes("<|") || /[\u0085\ufeff]/.test(text)) return;
        assertEquals(encodeGpt2(text), [...expected]);
      }),
      { seed: 4, numRuns: 300 },
    );
  } finally {
    reference.free();
  }
});

Deno.test("every vocabulary gives every text back", async () => {
  const compact = await openCompact("the cat sat on the mat, the cat did", 270);
  for (const vocabulary of [CL100K_VOCABULARY, encodingVocabulary("gpt2"), compact]) {
    const tokenizer = await openTokenizer(JSON.parse(formatVocabulary(vocabulary)));
    fc.assert(fc.property(anyText, (text) => {
      const ids = tokenizer.encode(text);
      assertEquals(tokenizer.decode(ids), text);
      assertEquals(tokenizer.decodeBytes(ids), new TextEncoder().encode(text));
      assertEquals(ids.every((id) => id < tokenizer.vocab_size), true);
      // A special token that a document spells is ordinary text.
      assertEquals(ids.includes(tokenizer.endoftext), false);
    }));
    assertEquals(tokenizer.decode([tokenizer.endoftext]), ENDOFTEXT);
    assertEquals(tokenizer.encode("a\ud800b"), tokenizer.encode("a\ufffdb"));
    assertThrows(() => tokenizer.decode([tokenizer.vocab_size]), RangeError, "outside");
  }
});

Deno.test("compact: bytes, then the most frequent tokens, then endoftext", async () => {
  const base = await openCl100k();
  const vocabulary = await openCompact(" the cat the the cat of", 260);
  const id = (word: string) => base.encode(word)[0]!;
  assertEquals(vocabulary.vocabulary === "compact" && vocabulary.tokens, [
    id(" the"),
    id(" cat"),
    id(" of"),
  ]);
  const tokenizer = await openTokenizer(vocabulary);
  assertEquals([...tokenizer.encode(" the of ox")], [256, 258, 32, 111, 120]);
  assertEquals(tokenizer.endoftext, 259);
});

Deno.test("compact: equal counts go by id, and endoftext survives the change of vocabulary", async () => {
  const base = await openCl100k();
  const vocabulary = chooseCompact(new Float64Array(CL100K_SIZE), { vocab_size: 259, base });
  // 256 and 257 are the first merges of cl100k_base.
  assertEquals(vocabulary.vocabulary === "compact" && vocabulary.tokens, [256, 257]);
  const tokenizer = new CompactTokenizer(base, [256, 257]);
  assertEquals([...tokenizer.fromCl100k(Uint32Array.of(256, CL100K_ENDOFTEXT))], [256, 258]);
  for (const vocab_size of [256, 100258, 300.5]) {
    assertThrows(() => chooseCompact([], { vocab_size, base }), RangeError, "expected 257 to");
  }
});

Deno.test("vocabulary: what is damaged is named", async () => {
  const good = await openCompact("the", 259) as Record<string, unknown> & { tokens: number[] };
  assertThrows(() => parseVocabulary({ ...good, tokens: [1] }), Error, "takes 2");
  assertThrows(() => parseVocabulary({ ...good, tokens: [256, 256] }), Error, "there twice");
  assertThrows(
    () => parseVocabulary({ ...good, endoftext: 3 }),
    Error,
    "expected the last id, 258",
  );
  assertThrows(() => parseVocabulary({ ...good, tokens: [256, -1] }), Error, "tokens.1");
  assertThrows(() => parseVocabulary({ ...good, vocabulary: "gpt3" }), Error, "vocabulary:");
  const gpt2 = encodingVocabulary("gpt2");
  assertThrows(() => parseVocabulary({ ...gpt2, vocab_size: 50304 }), Error, "vocab_size");
  await assertRejects(() => openTokenizer("text"), Error, "The vocabulary is not valid");
});

Deno.test("vocabulary: its digest does not depend on the order of keys", async () => {
  const vocabulary = await openCompact("the", 259);
  const reversed = Object.fromEntries(Object.entries(vocabulary).reverse());
  assertEquals(
    await vocabularyDigest(reversed as typeof vocabulary),
    await vocabularyDigest(vocabulary),
  );
});
