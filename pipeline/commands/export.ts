/**
 * `export`: the catalogue's tables, or a run's part of them, as files for other programs.
 *
 * @module
 */

import { assertStore, type Command, listArgument, stringArgument } from "../command.ts";
import { explain, systemCode, UserError } from "../errors.ts";
import { remove } from "../store/files.ts";

/** Exported tables, each with an order that doesn't depend on when rows were written. */
const TABLES: Readonly<Record<string, string>> = {
  metrics: "run, node, step, name",
  runs: "run",
  run_nodes: "run, position",
  nodes: "stage, node, key",
  artifacts: "key, output, path",
  key_components: "key, component",
};

/** How the rows of one run are found in a table. */
const OF_RUN: Readonly<Record<string, string>> = {
  metrics: "run = $1",
  runs: "run = $1",
  run_nodes: "run = $1",
  nodes: "key IN (SELECT key FROM run_nodes WHERE run = $1)",
  artifacts: "key IN (SELECT key FROM run_nodes WHERE run = $1)",
  key_components: "key IN (SELECT key FROM run_nodes WHERE run = $1)",
};

/** DuckDB's name of each format. */
const FORMATS: Readonly<Record<string, string>> = {
  parquet: "FORMAT parquet",
  csv: "FORMAT csv, HEADER true",
  jsonl: "FORMAT json",
};

/** Writes tables as Parquet, CSV or JSON lines. */
export const exportCommand: Command = {
  name: "export",
  summary: "Write metrics, runs, nodes and artifacts as Parquet, CSV or JSON lines",
  examples: [
    ["export --out tables", "all tables as Parquet"],
    ["export --format csv --table metrics --out tables", "metrics for a spreadsheet"],
    ["export --format jsonl --run latest --out tables", "one run, a JSON object a line"],
  ],
  options: {
    out: { type: "string", requiresArg: true, demandOption: true, describe: "Folder to write to" },
    format: {
      choices: Object.keys(FORMATS),
      default: "parquet",
      requiresArg: true,
      describe: "Kind of file",
    },
    run: {
      type: "string",
      requiresArg: true,
      describe: "Only this run: its name or the start of it, latest or previous",
    },
    table: {
      choices: Object.keys(TABLES),
      array: true,
      nargs: 1,
      requiresArg: true,
      describe: "Only this table; may be repeated",
    },
  },
  async run(args, context) {
    const [{ join, resolve }, { findRun }] = await Promise.all([
      import("@std/path"),
      import("./runs.ts"),
    ]);
    await assertStore(context);
    const folder = resolve(String(args["out"]));
    const format = String(args["format"]);
    const chosen = listArgument(args, "table");
    const tables = chosen.length === 0 ? Object.keys(TABLES) : chosen;
    const files = await context.withStore({ create: false, look: true }, async (store) => {
      const written: string[] = [];
      const given = stringArgument(args, "run");
      const run = given === undefined ? undefined : await findRun(store, given);
      try {
        await Deno.mkdir(folder, { recursive: true });
        for (const table of tables) {
          const path = join(folder, `${table}.${format}`);
          const temporary = `${path}.${Deno.pid}.tmp`;
          const target = temporary.replaceAll("'", "''");
          // Names of runs are of our own making: digits and dashes.
          const where = run === undefined
            ? ""
            : `WHERE ${OF_RUN[table]!.replace("$1", `'${run}'`)}`;
          const query = `SELECT * FROM ${table} ${where} ORDER BY ${TABLES[table]}`;
          try {
            await store.catalogue.run(`COPY (${query}) TO '${target}' (${FORMATS[format]})`);
            await Deno.rename(temporary, path);
          } catch (error) {
            // The first error is the one to tell.
            await remove(temporary).catch(() => {});
            throw error;
          }
          written.push(path);
        }
      } catch (error) {
        if (systemCode(error) === undefined) throw error;
        throw new UserError(explain(error, `exporting to ${folder}`), { exitCode: 1 });
      }
      return written;
    });
    if (context.json) return context.print(JSON.stringify({ files }));
    for (const file of files) context.print(file);
  },
};
