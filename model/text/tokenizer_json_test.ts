/** Published tokenizers: ids, bytes, what a text begins and ends with, and what is refused. */

import { assertEquals, assertThrows } from "@std/assert";
import { JsonTokenizer } from "./tokenizer_json.ts";
import { besideCheckout, byteTokenizer, markTokenizer } from "./tokenizer_json_testing.ts";

const TEXTS = [
  "the cat",
  " two  spaces ",
  'line one\n\nline two\t"Hi!"',
  "café naïve ☃ 😀",
  "1234567890 the   end",
  "<s> and <|endoftext|> and <0x0A> are text",
];

Deno.test("A tokenizer of bytes gives its ids and every text back", () => {
  const tokenizer = new JsonTokenizer({ json: byteTokenizer(), ends: [0] });
  assertEquals([tokenizer.vocab_size, tokenizer.endoftext], [262, 0]);
  assertEquals([tokenizer.begin, tokenizer.trims], [[], false]);
  const of = (letter: string) => 1 + letter.charCodeAt(0);
  assertEquals([...tokenizer.encode(" thea")], [259, of("a")]);
  assertEquals([...tokenizer.encode("é")], [260]);
  assertEquals([...tokenizer.encode("a    b")], [of("a"), 261, of("b")]);
  assertEquals([...tokenizer.encode("")], []);
  for (const text of TEXTS) assertEquals(tokenizer.decode(tokenizer.encode(text)), text);
  // Text that spells the token that ends a text is text.
  assertEquals(tokenizer.encode("<|endoftext|>").includes(0), false);
  assertEquals(tokenizer.decode([0, of("a"), 0]), "a");
  assertEquals(tokenizer.decodeBytes([5000]).length, 0);
});

Deno.test("A tokenizer with a mark for spaces puts one before a text, and takes it away again", () => {
  const tokenizer = new JsonTokenizer({ json: markTokenizer(), ends: [2, 0] });
  assertEquals([tokenizer.vocab_size, tokenizer.endoftext], [263, 2]);
  assertEquals([tokenizer.begin, tokenizer.trims, [...tokenizer.ends]], [[1], true, [2, 0]]);
  assertEquals([...tokenizer.encode("a b")], [261, 259, 262]);
  assertEquals([...tokenizer.encode("\n")], [259, 3 + 10]);
  for (const text of TEXTS) {
    const ids = tokenizer.encode(text);
    assertEquals(tokenizer.decode(ids), text);
    assertEquals(tokenizer.decodeBytes(ids).length, 1 + new TextEncoder().encode(text).length);
  }
  // A character comes in pieces.
  const [, ...bytes] = tokenizer.encode("😀");
  assertEquals(bytes.map((id) => tokenizer.decodeBytes([id]).length), [1, 1, 1, 1]);
});

Deno.test("Llama 3's way: a regular expression, whole pieces first, and a token before texts that only it knows", () => {
  const base = byteTokenizer();
  const model = base["model"] as { vocab: Record<string, number> };
  const begin = "<|begin_of_text|>";
  const json = {
    ...base,
    added_tokens: [{ id: 262, content: begin, special: true, normalized: false }],
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        {
          type: "Split",
          pattern: { Regex: "\\p{N}{1,3}| ?\\p{L}+|[^\\p{L}\\p{N}]" },
          behavior: "Isolated",
          invert: false,
        },
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: {
      type: "Sequence",
      processors: [
        { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true },
        {
          type: "TemplateProcessing",
          single: [{ SpecialToken: { id: begin, type_id: 0 } }, {
            Sequence: { id: "A", type_id: 0 },
          }],
          pair: [],
          special_tokens: { [begin]: { id: begin, ids: [262], tokens: [begin] } },
        },
      ],
    },
    model: { ...model, ignore_merges: true, vocab: { ...model.vocab, "Ġcat": 261 } },
  };
  const tokenizer = new JsonTokenizer({ json, ends: [262, 0] });
  assertEquals([tokenizer.vocab_size, tokenizer.begin, tokenizer.trims], [263, [262], false]);
  // No merge makes it, and it is taken as a whole.
  assertEquals([...tokenizer.encode(" cat")], [261]);
  for (const text of [...TEXTS, `${begin} is text`]) {
    assertEquals(tokenizer.decode(tokenizer.encode(text)), text);
  }
});

Deno.test("A part of a tokenizer that is not known is refused by its key", () => {
  const refused = (change: Record<string, unknown>, message: string, ends = [0]) => {
    const json = { ...byteTokenizer(), ...change };
    assertThrows(() => new JsonTokenizer({ json, ends }), Error, message);
  };
  refused({ model: { type: "BPE" } }, "model.vocab");
  refused({ decoder: { type: "WordPiece" } }, "decoder is WordPiece; expected ByteLevel");
  refused({ decoder: null }, "decoder");
  refused({ pre_tokenizer: { type: "Soup" } }, "Soup");
  refused({}, "the token 262 that ends a text is not in it; its last one is 261", [262]);
});

Deno.test({
  name: "The tokenizer of a trained model gives the ids of its cases",
  ignore: besideCheckout("data/stories260k/tokenizer.json") === undefined,
  fn() {
    const read = (name: string) =>
      JSON.parse(Deno.readTextFileSync(besideCheckout(`data/stories260k/${name}`)!));
    const json = read("tokenizer.json");
    const tokenizer = new JsonTokenizer({ json, config: read("tokenizer_config.json"), ends: [2] });
    assertEquals([tokenizer.vocab_size, tokenizer.begin], [512, [1]]);
    const cases: { text: string; ids: number[]; decoded: string }[] = read("tokenizer_cases.json");
    for (const { text, ids, decoded } of cases) {
      assertEquals([...tokenizer.encode(text)], ids);
      assertEquals(tokenizer.decode(ids), decoded);
    }
  },
});
