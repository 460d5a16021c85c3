/**
 * A task in the format of lm-evaluation-harness: one YAML or JSON file, with the files that it includes.
 *
 * @module
 */

import { dirname, join } from "@std/path";
import { isNode, LineCounter, parseDocument, type ScalarTag } from "yaml";
import { z } from "zod";
import { messageOf, UserError } from "../../../pipeline/errors.ts";

/** A task file is written by hand. */
const MOST_BYTES = 2 ** 20;
/** Files that include one another. */
const MOST_INCLUDED = 16;
/** The shot count of which more is a mistake. */
const MOST_SHOTS = 1000;

/** A function of Python that a task names: `!function utils.process_docs`. */
export interface NamedFunction {
  readonly function: string;
}

const named = z.strictObject({ function: z.string() });
const split = z.string().min(1).nullish();
const files = z.union([z.string(), z.array(z.string())]);
const metricSchema = z.strictObject({
  metric: z.string({ error: "expected the name of a metric" }),
  aggregation: z.string().optional(),
  higher_is_better: z.boolean().optional(),
});

const taskSchema = z.strictObject({
  task: z.string().min(1),
  task_alias: z.string().nullish(),
  tag: z.union([z.string(), z.array(z.string())]).nullish(),
  group: z.union([z.string(), z.array(z.string())]).nullish(),
  dataset_path: z.string().nullish(),
  dataset_name: z.string().nullish(),
  dataset_kwargs: z.looseObject({
    data_files: z.union([files, z.record(z.string(), files)]).optional(),
  }).nullish(),
  training_split: split,
  validation_split: split,
  test_split: split,
  fewshot_split: split,
  fewshot_config: z.strictObject({
    sampler: z.enum(["default", "first_n"]).optional(),
    split: z.string().optional(),
    samples: z.array(z.record(z.string(), z.unknown())).optional(),
  }).nullish(),
  process_docs: named.nullish(),
  output_type: z.enum(["multiple_choice", "loglikelihood"]),
  doc_to_text: z.string(),
  doc_to_target: z.union([z.string(), z.int()]),
  doc_to_choice: z.union([
    z.string(),
    z.array(z.string()).min(1),
    z.record(z.string(), z.string()),
  ]).nullish(),
  description: z.string().nullish(),
  target_delimiter: z.string().default(" "),
  fewshot_delimiter: z.string().default("\n\n"),
  num_fewshot: z.int().min(0).max(MOST_SHOTS).nullish(),
  metric_list: z.array(metricSchema).min(1).nullish(),
  repeats: z.literal(1).optional(),
  should_decontaminate: z.boolean().optional(),
  doc_to_decontamination_query: z.string().nullish(),
  generation_kwargs: z.unknown().optional(),
  metadata: z.looseObject({
    version: z.union([z.number(), z.string()]).optional(),
  }).nullish(),
});

/** A checked task. */
export type Task = z.infer<typeof taskSchema> & {
  /** The file that it is read from. */
  readonly file: string;
};

const functionTag: ScalarTag = {
  tag: "!function",
  resolve: (text: string): NamedFunction => ({ function: text }),
};

/**
 * Reads a task.
 *
 * @throws {UserError} In one line that names the file, the key and the expectation.
 */
export async function readTask(file: string): Promise<Task> {
  const values = await readIncluding(file, 0);
  const result = taskSchema.safeParse(values);
  if (!result.success) throw refusal(file, values, result.error.issues[0]!);
  const task = result.data;
  const wrong = (key: string, message: string) => new UserError(`${file}: \`${key}\` ${message}.`);
  if (task.output_type === "multiple_choice" && task.doc_to_choice === undefined) {
    throw wrong("doc_to_choice", "is missing; a multiple_choice task needs its choices");
  }
  if ((task.test_split ?? task.validation_split ?? undefined) === undefined) {
    throw wrong("test_split", "is missing, and so is `validation_split`; expected one of them");
  }
  return { ...task, file };
}

/** The keys of a file over those of the file that it includes. */
async function readIncluding(file: string, depth: number): Promise<Record<string, unknown>> {
  if (depth > MOST_INCLUDED) {
    throw new UserError(`${file}: \`include\` goes on for more than ${MOST_INCLUDED} files.`);
  }
  const { include, ...own } = await readValues(file);
  if (include === undefined) return own;
  if (typeof include !== "string") {
    throw new UserError(`${file}: \`include\` is no text; expected the path of a file.`);
  }
  return { ...await readIncluding(join(dirname(file), include), depth + 1), ...own };
}

async function readValues(file: string): Promise<Record<string, unknown>> {
  const bad = (message: string, cause?: unknown) =>
    new UserError(`${file}: ${message}.`, cause === undefined ? {} : { cause });
  let text: string;
  try {
    const { size } = await Deno.stat(file);
    if (size > MOST_BYTES) throw new Error(`the file has ${size} bytes; expected a task`);
    text = await Deno.readTextFile(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw bad("there is no such file", error);
    throw bad(messageOf(error), error);
  }
  const lines = new LineCounter();
  // JSON is YAML, but for what a parser of YAML takes on trust.
  const document = parseDocument(text, { lineCounter: lines, customTags: [functionTag] });
  const [error = document.warnings[0]] = document.errors;
  if (error) throw bad(`line ${lines.linePos(error.pos[0]).line}: ${error.message.split("\n")[0]}`);
  const values: unknown = isNode(document.contents) ? document.toJS({ maxAliasCount: 100 }) : null;
  if (typeof values !== "object" || values === null || Array.isArray(values)) {
    throw bad("expected keys with values, such as `task: lambada`");
  }
  return values as Record<string, unknown>;
}

function refusal(file: string, values: unknown, issue: z.core.$ZodIssue): UserError {
  if (issue.code === "unrecognized_keys") {
    const path = [...issue.path, issue.keys[0]!].join(".");
    return new UserError(`${file}: \`${path}\` is no key that lm-eval knows here.`);
  }
  let value: unknown = values;
  for (const key of issue.path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  const path = issue.path.join(".");
  if (value === undefined) return new UserError(`${file}: \`${path}\` is missing.`);
  const python = (value as NamedFunction | null)?.function;
  if (typeof python === "string") {
    return new UserError(
      `${file}: \`${path}\` is the Python function ${python}; expected a template.`,
    );
  }
  const shown = JSON.stringify(value);
  const short = shown.length > 60 ? `${shown.slice(0, 60)}…` : shown;
  return new UserError(`${file}: \`${path}\` is ${short}: ${issue.message}.`);
}
