/**
 * Parquet files made by DuckDB, for tests.
 *
 * @module
 */

import { DuckDBInstance } from "@duckdb/node-api";

/** How to make a Parquet file. */
export interface MakeOptions {
  /** Types of the columns by name; `text` alone unless given. */
  readonly columns?: Readonly<Record<string, string>>;
  /** Rows of a group. */
  readonly group?: number;
}

/** Bytes of a Parquet file with these rows, in their order. */
export async function parquetBytes(
  rows: readonly Readonly<Record<string, unknown>>[],
  options: MakeOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const { columns = { text: "VARCHAR" }, group = 2048 } = options;
  const dir = await Deno.makeTempDir();
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  const connection = await instance.connect();
  try {
    await Deno.writeTextFile(
      `${dir}/rows.jsonl`,
      rows.map((row) => JSON.stringify(row)).join("\n"),
    );
    const types = Object.entries(columns).map(([name, type]) => `'${name}': '${type}'`).join(", ");
    await connection.run(
      `COPY (SELECT * FROM read_json('${dir}/rows.jsonl', format = 'newline_delimited', columns = {${types}}))
       TO '${dir}/rows.parquet' (FORMAT parquet, ROW_GROUP_SIZE ${group})`,
    );
    return await Deno.readFile(`${dir}/rows.parquet`);
  } finally {
    connection.closeSync();
    instance.closeSync();
    await Deno.remove(dir, { recursive: true });
  }
}

/** Bytes of a Parquet file whose column `text` has these texts. */
export function parquetOf(
  texts: readonly string[],
  options: MakeOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  return parquetBytes(texts.map((text) => ({ text })), options);
}
