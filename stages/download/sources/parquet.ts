/**
 * Documents of a Parquet file, read by DuckDB: row after row, a few thousand in memory at once.
 *
 * @module
 */

import type { DuckDBConnection } from "@duckdb/node-api";
import { message, recordDocument, type TextDocument } from "./document.ts";
import { SourceError } from "./error.ts";

/** Memory of DuckDB: a few row groups of text. */
const MEMORY = "1GB";

/** How to read a Parquet file. */
export interface ParquetOptions {
  /** Name of the file, for messages. */
  readonly name: string;
  /** Column of the text; `text` unless given. */
  readonly text_field?: string | undefined;
  /** Whether rows of blank text count: they do where rows are the lines of a text. */
  readonly blank?: boolean;
  /** Told the bytes of the file that the rows read so far take in the mean. */
  readonly onRead?: (bytes: number) => void;
}

/**
 * Documents of a file, in the order of its rows; a blank text is left out, unless `blank` says otherwise. Columns `url` and `timestamp` go with them where they hold text.
 *
 * @param path Absolute or relative; characters that DuckDB takes for a pattern are the name's own.
 * @throws {SourceError} Of one line that names the file, if it is damaged or has no such column of text.
 */
export async function* readParquet(
  path: string,
  options: ParquetOptions,
): AsyncGenerator<TextDocument> {
  const { name, text_field = "text", blank = false, onRead } = options;
  const file = pattern(path);
  // A native library, which commands that read no Parquet need no permission for.
  const { DuckDBInstance } = await import("@duckdb/node-api");
  const instance = await DuckDBInstance.create(":memory:", {
    // Parquet is built in. Nothing is fetched, and no other extension is loaded.
    autoinstall_known_extensions: "false",
    autoload_known_extensions: "false",
    memory_limit: MEMORY,
    // Rows that would not fit are an error: nothing is written beside the working tree.
    temp_directory: "",
    // One thread reads the rows in their order, whatever the machine.
    threads: "1",
  });
  let connection: DuckDBConnection | undefined;
  try {
    connection = await instance.connect();
    const columns = await textColumns(connection, file, { name, text_field });
    const rowBytes = await bytesPerRow(connection, file, path);
    const list = columns.map((column) => `"${column.replaceAll('"', '""')}"`).join(", ");
    const result = await connection.stream(`SELECT ${list} FROM read_parquet($1)`, [file]);
    let row = 0;
    for (let chunk; (chunk = await result.fetchChunk()) && chunk.rowCount > 0;) {
      for (const values of chunk.getRows()) {
        const record = Object.fromEntries(columns.map((column, i) => [column, values[i]]));
        const document = recordDocument(record, { name, text_field, place: `row ${++row}` });
        if (blank || document.text.trim() !== "") yield document;
      }
      onRead?.(Math.round(row * rowBytes));
    }
  } catch (error) {
    // A row without text has said so itself.
    if (error instanceof SourceError || message(error).startsWith(`${name}: row `)) throw error;
    throw new SourceError(`${name} can't be read as Parquet: ${reason(error, path)}`, {
      cause: error,
    });
  } finally {
    connection?.closeSync();
    instance.closeSync();
  }
}

/** The column of the text, and those beside it that documents keep. */
async function textColumns(
  connection: DuckDBConnection,
  file: string,
  { name, text_field }: { readonly name: string; readonly text_field: string },
): Promise<string[]> {
  const described = await connection.runAndReadAll(
    "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet($1))",
    [file],
  );
  const types = new Map(described.getRows().map(([column, type]) => [String(column), type]));
  const type = types.get(text_field);
  if (type === undefined) {
    throw new SourceError(
      `${name} has no column ${JSON.stringify(text_field)}; its columns are ${
        [...types.keys()].slice(0, 10).join(", ")
      }`,
    );
  }
  if (type !== "VARCHAR") {
    throw new SourceError(
      `${name}: the column ${
        JSON.stringify(text_field)
      } is ${type}; expected VARCHAR, which is text`,
    );
  }
  const more = ["url", "timestamp"].filter((column) =>
    column !== text_field && types.get(column) === "VARCHAR"
  );
  return [text_field, ...more];
}

/** Bytes of a file for each of its rows. */
async function bytesPerRow(
  connection: DuckDBConnection,
  file: string,
  path: string,
): Promise<number> {
  const counted = await connection.runAndReadAll(
    "SELECT num_rows FROM parquet_file_metadata($1)",
    [file],
  );
  const { size } = await Deno.stat(path);
  return size / Math.max(1, Number(counted.getRows()[0]?.[0] ?? 1));
}

/** A path as a pattern of DuckDB that matches it alone. */
function pattern(path: string): string {
  return path.replaceAll(/[*?[{]/g, "[$&]");
}

/** The first line of DuckDB's message without the kind of the error; the file has been named. */
function reason(error: unknown, path: string): string {
  const [line = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
  return line.replace(/^(?:[\w ]+ Error: )+/, "").replaceAll(pattern(path), path)
    .replaceAll(` '${path}'`, "").trim();
}
