/**
 * The catalogue: a DuckDB file that indexes the manifests for queries in SQL. `schema.ts` describes its tables.
 *
 * @module
 */

import {
  type DuckDBAppender,
  type DuckDBConnection,
  DuckDBInstance,
  DuckDBTimestampValue,
} from "@duckdb/node-api";
import { explain, isDiskError, UserError } from "../../errors.ts";
import { flattenComponents } from "../../graph/key.ts";
import type { ObjectRef, ObjectStat } from "../objects.ts";
import type { NodeRecord, RunRecord } from "../records/records.ts";
import { MIGRATIONS, SCHEMA_VERSION } from "./schema.ts";
import type { JsonValue, MetricRow } from "../../stage.ts";

/** A node to be entered, with its metrics and the stats of its objects on disk. */
export interface Publication {
  /** The node's manifest. */
  readonly record: NodeRecord;
  /** Its metrics, measured ones too. */
  readonly metrics: readonly MetricRow[];
  /** Its objects, as they are on disk. */
  readonly objects: readonly (ObjectRef & ObjectStat)[];
}

/** Rows and column names of a query, values as JSON. */
export interface QueryResult {
  /** Names. */
  readonly columns: readonly string[];
  /** Values in the order of `columns`. */
  readonly rows: readonly (readonly JsonValue[])[];
}

/** A value that can be bound to a `?` or `$name` of a query. */
type SqlValue = string | number | boolean | null;

/** An open catalogue. */
export class Catalogue {
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  #turn: Promise<void> = Promise.resolve();
  /** Keys and objects that have rows, once they are known: without indexes a deletion looks at every row. */
  #present: { readonly keys: Set<string>; readonly objects: Set<string> } | undefined;
  /** True when the file was not there, so that whoever opens it can rebuild it from manifests. */
  readonly fresh: boolean;

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection, fresh: boolean) {
    this.#instance = instance;
    this.#connection = connection;
    this.fresh = fresh;
  }

  /**
   * Opens a catalogue and brings it to this program's schema; `:memory:` is one that nobody keeps.
   *
   * @throws UserError when its schema is newer than the program, or the disk refuses.
   */
  static async open(path: string): Promise<Catalogue> {
    let instance: DuckDBInstance;
    try {
      // In memory, DuckDB would put what does not fit into the current folder.
      const spill = path === MEMORY ? NO_SPILL : {};
      instance = await DuckDBInstance.create(path, { ...settings(), ...spill });
    } catch (error) {
      throw openingError(error, path);
    }
    let connection: DuckDBConnection | undefined;
    try {
      connection = await instance.connect();
      const version = await migrate(connection, path);
      return new Catalogue(instance, connection, version === 0);
    } catch (error) {
      connection?.closeSync();
      instance.closeSync();
      throw openingError(error, path);
    }
  }

  /**
   * Opens a catalogue that is only read: neither it nor a file beside it changes. Returns nothing when it is not there,
   * is broken, is another program's for now, or has an older schema, which only a writer can bring up to date.
   *
   * @throws UserError when its schema is newer than the program.
   */
  static async openReadOnly(path: string): Promise<Catalogue | undefined> {
    let instance: DuckDBInstance | undefined;
    let connection: DuckDBConnection | undefined;
    try {
      const reading = { access_mode: "READ_ONLY", ...NO_SPILL };
      instance = await DuckDBInstance.create(path, { ...settings(), ...reading });
      connection = await instance.connect();
      const version = await readVersion(connection, path);
      if (version === SCHEMA_VERSION) return new Catalogue(instance, connection, false);
    } catch (error) {
      connection?.closeSync();
      instance?.closeSync();
      if (error instanceof UserError) throw error;
      return undefined;
    }
    connection.closeSync();
    instance.closeSync();
  }

  /** Writes everything out and closes the file. */
  [Symbol.dispose](): void {
    this.#connection.closeSync();
    this.#instance.closeSync();
  }

  /** Runs statements. */
  async run(sql: string): Promise<void> {
    await this.#connection.run(sql);
  }

  /** Rows of a query as objects whose values are JSON. */
  async rows<Row = Record<string, JsonValue>>(
    sql: string,
    values?: readonly SqlValue[],
  ): Promise<Row[]> {
    const reader = await this.#connection.runAndReadAll(sql, values ? [...values] : undefined);
    return reader.getRowObjectsJson() as Row[];
  }

  /** Rows of a query as lists. */
  async query(sql: string): Promise<QueryResult> {
    return await read(this.#connection, sql);
  }

  /**
   * Rows of one statement that somebody typed. It can change nothing, and from here on nothing reaches another file.
   *
   * @throws UserError with DuckDB's message when the statement is wrong, or when it is not one.
   */
  async ask(sql: string): Promise<QueryResult> {
    return await told(async () => {
      await this.run("SET enable_external_access = false");
      await this.#assertOne(sql);
      await this.run("BEGIN TRANSACTION READ ONLY");
      try {
        const result = await this.query(sql);
        if (result.columns.length > 0) return result;
        throw new UserError("The query is empty; expected one SQL statement.");
      } finally {
        // The statement may have ended the transaction by itself.
        await this.run("ROLLBACK").catch(() => {});
      }
    });
  }

  /** DuckDB answers the first of several statements, and makes two of one `PIVOT`. */
  async #assertOne(sql: string): Promise<void> {
    const parses = async (text: string) => {
      try {
        return (await this.#connection.extractStatements(text)).count > 0;
      } catch {
        return false;
      }
    };
    // A mistake in the query is told better by running it.
    if (!await parses(sql) || (await this.#connection.extractStatements(sql)).count === 1) return;
    for (let at = sql.indexOf(";"); at >= 0; at = sql.indexOf(";", at + 1)) {
      const rest = sql.slice(at + 1);
      if (await parses(sql.slice(0, at)) && await parses(rest)) {
        throw new UserError(
          `The query goes on after a statement's end with ${
            JSON.stringify(rest.trim())
          }; expected one SQL statement.`,
        );
      }
    }
  }

  /** Runs `work` in a transaction. */
  async transaction<T>(work: () => Promise<T>): Promise<T> {
    // One connection has one transaction at a time; callers that overlap take turns.
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    await before;
    try {
      await this.#connection.run("BEGIN");
      const result = await work();
      await this.#connection.run("COMMIT");
      return result;
    } catch (error) {
      this.#present = undefined;
      try {
        await this.#connection.run("ROLLBACK");
      } catch {
        // A failed commit has rolled back by itself; the first error is the one to tell.
      }
      throw error;
    } finally {
      resolve();
    }
  }

  /** Enters published nodes, replacing earlier publications of the same keys. */
  async publish(publications: readonly Publication[]): Promise<void> {
    if (publications.length === 0) return;
    await this.transaction(async () => {
      const present = this.#present ??= await this.#readPresent();
      const keys = publications.map(({ record }) => record.key);
      const again = keys.filter((key) => present.keys.has(key));
      await this.#forget(["nodes", "artifacts", "key_components", "metric_values"], "key", again);
      const objects = new Map(publications.flatMap((p) => p.objects.map((o) => [o.sha256, o])));
      await this.#forgetObjects([...objects.keys()]);
      for (const key of keys) present.keys.add(key);
      await this.#append("nodes", publications, (row, { record }) => {
        row.appendVarchar(record.key);
        row.appendVarchar(record.node);
        row.appendVarchar(record.stage);
        row.appendVarchar(record.resource);
        row.appendVarchar(JSON.stringify(record.components.params));
        row.appendVarchar(JSON.stringify(record.labels));
        row.appendVarchar(record.digest);
        row.appendVarchar(record.provenance.run);
        row.appendTimestamp(timestamp(record.provenance.started_at));
        row.appendTimestamp(timestamp(record.provenance.finished_at));
        row.appendDouble(record.provenance.seconds);
        row.appendVarchar(JSON.stringify(record.provenance));
      });
      await this.#append("artifacts", publications.flatMap(artifactRows), (row, artifact) => {
        row.appendVarchar(artifact.key);
        row.appendVarchar(artifact.output);
        row.appendVarchar(artifact.kind);
        appendOptional(row, artifact.path);
        appendOptional(row, artifact.sha256);
        if (artifact.size === undefined) row.appendNull();
        else row.appendBigInt(BigInt(artifact.size));
        appendOptional(row, artifact.value);
      });
      const components = publications.flatMap(({ record }) =>
        [...flattenComponents(record.components)].map((entry) => [record.key, ...entry] as const)
      );
      await this.#append("key_components", components, (row, [key, component, value]) => {
        row.appendVarchar(key);
        row.appendVarchar(component);
        row.appendVarchar(value);
      });
      await this.#appendMetrics(publications);
      await this.#appendObjects([...objects.values()]);
    });
  }

  async #readPresent(): Promise<{ keys: Set<string>; objects: Set<string> }> {
    const keys = await this.rows<{ key: string }>("SELECT key FROM nodes");
    const objects = await this.rows<{ sha256: string }>("SELECT sha256 FROM objects");
    return {
      keys: new Set(keys.map(({ key }) => key)),
      objects: new Set(objects.map(({ sha256 }) => sha256)),
    };
  }

  async #forgetObjects(names: readonly string[]): Promise<void> {
    const { objects } = this.#present ??= await this.#readPresent();
    await this.#forget(["objects"], "sha256", names.filter((name) => objects.has(name)));
    for (const name of names) objects.add(name);
  }

  async #appendMetrics(publications: readonly Publication[]): Promise<void> {
    const rows = publications.flatMap(({ record, metrics }) =>
      metrics.map((metric) => [record.key, metric] as const)
    );
    await this.#append("metric_values", rows, (row, [key, metric]) => {
      row.appendVarchar(key);
      row.appendBigInt(BigInt(metric.step));
      row.appendVarchar(metric.name);
      if (metric.value === null) row.appendNull();
      else row.appendDouble(metric.value);
      row.appendBoolean(metric.measured);
    });
  }

  async #appendObjects(objects: readonly (ObjectRef & ObjectStat)[]): Promise<void> {
    const now = timestamp(new Date().toISOString());
    await this.#append("objects", objects, (row, object) => {
      row.appendVarchar(object.sha256);
      row.appendBigInt(BigInt(object.size));
      row.appendBigInt(BigInt(object.mtime));
      row.appendTimestamp(now);
    });
  }

  /** Records the stats of objects whose content was found to be right. */
  async verified(objects: readonly (ObjectRef & ObjectStat)[]): Promise<void> {
    if (objects.length === 0) return;
    await this.transaction(async () => {
      await this.#forgetObjects(objects.map((object) => object.sha256));
      await this.#appendObjects(objects);
    });
  }

  /** Enters a run or replaces its entry. */
  async putRun(record: RunRecord): Promise<void> {
    await this.putRuns([record]);
  }

  /** Enters runs or replaces their entries. */
  async putRuns(records: readonly RunRecord[]): Promise<void> {
    await this.transaction(async () => {
      await this.#forget(["runs", "run_nodes"], "run", records.map((record) => record.run));
      await this.#append("runs", records, (row, record) => {
        row.appendVarchar(record.run);
        row.appendVarchar(record.state);
        row.appendVarchar(record.command);
        row.appendVarchar(record.config_path);
        row.appendVarchar(JSON.stringify(record.configuration));
        row.appendTimestamp(timestamp(record.started_at));
        if (record.finished_at === undefined) row.appendNull();
        else row.appendTimestamp(timestamp(record.finished_at));
        row.appendVarchar(JSON.stringify(record.host));
      });
      const nodes = records.flatMap(({ run, nodes }) =>
        nodes.map((node, position) => ({ run, position, node }))
      );
      await this.#append("run_nodes", nodes, (row, { run, position, node }) => {
        row.appendVarchar(run);
        row.appendInteger(position);
        row.appendVarchar(node.node);
        row.appendVarchar(node.stage);
        appendOptional(row, node.key);
        row.appendVarchar(node.state);
        appendOptional(row, node.reason);
        if (node.seconds === undefined) row.appendNull();
        else row.appendDouble(node.seconds);
        appendOptional(row, node.error);
      });
    });
  }

  /** Forgets nodes, and runs with their rows about nodes. */
  async remove(options: { keys?: readonly string[]; runs?: readonly string[] }): Promise<void> {
    const { keys = [], runs = [] } = options;
    await this.transaction(async () => {
      await this.#forget(["nodes", "artifacts", "key_components", "metric_values"], "key", keys);
      for (const key of keys) this.#present?.keys.delete(key);
      await this.#forget(["runs", "run_nodes"], "run", runs);
    });
  }

  /** Forgets everything. */
  async clear(): Promise<void> {
    const tables = ["runs", "run_nodes", "nodes", "artifacts", "key_components", "metric_values"];
    await this.transaction(async () => {
      this.#present = undefined;
      for (const table of [...tables, "objects"]) await this.run(`DELETE FROM ${table}`);
    });
  }

  async #forget(tables: readonly string[], column: string, values: readonly string[]) {
    for (let i = 0; i < values.length; i += 500) {
      // Values are digests and run names of our own making: letters, digits and dashes.
      const list = values.slice(i, i + 500).map((value) => `'${value.replaceAll("'", "''")}'`);
      for (const table of tables) {
        await this.run(`DELETE FROM ${table} WHERE ${column} IN (${list.join(",")})`);
      }
    }
  }

  async #append<T>(
    table: string,
    items: readonly T[],
    write: (row: DuckDBAppender, item: T) => void,
  ): Promise<void> {
    if (items.length === 0) return;
    const appender = await this.#connection.createAppender(table);
    for (const item of items) {
      write(appender, item);
      appender.endRow();
    }
    appender.closeSync();
  }
}

interface ArtifactRow {
  readonly key: string;
  readonly output: string;
  readonly kind: string;
  readonly path?: string;
  readonly sha256?: string;
  readonly size?: number;
  readonly value?: string;
}

function artifactRows({ record: { key, outputs } }: Publication): ArtifactRow[] {
  return Object.entries(outputs).flatMap(([output, published]): ArtifactRow[] => {
    const { kind } = published;
    switch (published.kind) {
      case "json":
      case "measured":
        return [{ key, output, kind, value: JSON.stringify(published.value) }];
      case "file":
        return [{ key, output, kind, sha256: published.sha256, size: published.size }];
      case "directory":
        return published.files.map((file) => ({ key, output, kind, ...file }));
    }
  });
}

function appendOptional(row: DuckDBAppender, value: string | undefined): void {
  if (value === undefined) row.appendNull();
  else row.appendVarchar(value);
}

function timestamp(iso: string): DuckDBTimestampValue {
  return new DuckDBTimestampValue(BigInt(Date.parse(iso)) * 1000n);
}

function diskError(error: unknown, doing: string): UserError {
  return new UserError(explain(error, doing), { exitCode: 1, cause: error });
}

/** Path of a catalogue that nobody keeps. */
const MEMORY = ":memory:";

function settings(): Record<string, string> {
  return {
    // Nothing is ever fetched: all extensions that are used are built in.
    autoinstall_known_extensions: "false",
    threads: String(Math.max(1, Math.min(4, navigator.hardwareConcurrency))),
  };
}

/** Who only reads must leave nothing behind, not even for a while. */
const NO_SPILL = { temp_directory: "" };

function openingError(error: unknown, path: string): unknown {
  if (isDiskError(error)) return diskError(error, `opening ${path}`);
  // Somebody looks at the catalogue with a program of their own: it is not broken.
  if (error instanceof Error && /Could not set lock on file/.test(error.message)) {
    const pid = /\(PID (\d+)\)/.exec(error.message)?.[1];
    return new UserError(
      `The catalogue ${path} is open in another program${
        pid === undefined ? "" : `, process ${pid}`
      }. Close it there, or use another store with --store.`,
      { cause: error },
    );
  }
  return error;
}

/** Migrates a catalogue to this program's schema and returns the version that it had. */
async function migrate(connection: DuckDBConnection, path: string): Promise<number> {
  await connection.run(
    "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, applied_at TIMESTAMP NOT NULL)",
  );
  const version = await readVersion(connection, path);
  for (let next = version; next < SCHEMA_VERSION; next++) {
    await connection.run("BEGIN");
    await connection.run(MIGRATIONS[next]!);
    await connection.run(
      `INSERT INTO schema_version VALUES (${next + 1}, now()::TIMESTAMP)`,
    );
    await connection.run("COMMIT");
  }
  return version;
}

/**
 * Reads the version of a catalogue's schema.
 *
 * @throws UserError when it is newer than the program.
 */
async function readVersion(connection: DuckDBConnection, path: string): Promise<number> {
  const reader = await connection.runAndReadAll(
    "SELECT coalesce(max(version), 0) FROM schema_version",
  );
  const version = Number(reader.getRowsJson()[0]?.[0] ?? 0);
  if (version > SCHEMA_VERSION) {
    throw new UserError(
      `The catalogue ${path} has schema version ${version}; this program knows versions up to ${SCHEMA_VERSION}. ` +
        "Update the program, or use another store with --store.",
    );
  }
  return version;
}

async function read(connection: DuckDBConnection, sql: string): Promise<QueryResult> {
  const reader = await connection.runAndReadAll(sql);
  const rows = reader.getRowsJson() as JsonValue[][];
  return { columns: reader.deduplicatedColumnNames(), rows };
}

/** Turns DuckDB's errors into errors for the user who typed the query. */
async function told<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
