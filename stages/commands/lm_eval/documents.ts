/**
 * Documents of a task: rows of JSON, JSON lines or Parquet that lie beside the task or in a folder of the user's.
 *
 * @module
 */

import { dirname, isAbsolute, join, relative } from "@std/path";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import type { Task } from "./task_file.ts";

/** A row of a dataset. */
export type TaskDocument = Readonly<Record<string, unknown>>;

/** Extensions of files with rows. */
const ROWS = /\.(jsonl|json|parquet)$/;

/**
 * The documents of a split, in their order, processed as the task says.
 *
 * @param options `data`: a folder with files as the hub has them, whose names begin with the split's; the files that the task names unless
 *   given.
 * @throws {UserError} If there are none, or a file can't be read.
 */
export async function readDocuments(
  task: Task,
  split: string,
  { data }: { readonly data?: string | undefined },
): Promise<TaskDocument[]> {
  const paths = data === undefined ? await namedFiles(task, split) : await splitFiles(data, {
    split,
    name: task.dataset_name ?? undefined,
  });
  const documents: TaskDocument[] = [];
  for (const path of paths) {
    for (const row of await readRows(path)) documents.push(row);
  }
  if (documents.length === 0) {
    throw new UserError(`${paths.join(", ")}: there is no document; expected at least one.`);
  }
  const process = processOf(task);
  return documents.map((document, i) => {
    try {
      return process(document);
    } catch (error) {
      throw new UserError(`${task.file}: document ${i} of ${split}: ${messageOf(error)}.`, {
        cause: error,
      });
    }
  });
}

/** The files of `dataset_kwargs.data_files`. */
async function namedFiles(task: Task, split: string): Promise<string[]> {
  const given = task.dataset_kwargs?.data_files;
  if (given === undefined) {
    throw new UserError(
      `${task.file}: \`dataset_kwargs.data_files\` is missing; give it, or the folder of the files of ${
        task.dataset_path ?? "the dataset"
      } as --data.`,
    );
  }
  // Files without a split are the split `train`, as in the library that the harness reads them with.
  const bySplit = typeof given === "string" || Array.isArray(given) ? { train: given } : given;
  const names = bySplit[split];
  if (names === undefined) {
    throw new UserError(
      `${task.file}: \`dataset_kwargs.data_files\` has no split ${split}; expected one of ${
        Object.keys(bySplit).join(", ")
      }.`,
    );
  }
  return await Promise.all(
    [names].flat().map(async (name) => {
      if (isAbsolute(name)) return name;
      const beside = join(dirname(task.file), name);
      return await exists(beside) ? beside : name;
    }),
  );
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch {
    return false;
  }
}

/** Files of a folder whose names begin with the split's, those below the dataset's name first. */
async function splitFiles(
  folder: string,
  { split, name }: { readonly split: string; readonly name: string | undefined },
): Promise<string[]> {
  const found: string[] = [];
  const visit = async (at: string) => {
    for await (const entry of Deno.readDir(at)) {
      const path = join(at, entry.name);
      if (entry.isDirectory) await visit(path);
      else if (ROWS.test(entry.name) && belongs(relative(folder, path), split)) found.push(path);
    }
  };
  try {
    await visit(folder);
  } catch (error) {
    throw new UserError(`--data is ${folder}: ${messageOf(error)}.`, { cause: error });
  }
  const inside = name === undefined
    ? []
    : found.filter((path) => relative(folder, path).split("/").includes(name));
  const files = (inside.length > 0 ? inside : found).sort();
  if (files.length > 0) return files;
  throw new UserError(
    `--data ${folder} has no file of the split ${split}; expected ${split}.jsonl, ${split}.json or ${split}-*.parquet.`,
  );
}

/** Whether a file is one of a split: `test.jsonl`, `data/test-00000-of-00001.parquet`, `lambada_test.jsonl`. */
function belongs(path: string, split: string): boolean {
  const base = path.split("/").at(-1)!.replace(ROWS, "");
  return base.split(/[-_.]/).includes(split);
}

async function readRows(path: string): Promise<TaskDocument[]> {
  const bad = (message: string, cause?: unknown) =>
    new UserError(`${path}: ${message}.`, cause === undefined ? {} : { cause });
  const checked = (value: unknown, place: string): TaskDocument => {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return value as TaskDocument;
    }
    throw bad(`${place} is no document; expected an object`);
  };
  try {
    if (path.endsWith(".parquet")) return await readParquetRows(path);
    const text = (await Deno.readTextFile(path)).replace(/^\uFEFF/, "");
    if (/^\s*\[/.test(text)) {
      return (JSON.parse(text) as unknown[]).map((value, i) => checked(value, `element ${i}`));
    }
    return text.split("\n").flatMap((line, i) => {
      if (line.trim() === "") return [];
      try {
        return [checked(JSON.parse(line), `line ${i + 1}`)];
      } catch (error) {
        if (error instanceof UserError) throw error;
        throw bad(`line ${i + 1} is no JSON`, error);
      }
    });
  } catch (error) {
    if (error instanceof UserError) throw error;
    if (error instanceof Deno.errors.NotFound) throw bad("there is no such file", error);
    throw bad(messageOf(error), error);
  }
}

/** Rows of a Parquet file with all their columns, lists and structures too. */
async function readParquetRows(path: string): Promise<TaskDocument[]> {
  await Deno.stat(path);
  const { DuckDBInstance } = await import("@duckdb/node-api");
  const instance = await DuckDBInstance.create(":memory:", {
    autoinstall_known_extensions: "false",
    autoload_known_extensions: "false",
    temp_directory: "",
    threads: "1",
  });
  const connection = await instance.connect();
  try {
    const file = path.replace(/[*?[]/g, "[$&]");
    const result = await connection.runAndReadAll(
      "SELECT to_json(r)::VARCHAR FROM read_parquet($1) AS r",
      [file],
    );
    return result.getRows().map(([row]) => JSON.parse(String(row)) as TaskDocument);
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

/** The change of documents that a task asks for by the name of a function. */
function processOf(task: Task): (document: TaskDocument) => TaskDocument {
  const { process_docs, file, task: name } = task;
  if (!process_docs) return (document) => document;
  if (/^hellaswag/.test(name) && process_docs.function === "utils.process_docs") return hellaswag;
  throw new UserError(
    `${file}: \`process_docs\` is the Python function ${process_docs.function}; expected none, or HellaSwag's.`,
  );
}

/** HellaSwag's texts without the marks of the articles that they come from; its answer is a number. */
function hellaswag(document: TaskDocument): TaskDocument {
  const text = (key: string) => {
    const value = document[key];
    if (typeof value === "string") return value;
    throw new Error(`\`${key}\` is ${JSON.stringify(value) ?? "missing"}; expected a text`);
  };
  const clean = (value: string) =>
    value.trim().replaceAll(" [title]", ". ").replace(/\[.*?\]/g, "").replaceAll("  ", " ");
  const { endings, label } = document;
  if (!Array.isArray(endings)) throw new Error("`endings` is no list; expected one of texts");
  const second = text("ctx_b");
  const context = `${text("ctx_a")} ${second.slice(0, 1).toUpperCase()}${
    second.slice(1).toLowerCase()
  }`;
  return {
    ...document,
    query: clean(`${text("activity_label")}: ${context}`),
    choices: endings.map((ending) => clean(String(ending))),
    gold: Number(label),
  };
}
