/**
 * A trace in files: which experts took which tokens with what weight.
 *
 * Rows go to a database on disk, batch after batch, and from there to Parquet. DuckDB's memory is bounded; what does not fit goes to its temporary folder.
 *
 * @module
 */

import { statfs } from "node:fs/promises";
import type { DuckDBConnection, DuckDBInstance, DuckDBValue } from "@duckdb/node-api";
import { join } from "@std/path";
import { assignments } from "../../model/interpret/expert_counts.ts";
import type { ExpertLayer } from "../../model/interpret/expert_layers.ts";
import type { ProbedBatch } from "../../model/interpret/probe.ts";
import { NO_TARGET } from "../../model/ops/elementwise/cross_entropy.ts";
import { EXIT, UserError } from "../../pipeline/errors.ts";
import { formatBytes } from "../../pipeline/store/files.ts";

/**
 * Bytes on disk for an assignment, at most. 5.2 million assignments to random experts took 14.5 each, database and Parquet together; the tables of controls come
 * and go.
 */
export const ROW_BYTES = 32;

/** Memory of the database. */
const MEMORY = "1GB";

/** Rows that are handed over at a time: a vector of DuckDB. */
const CHUNK_ROWS = 2048;

/** Type of a column. */
type ColumnType = "UINTEGER" | "FLOAT" | "VARCHAR";

/** One row of the table `tokens`. */
const TOKEN_COLUMNS = {
  // Number of the prediction in the text.
  prediction: "UINTEGER",
  sequence: "UINTEGER",
  // In the sequence, from 0.
  position: "UINTEGER",
  document: "UINTEGER",
  // In the document, from 0.
  place: "UINTEGER",
  token: "UINTEGER",
  // The token after it, and the loss of its prediction in nats.
  target: "UINTEGER",
  loss: "FLOAT",
} as const;

/** One row of the table `choices`. */
const CHOICE_COLUMNS = {
  layer: "UINTEGER",
  prediction: "UINTEGER",
  position: "UINTEGER",
  token: "UINTEGER",
  // Place of the expert among those of the token.
  slot: "UINTEGER",
  expert: "UINTEGER",
  weight: "FLOAT",
} as const;

/** One row of the table `names`. */
const NAME_COLUMNS = { layer: "UINTEGER", expert: "UINTEGER", name: "VARCHAR" } as const;

/** The size of a trace before it is written. */
export interface TraceEstimate {
  readonly tokens: number;
  readonly rows: number;
  readonly bytes: number;
}

/** Rows and bytes of a trace of so many predictions, at most. */
export function estimateTrace(layers: readonly ExpertLayer[], tokens: number): TraceEstimate {
  const rows = tokens * layers.reduce((sum, { kept }) => sum + kept, 0);
  return { tokens, rows, bytes: (rows + tokens) * ROW_BYTES };
}

/**
 * Refuses a trace that is larger than allowed, or than the disk of a folder has room for.
 *
 * @throws {UserError} In one line.
 */
export async function requireRoom(
  estimate: TraceEstimate,
  options: { readonly folder: string; readonly limit_bytes: number },
): Promise<void> {
  const { tokens, rows, bytes } = estimate;
  const size = `The trace of ${tokens} tokens has up to ${rows} rows, ${formatBytes(bytes)}`;
  if (bytes > options.limit_bytes) {
    throw new UserError(
      `${size}, but --limit is ${
        formatBytes(options.limit_bytes)
      }; lower --tokens or raise --limit.`,
    );
  }
  const { bavail, bsize } = await statfs(options.folder);
  const free = Number(bavail) * Number(bsize);
  if (bytes > free) {
    throw new UserError(
      `${size}, but ${options.folder} has ${formatBytes(free)} left; lower --tokens.`,
    );
  }
}

/** How documents are told apart. */
export interface TraceOptions {
  /** Folder of the database and of the Parquet files. */
  readonly folder: string;
  readonly layers: readonly ExpertLayer[];
  /** Tokens of a sequence. */
  readonly length: number;
  /** The token that ends a document; where sequences are documents, none. */
  readonly endoftext?: number | undefined;
}

/** A row of a query's result. */
export type QueryRow = Readonly<Record<string, DuckDBValue>>;

/**
 * Collects a trace. Tables: `tokens`, a row a prediction; `choices`, a row for each expert of it; `names`, the names of experts behind beams.
 *
 * @example
 * ```ts ignore
 * await using trace = await TraceFile.create({ folder, layers: probe.layers, length: 64 });
 * for (const batch of batches) await trace.add(await probe.run(batch, { choices: true }));
 * await trace.writeParquet();
 * ```
 */
export class TraceFile implements AsyncDisposable {
  readonly #options: TraceOptions;
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  readonly #file: string;
  /** Numbers of experts behind beams, by layer and name. */
  readonly #numbers = new Map<string, number>();
  #at = 0;
  #sequence = 0;
  #document = 0;
  #place = 0;
  #rows = 0;

  private constructor(
    options: TraceOptions,
    { instance, connection, file }: {
      instance: DuckDBInstance;
      connection: DuckDBConnection;
      file: string;
    },
  ) {
    this.#options = options;
    this.#instance = instance;
    this.#connection = connection;
    this.#file = file;
  }

  /** Makes an empty trace. */
  static async create(options: TraceOptions): Promise<TraceFile> {
    const { DuckDBInstance } = await import("@duckdb/node-api");
    const file = join(options.folder, "trace.duckdb");
    const instance = await DuckDBInstance.create(file, {
      autoinstall_known_extensions: "false",
      autoload_known_extensions: "false",
      memory_limit: MEMORY,
      temp_directory: join(options.folder, "trace.tmp"),
      // Sums have one order.
      threads: "1",
    });
    const connection = await instance.connect();
    const columns = (of: Readonly<Record<string, string>>) =>
      Object.entries(of).map(([name, type]) => `${name} ${type}`).join(", ");
    await connection.run(`CREATE TABLE tokens (${columns(TOKEN_COLUMNS)})`);
    await connection.run(`CREATE TABLE choices (${columns(CHOICE_COLUMNS)})`);
    await connection.run(`CREATE TABLE names (${columns(NAME_COLUMNS)})`);
    return new TraceFile(options, { instance, connection, file });
  }

  /** Assignments so far. */
  get rows(): number {
    return this.#rows;
  }

  /** Predictions so far. */
  get tokens(): number {
    return this.#at;
  }

  /** Adds a batch, with its choices. */
  async add(batch: ProbedBatch): Promise<void> {
    const { layers, length } = this.#options;
    const { tokens, targets, losses } = batch;
    const at = new Int32Array(tokens.length).fill(-1);
    const rows: (readonly DuckDBValue[])[] = [];
    for (let t = 0; t < tokens.length; t++) {
      this.#step(tokens[t]!, t);
      if (targets[t] === NO_TARGET) continue;
      at[t] = this.#at++;
      const sequence = this.#sequence + Math.floor(t / length);
      const [position, token] = [t % length, tokens[t]!];
      rows.push([
        ...[at[t]!, sequence, position, this.#document, this.#place],
        ...[token, targets[t]!, losses[t]!],
      ]);
    }
    this.#sequence += tokens.length / length;
    await this.#append("tokens", TOKEN_COLUMNS, rows);
    for (const layer of layers) {
      const names: DuckDBValue[][] = [];
      const choices = assignments(layer, batch).map(({ t, slot, expert, weight }) => {
        const number = this.#number(layer, expert, names);
        return [layer.layer, at[t]!, t % length, tokens[t]!, slot, number, weight];
      });
      this.#rows += await this.#append("choices", CHOICE_COLUMNS, choices);
      await this.#append("names", NAME_COLUMNS, names);
    }
  }

  /** Follows documents: an end of text begins the next one behind it, and so does a sequence where they are documents. */
  #step(token: number, t: number): void {
    const { endoftext, length } = this.#options;
    const begins = endoftext === undefined ? t % length === 0 : token === endoftext;
    if (begins) {
      this.#document++;
      this.#place = 0;
    } else this.#place++;
  }

  #number({ layer, axes }: ExpertLayer, name: string, names: DuckDBValue[][]): number {
    if (axes === 1) return Number(name);
    const key = `${layer}:${name}`;
    let number = this.#numbers.get(key);
    if (number === undefined) {
      number = this.#numbers.size;
      this.#numbers.set(key, number);
      names.push([layer, number, name]);
    }
    return number;
  }

  /** Appends rows, a vector of them at a time, and returns how many there were. */
  async #append(
    table: string,
    columns: Readonly<Record<string, ColumnType>>,
    rows: Iterable<readonly DuckDBValue[]>,
  ): Promise<number> {
    const { DuckDBDataChunk, ...library } = await import("@duckdb/node-api");
    const types = Object.values(columns).map((type) => library[type]);
    const appender = await this.#connection.createAppender(table);
    let part: (readonly DuckDBValue[])[] = [];
    let count = 0;
    const flush = () => {
      if (part.length === 0) return;
      const chunk = DuckDBDataChunk.create(types, part.length);
      chunk.setColumns(types.map((_, column) => part.map((row) => row[column]!)));
      appender.appendDataChunk(chunk);
      count += part.length;
      part = [];
    };
    for (const row of rows) {
      part.push(row);
      if (part.length === CHUNK_ROWS) flush();
    }
    flush();
    appender.closeSync();
    return count;
  }

  /** Runs a statement. */
  async run(sql: string): Promise<void> {
    await this.#connection.run(sql);
  }

  /** Rows of a query; numbers are numbers. */
  async query(sql: string): Promise<QueryRow[]> {
    const reader = await this.#connection.runAndReadAll(sql);
    return reader.getRowObjects().map((row) =>
      Object.fromEntries(
        Object.entries(row).map((
          [name, value],
        ) => [name, typeof value === "bigint" ? Number(value) : value]),
      )
    );
  }

  /** Name of an expert of the table `choices`, by its number. */
  async expertNames(layer: number): Promise<(expert: number) => string> {
    const { axes } = this.#options.layers.find((each) => each.layer === layer)!;
    if (axes === 1) return String;
    const rows = await this.query(`SELECT expert, name FROM names WHERE layer = ${layer}`);
    const names = new Map(rows.map(({ expert, name }) => [Number(expert), String(name)]));
    return (expert) => names.get(expert)!;
  }

  /** Writes `trace.parquet` and `tokens.parquet` into the folder. */
  async writeParquet(): Promise<void> {
    const beams = this.#options.layers.some(({ axes }) => axes > 1);
    const choices = beams
      ? "SELECT c.* REPLACE (n.name AS expert) FROM choices c JOIN names n USING (layer, expert) ORDER BY c.rowid"
      : "SELECT * FROM choices";
    for (const [name, query] of [["trace", choices], ["tokens", "SELECT * FROM tokens"]]) {
      const path = join(this.#options.folder, `${name}.parquet`).replaceAll("'", "''");
      await this.#connection.run(`COPY (${query}) TO '${path}' (FORMAT parquet)`);
    }
  }

  /** Closes and removes the database; the Parquet files stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.closeSync();
    this.#instance.closeSync();
    for (const path of [this.#file, `${this.#file}.wal`, join(this.#options.folder, "trace.tmp")]) {
      await Deno.remove(path, { recursive: true }).catch(() => {});
    }
  }
}

/** Turns a full disk into the user's error. */
export function traceError(error: unknown, folder: string): unknown {
  const full = error instanceof Error && /No space left|Out of Memory|max_temp_directory_size/i
    .test(error.message);
  if (!full) return error;
  return new UserError(
    `The trace in ${folder} no longer fits: ${error.message.split("\n")[0]}; lower --tokens.`,
    {
      exitCode: EXIT.failed,
      cause: error,
    },
  );
}
