import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import type { JsonValue, NodeOutput } from "../../pipeline/stage.ts";
import { TokenSplit } from "../../model/text/shard.ts";
import { openTokenizer, vocabularyDigest } from "../../model/text/tokenizer.ts";
import { HashSet } from "./hash_set.ts";
import { Spill } from "./token_spill.ts";
import { type DatasetResult, datasetSchema } from "../dataset_result.ts";
import { download } from "../download/download.ts";
import { entropy } from "./split_writer.ts";
import { runStage, type StageRun } from "../testing.ts";
import {
  isValidation,
  runTokenize,
  tokenize,
  tokenizerSchema,
  vocabularySize,
} from "./tokenize.ts";

/** Documents in `dir/documents`, one file a list of lines. */
async function documentsOf(dir: string, files: readonly string[][]): Promise<NodeOutput> {
  const source = await runStage(download, {
    params: { source: "files", files: { glob: join(dir, "in-*.jsonl") } },
    dir: join(dir, "download"),
  }, async (context) => {
    for (const [index, lines] of files.entries()) {
      await Deno.writeFile(
        join(context.output("documents"), `${index}.jsonl.gz`),
        gzipSync(lines.join("\n") + "\n"),
      );
    }
    context.json("source", {});
  });
  return source.output;
}

const line = (text: string) => JSON.stringify({ text });
const TEXTS = Array.from(
  { length: 300 },
  (_, i) => `Document ${i}: über ${"word ".repeat(i % 17)}日本 👩‍👧 <|endoftext|> ${i * i}.`,
);

async function run(
  documents: NodeOutput,
  params: JsonValue,
  options: { dir: string; workers?: number },
): Promise<StageRun & { dataset: DatasetResult }> {
  const result = await runStage(
    tokenize,
    { params, inputs: { download: [documents] }, dir: options.dir },
    (context) => runTokenize(context, { workers: options.workers ?? 2 }),
  );
  return { ...result, dataset: datasetSchema.parse(result.json.dataset) };
}

async function inFolder(test: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Documents of a split, decoded. */
async function readSplit(result: StageRun, name: string): Promise<string[]> {
  const files = result.output.files("tokens").filter((file) => file.startsWith(`${name}/`))
    .map((file) => result.output.file("tokens", file));
  const vocabulary = JSON.parse(
    await Deno.readTextFile(result.output.file("tokens", "vocabulary.json")),
  );
  const tokenizer = await openTokenizer(vocabulary);
  using split = TokenSplit.open(files, { digest: await vocabularyDigest(vocabulary) });
  const documents: string[] = [];
  let ids: number[] = [];
  for (const id of split.read(0, split.length)) {
    if (id === tokenizer.endoftext) {
      documents.push(tokenizer.decode(ids));
      ids = [];
    } else {
      ids.push(id);
    }
  }
  assertEquals(ids, []);
  return documents;
}

for (const params of [{}, { vocabulary: "gpt2" }, { vocabulary: "compact", vocab_size: 300 }]) {
  Deno.test(`tokenize: every text comes back, once, in its split ${JSON.stringify(params)}`, () =>
    inFolder(async (dir) => {
      const lines = [...TEXTS, TEXTS[3]!, "", TEXTS[7]!].map(line);
      const documents = await documentsOf(dir, [lines.slice(0, 100), [], lines.slice(100)]);
      const result = await run(
        documents,
        { ...params, validation_fraction: 0.2, shard_tokens: 1024 },
        { dir },
      );
      const { dataset } = result;
      assertEquals([dataset.documents, dataset.duplicates, dataset.empty], [303, 2, 1]);
      const held = (text: string) => isValidation(createHash("sha256").update(text).digest(), 0.2);
      for (const name of ["train", "validation"] as const) {
        const expected = TEXTS.filter((text) => held(text) === (name === "validation"));
        assertEquals(await readSplit(result, name), expected);
        const { tokens, bytes, documents, shards } = dataset.splits[name];
        assertEquals(documents, expected.length);
        assertEquals(bytes, new TextEncoder().encode(expected.join("")).length);
        assertEquals(shards.reduce((sum, shard) => sum + shard.tokens, 0), tokens);
        assertEquals(shards.reduce((sum, shard) => sum + shard.bytes, 0), bytes);
        assert(shards.length > 1);
      }
      const files = dataset.splits.validation.shards.map(({ file }) =>
        result.output.file("tokens", file)
      );
      using split = TokenSplit.open(files);
      const counts = new Float64Array(dataset.vocab_size);
      for (const id of split.read(0, split.length)) counts[id]!++;
      const share = (n: number) => n > 0 ? n / split.length * Math.log(split.length / n) : 0;
      assertAlmostEquals(
        dataset.splits.validation.unigram_entropy_nats,
        counts.reduce((sum, n) => sum + share(n), 0),
        1e-9,
      );
    }));
}

Deno.test("tokenize: what the source holds out is the validation split, and nothing of it is learned", () =>
  inFolder(async (dir) => {
    const files = { glob: join(dir, "train-*.jsonl"), validation: join(dir, "held-*.jsonl") };
    const held = TEXTS.slice(0, 40);
    // The last of the held-out texts are among the others, too.
    const rest = TEXTS.slice(30);
    await Deno.writeTextFile(join(dir, "held-0.jsonl"), held.map(line).join("\n"));
    await Deno.writeTextFile(join(dir, "train-0.jsonl"), rest.map(line).join("\n"));
    const documents = await runStage(download, {
      params: { source: "files", files },
      dir: join(dir, "download"),
    });
    for (const params of [{}, { vocabulary: "compact", vocab_size: 300 }]) {
      const result = await run(documents.output, params, { dir: join(dir, "tokenize") });
      assertEquals(result.dataset.duplicates, 10);
      assertEquals(await readSplit(result, "validation"), held);
      assertEquals(await readSplit(result, "train"), TEXTS.slice(40));
      assertEquals(result.json.dataset, { ...result.dataset, validation_fraction: null });
    }
  }));

Deno.test("tokenize: the number of workers changes no byte", () =>
  inFolder(async (dir) => {
    // Several batches, so that workers can overtake each other.
    const lines = Array.from({ length: 900 }, (_, i) =>
      line(`${i} ` + "lorem ipsum dolor sit amet ".repeat(i % 90)));
    const documents = await documentsOf(dir, [lines]);
    const digests: string[][] = [];
    for (const workers of [1, 3]) {
      const result = await run(
        documents,
        { vocabulary: "compact", vocab_size: 400 },
        { dir: join(dir, `${workers}`), workers },
      );
      digests.push(
        result.output.files("tokens").map((file) =>
          createHash("sha256").update(Deno.readFileSync(result.output.file("tokens", file)))
            .digest("hex")
        ),
      );
      assertEquals(Array.from(Deno.readDirSync(join(dir, `${workers}`, "state"))), []);
    }
    assertEquals(digests[0], digests[1]);
  }));

Deno.test("tokenize: documents without a break come back beside others", () =>
  inFolder(async (dir) => {
    // Each takes minutes in quadratic time, and the first is longer than tiktoken's expressions go.
    const long = ["^".repeat(1_200_000), "A".repeat(200_000), "的一是不了在人有我他".repeat(4000)];
    const texts = [...TEXTS.slice(0, 50), ...long, ...TEXTS.slice(50, 100)];
    const documents = await documentsOf(dir, [texts.map(line)]);
    for (const params of [{}, { vocabulary: "gpt2" }, { vocabulary: "compact", vocab_size: 300 }]) {
      const result = await run(documents, params, { dir });
      const read = [
        ...await readSplit(result, "train"),
        ...await readSplit(result, "validation"),
      ];
      assertEquals(new Set(read), new Set(texts));
    }
  }));

Deno.test("tokenize: limits take whole documents", () =>
  inFolder(async (dir) => {
    const documents = await documentsOf(dir, [TEXTS.map(line)]);
    for (const vocabulary of ["cl100k_base", "gpt2", "compact"]) {
      const { dataset } = await run(
        documents,
        {
          vocabulary,
          max_train_tokens: 2000,
          max_validation_tokens: 200,
          validation_fraction: 0.3,
        },
        { dir },
      );
      assert(dataset.splits.train.tokens <= 2000 && dataset.splits.train.tokens > 1800);
      assert(dataset.splits.validation.tokens <= 200 && dataset.splits.validation.tokens > 100);
    }
  }));

Deno.test("tokenize: a held-out split in which no token of text is predicted is refused, with its file", () =>
  inFolder(async (dir) => {
    const held = join(dir, "held.txt");
    const files = { glob: join(dir, "train.txt"), validation: held };
    await Deno.writeTextFile(join(dir, "train.txt"), TEXTS.join("\n\n"));
    const tokenized = async (text: string, params: JsonValue = {}) => {
      await Deno.writeTextFile(held, text);
      const { output } = await runStage(download, {
        params: { source: "files", files },
        dir: join(dir, "download"),
      });
      return await run(output, params, { dir: join(dir, "tokenize"), workers: 1 });
    };
    const message =
      "The held-out split has 2 tokens of 1 document, <|endoftext|> included; it needs at least 3";
    await assertRejects(() => tokenized("word"), Error, message);
    await assertRejects(() => tokenized("word"), Error, `add text to ${held}`);
    const { dataset } = await tokenized("two words");
    assertEquals(dataset.splits.validation.tokens, 3);
    await assertRejects(
      () => tokenized("word", { max_validation_tokens: 2 }),
      Error,
      "raise max_validation_tokens 2",
    );
    assert(!(await exists(join(dir, "tokenize/output/tokens/vocabulary.json"))));
  }));

Deno.test("tokenize: bad documents are named", () =>
  inFolder(async (dir) => {
    const good = line("fine");
    const fails = async (lines: string[], words: string, params: JsonValue = {}) => {
      const documents = await documentsOf(dir, [[good], lines]);
      await assertRejects(() => run(documents, params, { dir, workers: 1 }), Error, words);
    };
    await fails([good, "{broken"], "1.jsonl.gz: line 2 is not JSON");
    await fails([good, '{"content":"x"}'], 'line 2 has no string "text"; its keys are content');
    await fails([good], "validation split has no document", { validation_fraction: 1e-9 });
    await fails([good], "max_train_tokens 1", { max_train_tokens: 1 });
    const documents = await documentsOf(dir, [[good]]);
    const path = documents.file("documents", "0.jsonl.gz");
    await Deno.writeFile(path, (await Deno.readFile(path)).subarray(0, 15));
    await assertRejects(
      () => run(documents, {}, { dir, workers: 1 }),
      Error,
      "0.jsonl.gz can't be read",
    );
    await assertRejects(
      () => runStage(tokenize, { params: {}, dir }),
      Error,
      'has 0 inputs "download"',
    );
  }));

Deno.test("tokenizerSchema: says what is wrong and where", () => {
  const issue = (value: unknown) => {
    const { error } = tokenizerSchema.safeParse(value);
    return `${error?.issues[0]?.path.join(".")}: ${error?.issues[0]?.message}`;
  };
  assertEquals(
    issue({ vocab_size: 1024 }),
    "vocab_size: 1024 has no effect with vocabulary: cl100k_base, which has 100277 ids; set vocabulary: compact",
  );
  assertEquals(
    issue({ vocabulary: "gpt3" }),
    'vocabulary: "gpt3" is not a vocabulary; expected cl100k_base, gpt2 or compact',
  );
  assertEquals(
    issue({ vocabulary: "compact", vocab_size: 100 }),
    "vocab_size: vocab_size is at least 257: 256 bytes and <|endoftext|>",
  );
  assertEquals(
    issue({ validation_fraction: 0 }),
    "validation_fraction: validation_fraction must be more than 0",
  );
});

Deno.test("vocabularySize: of each vocabulary, given or not", () => {
  const size = (section: JsonValue) => vocabularySize(tokenizerSchema.parse(section));
  assertEquals(size({}), 100277);
  assertEquals(size({ vocabulary: "gpt2" }), 50257);
  assertEquals(size({ vocabulary: "compact" }), 8192);
  assertEquals(size({ vocabulary: "compact", vocab_size: 300 }), 300);
});

Deno.test("HashSet: tells 20,000 hashes apart", () => {
  const set = new HashSet();
  const hash = (i: number) => createHash("sha256").update(`${i}`).digest().subarray(0, 16);
  for (let i = 0; i < 20_000; i++) assertEquals(set.add(hash(i)), true);
  for (let i = 0; i < 20_000; i += 7) assertEquals(set.add(hash(i)), false);
  assertEquals(set.size, 20_000);
});

Deno.test("Spill: gives back documents longer and shorter than its block", () =>
  inFolder((dir) => {
    using spill = new Spill(join(dir, "spill"));
    const sizes = [0, 1, 300_000, 5, 262_144, 1_000, 700_000, 3];
    const tokens = (n: number) => Uint32Array.from({ length: n }, (_, i) => i ^ n);
    sizes.forEach((n, i) => spill.write(tokens(n), n * 4, i % 2));
    const read = Array.from(spill.read(), ({ tokens, bytes, tag }) => ({
      tokens: tokens.slice(),
      bytes,
      tag,
    }));
    assertEquals(read.map(({ bytes, tag }) => [bytes, tag]), sizes.map((n, i) => [n * 4, i % 2]));
    sizes.forEach((n, i) => assert(read[i]!.tokens.every((id, at) => id === (at ^ n))));
    assertEquals(read.map(({ tokens }) => tokens.length), sizes);
    return Promise.resolve();
  }));

Deno.test("entropy: of one, two and no token", () => {
  assertEquals(entropy([9]), 0);
  assertAlmostEquals(entropy([2, 1, 1]), 1.5 * Math.LN2, 1e-12);
  assertEquals(entropy([]), 0);
});
