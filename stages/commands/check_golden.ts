/**
 * `check-golden DIR`: compares every golden file of a folder with the project's results.
 *
 * @module
 */

import { join } from "@std/path";
import type { Comparison, GoldenCase, GoldenImplementation } from "../../model/golden/golden.ts";
import { compareGolden } from "../../model/golden/compare.ts";
import { parseGolden } from "../../model/golden/file.ts";

/** The files to compare, and the way to print the result. */
export interface CheckGoldenOptions {
  /** Folder of `*.safetensors` files. */
  readonly directory: string;
  /** Names of files, with or without `.safetensors`; every file unless given. */
  readonly only?: readonly string[];
  /** The implementations that compute; a table for each. */
  readonly implementations: readonly GoldenImplementation[];
  /** One JSON document instead of tables. */
  readonly json?: boolean;
  /** Where text goes; standard output unless given. */
  readonly print?: (text: string) => void;
}

/** The result of one implementation on one file. */
export interface GoldenReport {
  /** Name of the file. */
  readonly file: string;
  /** Name of the implementation. */
  readonly implementation: string;
  /** Whether every tensor is within tolerance. */
  readonly ok: boolean;
  /** Tensor by tensor. */
  readonly comparisons: readonly Comparison[];
  /** The error that stopped the comparison, if one did. */
  readonly error?: string;
}

const EXTENSION = ".safetensors";

/** Exit codes: every number within tolerance; one that is not; input that cannot be read. */
const WITHIN = 0;
const MISS = 1;
const UNREADABLE = 2;

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Names of the golden files, sorted. @throws {Error} If there are none, or `only` names one that is not there. */
async function listFiles(directory: string, only: readonly string[] | undefined) {
  const files: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    if (!isDirectory && name.endsWith(EXTENSION)) files.push(name);
  }
  files.sort();
  if (files.length === 0) throw new Error(`${directory} has no ${EXTENSION} files`);
  if (only === undefined || only.length === 0) return files;
  return only.map((wanted) => {
    const file = wanted.endsWith(EXTENSION) ? wanted : wanted + EXTENSION;
    if (!files.includes(file)) {
      throw new Error(`${directory} has no golden file ${file}; there are ${files.join(", ")}`);
    }
    return file;
  });
}

async function report(
  implementation: GoldenImplementation,
  golden: GoldenCase,
): Promise<GoldenReport> {
  const base = { file: golden.file, implementation: implementation.name };
  try {
    const comparisons = await compareGolden(implementation, golden);
    // A file of which nothing was compared has not been checked.
    const ok = comparisons.some((row) => !row.omitted) && comparisons.every((row) => row.ok);
    return { ...base, ok, comparisons };
  } catch (error) {
    return { ...base, ok: false, comparisons: [], error: message(error) };
  }
}

/** Rows of text with their columns aligned. */
function align(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((cells) => cells[i]!.length)));
  return rows.map((cells) => cells.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd())
    .join("\n");
}

function cells({ tensor, measure, error, tolerance, ok, omitted, note }: Comparison): string[] {
  const equal = measure === "equal";
  const tokens = measure === "tokens";
  const shown = note ?? (equal || tokens ? `${error} differ` : error.toExponential(1));
  return [
    tensor,
    shown,
    equal ? "equal" : tokens ? `counted of ${tolerance}` : tolerance.toExponential(1),
    measure,
    omitted ? "omitted" : ok ? "ok" : "MISS",
  ];
}

function table({ file, implementation, ok, comparisons, error }: GoldenReport): string {
  const head = `${file} · ${implementation} · ${ok ? "ok" : "MISS"}`;
  if (error !== undefined) return `${head}\n${error}\n`;
  const columns = ["tensor", "error", "tolerance", "measure", "ok"];
  return `${head}\n${align([columns, ...comparisons.map(cells)])}\n`;
}

/**
 * Compares golden files and prints a table of errors against tolerances for each.
 *
 * @returns The exit code: 0 if everything is within tolerance, 1 if something is not, 2 if a file or the folder cannot be read.
 */
export async function checkGolden(options: CheckGoldenOptions): Promise<number> {
  const { directory, only, implementations, json = false } = options;
  const print = options.print ?? ((text: string) => {
    const bytes = new TextEncoder().encode(`${text}\n`);
    for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
  });

  const reports: GoldenReport[] = [];
  const unreadable: { file: string; error: string }[] = [];
  let files: string[] = [];
  try {
    files = await listFiles(directory, only);
  } catch (error) {
    const text = error instanceof Deno.errors.NotFound
      ? `There is no folder ${directory}`
      : message(error);
    unreadable.push({ file: directory, error: text });
  }
  for (const file of files) {
    let golden: GoldenCase;
    try {
      golden = parseGolden(await Deno.readFile(join(directory, file)), file);
    } catch (error) {
      unreadable.push({ file, error: message(error) });
      if (!json) print(`${file} · cannot be read\n${message(error)}\n`);
      continue;
    }
    for (const implementation of implementations) {
      if (implementation.kinds?.has(golden.kind) === false) continue;
      const done = await report(implementation, golden);
      reports.push(done);
      if (!json) print(table(done));
    }
  }

  const missed = reports.filter(({ ok }) => !ok);
  const nothing = reports.length === 0;
  const code = unreadable.length > 0 ? UNREADABLE : missed.length > 0 || nothing ? MISS : WITHIN;
  if (json) {
    print(JSON.stringify({ ok: code === WITHIN, reports, unreadable }, null, 2));
    return code;
  }
  for (const { file, error } of unreadable) if (file === directory) print(error);
  const compared = reports.reduce((sum, { comparisons }) => sum + comparisons.length, 0);
  print(
    `${
      reports.length - missed.length
    } of ${reports.length} tables within tolerance, ${compared} comparisons` +
      (missed.length > 0
        ? `; misses in ${missed.map((r) => `${r.file} (${r.implementation})`).join(", ")}`
        : ""),
  );
  return code;
}
