/**
 * `export`: the catalogue's tables as files for other programs.
 *
 * @module
 */

import type { Command } from "../command.ts";
import { explain, systemCode, UserError } from "../errors.ts";

/** What is exported, in an order that doesn't depend on when rows were written. */
const TABLES: Readonly<Record<string, string>> = {
  metrics: "run, node, step, name",
  runs: "run",
  run_nodes: "run, position",
  nodes: "stage, node, key",
  artifacts: "key, output, path",
  key_components: "key, component",
};

/** Writes tables as Parquet or CSV. */
export const exportCommand: Command = {
  name: "export",
  summary: "Write metrics, runs, nodes and artifacts as Parquet or CSV",
  examples: [
    ["export --out tables", "all tables as Parquet"],
    ["export --format csv --table metrics --out tables", "metrics for a spreadsheet"],
  ],
  options: {
    out: { type: "string", requiresArg: true, demandOption: true, describe: "Folder to write to" },
    format: {
      choices: ["parquet", "csv"],
      default: "parquet",
      requiresArg: true,
      describe: "Kind of file",
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
    const [{ join, resolve }, { listArgument }] = await Promise.all([
      import("@std/path"),
      import("../command.ts"),
    ]);
    const folder = resolve(String(args["out"]));
    const format = String(args["format"]);
    const chosen = listArgument(args, "table");
    const tables = chosen.length === 0 ? Object.keys(TABLES) : chosen;
    const files = await context.withStore({ create: false, look: true }, async (store) => {
      const written: string[] = [];
      try {
        await Deno.mkdir(folder, { recursive: true });
        for (const table of tables) {
          const path = join(folder, `${table}.${format}`);
          const temporary = `${path}.${Deno.pid}.tmp`;
          const options = format === "csv" ? "FORMAT csv, HEADER true" : "FORMAT parquet";
          const target = temporary.replaceAll("'", "''");
          const query = `SELECT * FROM ${table} ORDER BY ${TABLES[table]}`;
          await store.catalogue.run(`COPY (${query}) TO '${target}' (${options})`);
          await Deno.rename(temporary, path);
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
