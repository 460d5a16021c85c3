/** Holds that texts with long runs get the ids of `tiktoken`, and get them soon. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { get_encoding } from "tiktoken";
import { BytePairTokenizer } from "./byte_pair_tokenizer.ts";
import { chooseCompact, CompactTokenizer } from "./compact.ts";
import { CL100K_SIZE, ENCODING_NAMES, ENCODINGS, openCl100k, openEncoding } from "./tokenizer.ts";
import { loadRanks } from "./tiktoken.ts";
import { hasLongRun, LONG_RUN, pieceEnds } from "./pieces.ts";

/** Characters of a run, by what is special in them. */
const ALPHABETS: Readonly<Record<string, readonly string[]>> = {
  "one letter": ["A"],
  "two letters": ["a", "b"],
  "letters": [..."etaoinshrdlu"],
  "capitals": [..."ABS"],
  "spaces": [" "],
  "tabs and spaces": ["\t", " "],
  "line breaks": ["\n"],
  "line breaks of both kinds": ["\r", "\n", "\r\n"],
  "white space": [" ", "\n", "\r", "\t", "\u00a0", "\u2028", "\u3000", "\u0085"],
  "no white space, though it looks like it": ["\ufeff", "\u200b", "\u180e"],
  "one mark": ["^"],
  "marks": [..."-=_.*#'\"!<>/"],
  "marks and line breaks": ["!", "\n", "\r", " "],
  "one digit": ["0"],
  "digits": [..."0123456789", "²", "Ⅷ", "٣"],
  "Han": [..."的一是不了在人有我他这"],
  "Han outside the first plane": ["𠀀", "𠮷", "𪚥"],
  "emoji": ["😀", "👩‍👩‍👧", "🇫🇷", "❤️"],
  "accents": ["e", "\u0301", "é", "ü"],
  "contractions": ["'s", "'S", "'ſ", "'ll", "'LL", "'re", "'Ve", "'", "x", " "],
  "controls": ["\0", "\x1b", "\x7f", "\x80"],
  "special tokens": ["<|endoftext|>", "<|", "|>"],
};

const run = (maximum: number) =>
  fc.constantFrom(...Object.values(ALPHABETS)).chain((alphabet) =>
    fc.array(fc.constantFrom(...alphabet), { maxLength: maximum, size: "max" })
  ).map((parts) => parts.join(""));

/** A few runs, one after the other, each long or short. */
const runs = fc.array(fc.oneof(run(3), run(40), run(2 * LONG_RUN)), { maxLength: 6 })
  .map((parts) => parts.join(""));

for (const name of ENCODING_NAMES) {
  Deno.test(`${name}: runs of every alphabet have tiktoken's ids`, async () => {
    const tokenizer = await openEncoding(name);
    const reference = get_encoding(name);
    try {
      fc.assert(
        fc.property(runs, (text) => {
          const expected = reference.encode_ordinary(text);
          assertEquals(tokenizer.encodeLong(text), expected);
          assertEquals(tokenizer.encode(text), expected);
        }),
        { seed: 1, numRuns: 400 },
      );
    } finally {
      reference.free();
    }
  });

  Deno.test(`${name}: ranks alone give tiktoken's ids and bytes`, async () => {
    const tokenizer = await openEncoding(name);
    const { bpe_ranks } = await loadRanks(name);
    const alone = new BytePairTokenizer(name, bpe_ranks);
    for (let id = 0; id < alone.vocab_size; id += 7) {
      assertEquals(alone.tokenBytes(id), tokenizer.tokenBytes(id), `token ${id}`);
    }
    const { endoftext } = tokenizer;
    assertEquals(alone.decode([endoftext]), tokenizer.decode([endoftext]));
    assertThrows(() => alone.tokenBytes(alone.vocab_size), RangeError, name);
    for (
      const text of ["", "Once upon a time, 3,141 naïve 👩‍👩‍👧 said: <|endoftext|>\n\n", "\ud800 lone"]
    ) {
      assertEquals(alone.encode(text), tokenizer.encode(text));
      assertEquals(alone.decode(alone.encode(text)), text.toWellFormed());
    }
  });

  Deno.test(`${name}: texts are cut as its regular expression cuts them`, async () => {
    const { pat_str } = await loadRanks(name);
    // JavaScript's `\s` is not quite Unicode's.
    const source = pat_str.replaceAll("\\s", "\\p{White_Space}").replaceAll(
      "\\S",
      "\\P{White_Space}",
    );
    const expression = new RegExp(source, "gu");
    fc.assert(
      fc.property(runs, (text) => {
        const ends = Array.from(
          text.matchAll(expression),
          ({ 0: piece, index }) => index + piece.length,
        );
        assertEquals(Array.from(pieceEnds(text, ENCODINGS[name].rules)), ends);
      }),
      { seed: 5, numRuns: 2000 },
    );
  });

  Deno.test(`${name}: runs about as long as a long one have tiktoken's ids between all neighbours`, async () => {
    const tokenizer = await openEncoding(name);
    const reference = get_encoding(name);
    const neighbours = ["", " ", "  ", "\n", "\r\n ", "a", "1", "!", "'s", "的", "😀", "\u00a0"];
    try {
      for (const characters of Object.values(ALPHABETS)) {
        const repeated = characters.join("").repeat(LONG_RUN + 2);
        for (const length of [LONG_RUN - 1, LONG_RUN, LONG_RUN + 1]) {
          const middle = repeated.slice(0, length).toWellFormed();
          for (const [index, before] of neighbours.entries()) {
            // Every pair of neighbours is met with some alphabet and length.
            const after = neighbours[(index + length + characters.length) % neighbours.length]!;
            const text = before + middle + after;
            assertEquals(tokenizer.encode(text), reference.encode_ordinary(text));
          }
        }
      }
    } finally {
      reference.free();
    }
  });

  Deno.test(`${name}: characters at the edges of letters, digits and white space are classed as tiktoken's`, async () => {
    const tokenizer = await openEncoding(name);
    const reference = get_encoding(name);
    const kindOf = (code: number) => {
      const character = String.fromCodePoint(code);
      return [/\p{L}/u, /\p{N}/u, /\p{White_Space}/u].findIndex((kind) => kind.test(character));
    };
    try {
      let before = -1;
      let edges = 0;
      for (let code = 0; code < 0x110000; code++) {
        if (code === 0xd800) code = 0xe000;
        const kind = kindOf(code);
        if (kind === before) continue;
        before = kind;
        edges++;
        for (const at of [code - 1, code]) {
          const c = String.fromCodePoint(Math.max(at, 0));
          const text = `!!${c}!!a${c}a ${c}  ${c} 1${c}1 \n${c}\n${c}${c}${c}${c}'s`.toWellFormed();
          assertEquals(tokenizer.encodeLong(text), reference.encode_ordinary(text));
        }
      }
      assert(edges > 1000, `${edges} edges`);
    } finally {
      reference.free();
    }
  });

  Deno.test(`${name}: a million characters without a break take seconds`, async () => {
    const tokenizer = await openEncoding(name);
    const han = "的一是不了在人有我他这个们中来上大为和国";
    const texts = [
      "^".repeat(1_200_000),
      "A".repeat(200_000),
      "a".repeat(300_000),
      han.repeat(2000),
      " ".repeat(1_200_000) + "x",
      " \n".repeat(600_000),
      "7".repeat(1_200_000),
      "😀".repeat(100_000),
    ];
    for (const text of texts) {
      const begin = performance.now();
      const ids = tokenizer.encode(text);
      const seconds = (performance.now() - begin) / 1000;
      // Half a second alone on a core; a minute and more in quadratic time.
      assert(seconds < 10, `${seconds} s`);
      assertEquals(tokenizer.decode(ids), text);
    }
    // Runs of one character repeat their ids: those of a run that tiktoken takes, many times over.
    const few = tokenizer.encode("^".repeat(240));
    assertEquals(
      tokenizer.encode(texts[0]!),
      Uint32Array.from({ length: 5000 * few.length }, (
        _,
        index,
      ) => few[index % few.length]!),
    );
  });
}

Deno.test("compact: a long run has the compact ids of tiktoken's", async () => {
  const base = await openCl100k();
  const vocabulary = chooseCompact(new Float64Array(CL100K_SIZE), { vocab_size: 2000, base });
  const compact = new CompactTokenizer(
    base,
    vocabulary.vocabulary === "compact" ? vocabulary.tokens : [],
  );
  const reference = get_encoding("cl100k_base");
  try {
    fc.assert(
      fc.property(runs, (text) => {
        assertEquals(
          compact.encode(text),
          compact.fromCl100k(reference.encode_ordinary(text)),
        );
        assertEquals(compact.decode(compact.encode(text)), text);
      }),
      { seed: 2, numRuns: 100 },
    );
  } finally {
    reference.free();
  }
});

Deno.test("hasLongRun: exactly when a run of one class has as many code units", () => {
  const classes = /\p{L}+|\p{N}+|\p{White_Space}+|[^\p{L}\p{N}\p{White_Space}]+/gu;
  let long = 0;
  fc.assert(
    fc.property(runs, (text) => {
      const longest = Math.max(0, ...Array.from(text.matchAll(classes), ([run]) => run.length));
      if (longest >= LONG_RUN) long++;
      assertEquals(hasLongRun(text), longest >= LONG_RUN);
    }),
    { seed: 3, numRuns: 2000 },
  );
  assert(long > 200 && long < 1800, `${long} of 2000 texts have a long run`);
});

Deno.test("encode: a lone surrogate in a long run is U+FFFD", async () => {
  const tokenizer = await openCl100k();
  for (const lone of ["\ud800", "\udc00"]) {
    assertEquals(
      tokenizer.encode("a".repeat(LONG_RUN) + lone),
      tokenizer.encode("a".repeat(LONG_RUN) + "\ufffd"),
    );
  }
});
