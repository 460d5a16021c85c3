/**
 * Configurations whose `data` or `tokenizer` section the real stages must refuse, and the message for each.
 *
 * @module
 */

import { MINIMAL } from "../config_testing.ts";
import { type Malformed, withLines } from "./malformed_testing.ts";

const data = (section: string) => MINIMAL.replace(/^data: .*$/m, `data: ${section}`);
const tokenizer = (section: string) => MINIMAL.replace(/^tokenizer: .*$/m, `tokenizer: ${section}`);

/** Configurations whose `data` or `tokenizer` section the real stages must refuse. */
export const MALFORMED_DATA: readonly Malformed[] = [
  {
    what: "a source without its section",
    text: data("{ source: files }"),
    says: [
      "bad.yaml:2: data.files: source: files needs files.glob, as files: { glob: text/*.jsonl }",
    ],
  },
  {
    what: "a section of another source",
    text: data("{ source: embedded, c4: { fraction: 0.1 } }"),
    says: ["bad.yaml:2: data.c4: has no effect with source: embedded; remove it or set source: c4"],
  },
  {
    what: "a fraction and shards",
    text: data("{ source: c4, c4: { fraction: 0.1, shards: [1] } }"),
    says: [
      "bad.yaml:2: data.c4.shards: fraction and shards say the same thing twice; give one of them",
    ],
  },
  {
    what: "a fraction of nothing",
    text: data("{ source: c4, c4: { fraction: 0 } }"),
    says: ["bad.yaml:2: data.c4.fraction: expected a number above 0 and at most 1, got 0"],
  },
  {
    what: "more than all",
    text: data("{ source: c4, c4: { fraction: 1.5 } }"),
    says: ["bad.yaml:2: data.c4.fraction: expected a number above 0 and at most 1, got 1.5"],
  },
  {
    what: "NaN of the shards",
    text: data("{ source: c4, c4: { fraction: .nan } }"),
    says: [
      "bad.yaml:2: data.c4.fraction: expected a number above 0 and at most 1, got NaN (not a number)",
    ],
  },
  {
    what: "a shard twice",
    text: data("{ source: c4, c4: { shards: [1, 1] } }"),
    says: ["bad.yaml:2: data.c4.shards: 1, 1 names a shard twice"],
  },
  {
    what: "a negative shard",
    text: data("{ source: c4, c4: { shards: [-1] } }"),
    says: ["bad.yaml:2: data.c4.shards.0: expected a whole number at least 0, got -1"],
  },
  {
    what: "no shard",
    text: data("{ source: c4, c4: { shards: [] } }"),
    says: ["bad.yaml:2: data.c4.shards: expected a list of at least 1 items, got a list of 0"],
  },
  {
    what: "a dataset that is a path",
    text: data("{ source: c4, c4: { dataset: ../../etc } }"),
    says: [
      'bad.yaml:2: data.c4.dataset: "../../etc" is not a dataset\'s name; expected owner/name, as allenai/c4, got "../../etc"',
    ],
  },
  {
    what: "a revision that is a path",
    text: data("{ source: c4, c4: { revision: ../main } }"),
    says: [
      'bad.yaml:2: data.c4.revision: "../main" is not a revision; expected a commit, a branch, a tag or a reference such as refs/pr/1',
    ],
  },
  {
    what: "a folder that is a path",
    text: data("{ source: c4, c4: { config: .. } }"),
    says: [
      'bad.yaml:2: data.c4.config: ".." is not a folder\'s name; expected one such as en, got ".."',
    ],
  },
  {
    what: "a typo in a source's section",
    text: data("{ source: c4, c4: { fracton: 0.1 } }"),
    says: ["bad.yaml:2: data.c4.fracton: unknown key; did you mean fraction?"],
  },
  {
    what: "no document",
    text: data("{ max_documents: 0 }"),
    says: ["bad.yaml:2: data.max_documents: expected a whole number at least 1, got 0"],
  },
  {
    what: "half a byte",
    text: data("{ max_bytes: 0.5 }"),
    says: ["bad.yaml:2: data.max_bytes: expected a whole number at least 1, got 0.5"],
  },
  {
    what: "bytes with a unit",
    text: data("{ max_bytes: 10MB }"),
    says: ['bad.yaml:2: data.max_bytes: expected a whole number at least 1, got "10MB"'],
  },
  {
    what: "an empty glob",
    text: data('{ source: files, files: { glob: "" } }'),
    says: ['bad.yaml:2: data.files.glob: expected text of at least 1 characters, got ""'],
  },
  {
    what: "a list of globs",
    text: data("{ source: files, files: { glob: [a, b] } }"),
    says: ["bad.yaml:2: data.files.glob: expected text of at least 1 characters, got a list of 2"],
  },
  {
    what: "an encoding that there is not",
    text: data("{ source: files, files: { glob: a.txt, encoding: klingon } }"),
    says: [
      'bad.yaml:2: data.files.encoding: "klingon" is not an encoding; expected one that TextDecoder knows, such as utf-8, latin1 or utf-16le',
    ],
  },
  {
    what: "an empty key",
    text: data('{ source: embedded, "": 1 }'),
    says: ["bad.yaml:2: data: a key must be a plain word"],
  },
  {
    what: "a key of two lines",
    text: data('{ source: embedded, "max\\nbytes": 1 }'),
    says: ["bad.yaml:2: data: a key must be a plain word"],
  },
  {
    what: "a folder in the place of files",
    text: data("{ source: files, files: { glob: configs } }"),
    says: [
      'bad.yaml: data: data.files.glob "configs" is a folder; expected its files, such as "configs/*.txt"',
    ],
  },
  {
    what: "a glob that matches nothing",
    text: data("{ source: files, files: { glob: /nowhere/at/all/*.txt } }"),
    says: [
      'bad.yaml: data: No file matches data.files.glob "/nowhere/at/all/*.txt"; it is read from ',
    ],
  },
  {
    what: "a glob of a kind of file that can't be read",
    text: data("{ source: files, files: { glob: deno.loc* } }"),
    says: [
      "bad.yaml: data: data.files.glob matches deno.lock; expected .jsonl, .json or .txt, each with or without .gz, or .parquet",
    ],
  },
  {
    what: "a separator that splits no file",
    text: data('{ source: files, files: { glob: deno.json, separator: "---" } }'),
    says: [
      'bad.yaml: data: data.files.separator "---" has no effect: it splits .txt and .txt.gz, and deno.json is neither; remove it',
    ],
  },
  {
    what: "a dataset of the hub without a revision",
    text: data('{ source: hub, hub: { dataset: a/b, files: "*.txt" } }'),
    says: ["bad.yaml:2: data.hub.revision: missing; expected text (commit; a branch is not"],
  },
  {
    what: "a source of the hub without its section",
    text: data("{ source: hub }"),
    says: ["bad.yaml:2: data.hub: source: hub needs hub.dataset, hub.revision and hub.files"],
  },
  {
    what: "a section that is text",
    text: data("embedded"),
    says: ['bad.yaml:2: data: expected a section (keys with values), got "embedded"'],
  },
  {
    what: "an unknown vocabulary",
    text: tokenizer("{ vocabulary: gpt3 }"),
    says: [
      'bad.yaml:3: tokenizer.vocabulary: expected one of cl100k_base, gpt2, compact, got "gpt3"',
    ],
  },
  {
    what: "a vocabulary smaller than the bytes",
    text: tokenizer("{ vocabulary: compact, vocab_size: 100 }"),
    says: ["bad.yaml:3: tokenizer.vocab_size: expected a whole number from 257 to 100257, got 100"],
  },
  {
    what: "a vocabulary larger than there is",
    text: tokenizer("{ vocabulary: compact, vocab_size: 200000 }"),
    says: [
      "bad.yaml:3: tokenizer.vocab_size: expected a whole number from 257 to 100257, got 200000",
    ],
  },
  {
    what: "a size of the paper's vocabulary",
    text: tokenizer("{ vocab_size: 1024 }"),
    says: [
      "bad.yaml:3: tokenizer.vocab_size: 1024 has no effect with vocabulary: cl100k_base, which has 100277 ids; set vocabulary: compact",
    ],
  },
  {
    what: "a size of the vocabulary of GPT-2",
    text: tokenizer("{ vocabulary: gpt2, vocab_size: 50304 }"),
    says: [
      "bad.yaml:3: tokenizer.vocab_size: 50304 has no effect with vocabulary: gpt2, which has 50257 ids; set vocabulary: compact",
    ],
  },
  {
    what: "nothing held out",
    text: tokenizer("{ validation_fraction: 0 }"),
    says: [
      "bad.yaml:3: tokenizer.validation_fraction: expected a number above 0 and at most 0.5, got 0",
    ],
  },
  {
    what: "all held out",
    text: tokenizer("{ validation_fraction: 1 }"),
    says: [
      "bad.yaml:3: tokenizer.validation_fraction: expected a number above 0 and at most 0.5, got 1",
    ],
  },
  {
    what: "a per cent held out",
    text: tokenizer("{ validation_fraction: 5% }"),
    says: [
      'bad.yaml:3: tokenizer.validation_fraction: expected a number above 0 and at most 0.5, got "5%"',
    ],
  },
  {
    what: "shards of nothing",
    text: tokenizer("{ shard_tokens: 1 }"),
    says: [
      "bad.yaml:3: tokenizer.shard_tokens: expected a whole number from 1024 to 2147483648, got 1",
    ],
  },
  {
    what: "no token to train on",
    text: tokenizer("{ max_train_tokens: 0 }"),
    says: ["bad.yaml:3: tokenizer.max_train_tokens: expected a whole number at least 1, got 0"],
  },
  {
    what: "a number of tokens beyond whole numbers",
    text: tokenizer("{ max_train_tokens: 1e300 }"),
    says: [
      "bad.yaml:3: tokenizer.max_train_tokens: expected a whole number at least 1, got 1e+300",
    ],
  },
  {
    what: "a typo in a limit",
    text: tokenizer("{ max_validation_token: 100 }"),
    says: [
      "bad.yaml:3: tokenizer.max_validation_token: unknown key; did you mean max_validation_tokens?",
    ],
  },
  {
    what: "results outside of the project",
    text: withLines("results: ../elsewhere"),
    says: ['bad.yaml:5: results: "../elsewhere" is not a folder inside the project'],
  },
  {
    what: "results at an absolute path",
    text: withLines("results: /tmp/elsewhere"),
    says: ['bad.yaml:5: results: "/tmp/elsewhere" is not a folder inside the project'],
  },
];
