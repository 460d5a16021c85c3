/** Vocabularies in the forms that transformers reads, through the library that reads them in JavaScript. */

import { assertEquals } from "@std/assert";
import { encodingVocabulary, openTokenizer } from "../text/tokenizer.ts";
import { JsonTokenizer } from "../text/tokenizer_json.ts";
import { BYTES, COMPACT, TEXTS } from "./export_testing.ts";
import { tokenizerFiles } from "./tokenizer.ts";

const VOCABULARIES = {
  bytes: BYTES,
  gpt2: encodingVocabulary("gpt2"),
  cl100k_base: encodingVocabulary("cl100k_base"),
};

for (const [name, vocabulary] of Object.entries(VOCABULARIES)) {
  Deno.test(`The tokenizer.json of ${name} gives the ids that the vocabulary gives`, async () => {
    const files = await tokenizerFiles(vocabulary, { longest: 64 });
    assertEquals(Object.keys(files).sort(), [
      "tokenizer.json",
      "tokenizer_config.json",
      "vocabulary.json",
    ]);
    assertEquals(JSON.parse(files["tokenizer_config.json"]!).model_max_length, 64);
    const json = JSON.parse(files["tokenizer.json"]!);
    const found = new JsonTokenizer({ json, ends: [vocabulary.endoftext] });
    const expected = await openTokenizer(JSON.parse(files["vocabulary.json"]!));
    assertEquals(found.endoftext, expected.endoftext);
    for (const text of [...TEXTS, "aaaaaaaaaaaaaaaaaaaaaaa", "<|endoftext|>", "\u3000…"]) {
      assertEquals(found.encode(text), expected.encode(text), text);
      assertEquals(found.decode(expected.encode(text)), text);
    }
  });
}

Deno.test("A compact vocabulary goes with the tokenizer that it was cut from", async () => {
  const files = await tokenizerFiles(COMPACT);
  assertEquals(Object.keys(files).sort(), [
    "base_tokenizer.json",
    "tokenization_ethos.py",
    "tokenizer_config.json",
    "vocabulary.json",
  ]);
  const config = JSON.parse(files["tokenizer_config.json"]!);
  assertEquals(config.auto_map, { AutoTokenizer: ["tokenization_ethos.EthosTokenizer", null] });
  assertEquals("model_max_length" in config, false);
  const { model } = JSON.parse(files["base_tokenizer.json"]!);
  assertEquals([model.merges.length, model.vocab["Ġthe"]], [100_000, 279]);
});
