import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { predictionOf } from "../../../model/inference/log_probability.ts";
import { openTokenizer } from "../../../model/text/tokenizer.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { BYTE_VOCABULARY } from "../model/checkpoint_testing.ts";
import { runTask } from "../speed/task_testing.ts";
import { writeByteModel } from "../serve/serve_testing.ts";
import { evaluateTask, type PrepareOptions, prepareTask } from "./lm_eval.ts";
import type { ScoringModel } from "./score.ts";

const DATA = fromFileUrl(new URL("testdata/", import.meta.url));
const tokenizer = await openTokenizer(BYTE_VOCABULARY);
const OPTIONS = { tokenizer, context: 2048, begin: false, seed: 1234 };

/** The rule of arithmetic of `testdata/make_testdata.py`. */
const ruleModel: ScoringModel = {
  score(sequences, take) {
    for (const [i, { tokens, from, next }] of sequences.entries()) {
      let total = 0;
      for (let position = 0; position < tokens.length; position++) {
        const last = tokens[position]!;
        total += last;
        if (position < from) continue;
        const favourite = last >= 97 && last < 123 && total % 4 === 0 ? 32 : 97 + last * 7 % 26;
        const logits = Float32Array.from(
          { length: 257 },
          (_, id) =>
            (total * 31 + id * 17 + last * id % 13) % 97 / 16 - 3 +
            (id === favourite ? 6.5 : 0),
        );
        take(
          i,
          position,
          predictionOf(logits, { next: tokens[position + 1] ?? next, count: 1 }),
        );
      }
    }
    return Promise.resolve();
  },
};

Deno.test("Metrics and their errors are those of a calculation in Python on the same logits", async () => {
  const expected = JSON.parse(await Deno.readTextFile(join(DATA, "expected.json")));
  const compare = async (name: string, file: string, changes: Partial<PrepareOptions> = {}) => {
    const prepared = await prepareTask(join(DATA, file), { ...OPTIONS, ...changes });
    const { metrics } = await evaluateTask(ruleModel, prepared, { iterations: 2000 });
    assertEquals(metrics.map(({ metric }) => metric), Object.keys(expected[name]));
    for (const { metric, value, stderr } of metrics) {
      const [wanted, error] = expected[name][metric];
      assertAlmostEquals(value, wanted, 1e-11 * wanted, `${name} ${metric}`);
      assertAlmostEquals(stderr!, error, 1e-9 * error, `${name} ${metric}`);
    }
    return prepared;
  };
  const choice = await compare("choice", "choice.yaml");
  assertEquals([choice.examples.length, choice.continuations.length], [20, 80]);
  await compare("choice_shots", "choice.yaml", { num_fewshot: 2 });
  const short = await compare("choice_short", "choice.yaml", { num_fewshot: 2, context: 24 });
  assert(short.continuations.every(({ tokens, cut }) => tokens.length === 24 && cut > 0));
  await compare("choice_begin", "choice.yaml", { begin: true });
  await compare("last_word", "last_word.yaml");
  await compare("last_word_shots", "last_word.yaml", { num_fewshot: 3 });
  await compare("endings", "endings.yaml", { data: DATA });
});

Deno.test("Documents are read from Parquet with their lists", async () => {
  const folder = await Deno.makeTempDir();
  const { DuckDBInstance } = await import("@duckdb/node-api");
  const instance = await DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  await Deno.mkdir(join(folder, "numbers"));
  for (const split of ["train", "test"]) {
    const to = join(folder, "numbers", `${split}-00000-of-00001.parquet`);
    await connection.run(
      `COPY (SELECT * FROM read_json('${join(DATA, `choice_${split}.jsonl`)}')) TO '${to}'`,
    );
  }
  connection.closeSync();
  instance.closeSync();
  const options = { ...OPTIONS, num_fewshot: 2 };
  const rows = await prepareTask(join(DATA, "choice.yaml"), { ...options, data: folder });
  const lines = await prepareTask(join(DATA, "choice.yaml"), options);
  assertEquals(rows.examples, lines.examples);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("A wrong task is refused in one line that names its file", async () => {
  const folder = await Deno.makeTempDir();
  const whole = {
    task: "t",
    output_type: "multiple_choice",
    test_split: "test",
    dataset_kwargs: { data_files: { test: "t.jsonl" } },
    doc_to_text: "{{q}}",
    doc_to_target: "{{a}}",
    doc_to_choice: ["yes", "no"],
  };
  const file = join(folder, "t.json");
  await Deno.writeTextFile(join(folder, "t.jsonl"), '{"q": "Is it?", "a": 1}\n');
  const prepare = async (
    changes: Record<string, unknown>,
    options: Partial<PrepareOptions> = {},
  ) => {
    const values = Object.entries({ ...whole, ...changes }).filter(([, value]) => value !== null);
    await Deno.writeTextFile(file, JSON.stringify(Object.fromEntries(values)));
    return await prepareTask(file, { ...OPTIONS, ...options });
  };
  assertEquals((await prepare({})).examples[0]!.gold, [1]);
  const refused = async (
    message: string,
    changes: Record<string, unknown>,
    options: Partial<PrepareOptions> = {},
  ) => {
    const error = await assertRejects(() => prepare(changes, options), UserError);
    assertEquals(error.message, message.replaceAll("FILE", file).replaceAll("FOLDER", folder));
    assertEquals(error.exitCode, 2);
  };
  await refused("FILE: `task` is missing.", { task: null });
  await refused("FILE: `doc_to_text` is missing.", { doc_to_text: null });
  await refused("FILE: `doc_to_choice` is missing; a multiple_choice task needs its choices.", {
    doc_to_choice: null,
  });
  await refused(
    "FILE: `test_split` is missing, and so is `validation_split`; expected one of them.",
    { test_split: null },
  );
  await refused("FILE: `doc_to_txt` is no key that lm-eval knows here.", { doc_to_txt: "x" });
  await refused(
    'FILE: `output_type` is "generate_until": Invalid option: expected one of "multiple_choice"|"loglikelihood".',
    { output_type: "generate_until" },
  );
  await refused(
    "FILE: `metric_list.0.metric` is mcc; expected acc, acc_norm, acc_bytes for multiple_choice.",
    { metric_list: [{ metric: "mcc" }] },
  );
  await refused("FILE: `doc_to_text` is no template: Unexpected end of input.", {
    doc_to_text: "{{q",
  });
  await refused("FILE: document 0 of test: the document has no field `question`.", {
    doc_to_text: "{{question}}",
  });
  await refused("FILE: document 0 of test: `doc_to_target` gives 2; expected one of 2 choices.", {
    doc_to_target: 2,
  });
  await refused(
    "FILE: `process_docs` is the Python function utils.f; expected none, or HellaSwag's.",
    { process_docs: { function: "utils.f" } },
  );
  await refused("FILE: `dataset_kwargs.data_files` has no split test; expected one of train.", {
    dataset_kwargs: { data_files: "t.jsonl" },
  });
  await refused(
    "FILE: `dataset_kwargs.data_files` is missing; give it, or the folder of the files of the dataset as --data.",
    { dataset_kwargs: null },
  );
  await refused(
    "--data FOLDER has no file of the split test; expected test.jsonl, test.json or test-*.parquet.",
    {},
    { data: folder },
  );
  await refused(
    "FILE: 2 examples are to be drawn of 1 documents of the split test; lower --num-fewshot.",
    {},
    { num_fewshot: 2 },
  );
  await refused(
    "FILE: document 0: a continuation has 4 tokens; expected at most 3, the tokens of a context.",
    {},
    { context: 3 },
  );
  await Deno.writeTextFile(join(folder, "t.jsonl"), '{"q": 1}\n[]\n');
  await refused("FOLDER/t.jsonl: line 2 is no document; expected an object.", {});
  await Deno.writeTextFile(file, "task: [");
  const broken = await assertRejects(() => prepareTask(file, OPTIONS), UserError);
  assert(/^.*t\.json: line 1: .*\.$/.test(broken.message), broken.message);
  await assertRejects(
    () => prepareTask(join(folder, "none.yaml"), OPTIONS),
    UserError,
    "none.yaml: there is no such file.",
  );
  await Deno.remove(folder, { recursive: true });
});

Deno.test("The task lm-eval scores a model with the permissions that it names", async () => {
  const folder = await Deno.makeTempDir();
  await writeByteModel(folder);
  const out = join(folder, "results.json");
  const run = (...args: string[]) => runTask(["lm-eval", "--checkpoint", folder, ...args]);
  const tasks = ["--tasks", join(DATA, "choice.yaml"), "--tasks", join(DATA, "last_word.yaml")];
  const ended = await run(
    ...tasks,
    "--num-fewshot",
    "1",
    "--limit",
    "3",
    "--bootstrap-iters",
    "500",
    "--out",
    out,
  );
  assertEquals(ended.code, 0, ended.stderr);
  assert(/^test_last_word {2}1 +1 +perplexity {2}↓ {2}\d/m.test(ended.stdout), ended.stdout);
  const json = JSON.parse(await Deno.readTextFile(out));
  assertEquals(Object.keys(json.results), ["test_choice", "test_last_word"]);
  const { test_choice, test_last_word } = json.results;
  assertEquals(Object.keys(test_choice), [
    "alias",
    "acc,none",
    "acc_stderr,none",
    "acc_norm,none",
    "acc_norm_stderr,none",
    "acc_bytes,none",
    "acc_bytes_stderr,none",
  ]);
  assert(test_last_word["perplexity,none"] > 1);
  assertEquals(json["n-samples"].test_choice, { original: 20, effective: 3 });
  assertEquals([json["n-shot"].test_choice, json.versions.test_choice], [1, 1]);
  const missing = await run("--tasks", join(folder, "none.yaml"));
  assertEquals([missing.code, missing.stderr.trim()], [
    2,
    `error: ${join(folder, "none.yaml")}: there is no such file.`,
  ]);
  await Deno.remove(folder, { recursive: true });
});
