/**
 * `sql`: asks the catalogue, and can't change it.
 *
 * @module
 */

import type { Command } from "../command.ts";
import { UserError } from "../errors.ts";

/** Runs a query on the catalogue. */
export const sql: Command = {
  name: "sql <query>",
  summary: "Ask the catalogue in SQL, read-only (tables are described in pipeline/store/schema.ts)",
  examples: [
    ['sql "SELECT run, state, started_at FROM runs"', "all runs"],
    [
      `sql "SELECT step, value FROM metrics WHERE node = 'train' AND name = 'loss' ORDER BY step"`,
      "a curve",
    ],
    [
      `sql "SELECT node, unnest(value::JSON[]) AS row FROM artifacts JOIN nodes USING (key) WHERE kind = 'measured'"`,
      "what was measured, apart from curves, a JSON object a row",
    ],
    ['sql "SHOW TABLES"', "what there is"],
  ],
  positionals: { query: { type: "string", describe: "A query in DuckDB's SQL" } },
  async run(args, context) {
    const [{ queryReadOnly }, { statOrUndefined }, { join }] = await Promise.all([
      import("../store/catalogue.ts"),
      import("../store/files.ts"),
      import("@std/path"),
    ]);
    if (await statOrUndefined(context.storeDir) === undefined) {
      throw new UserError(`There is no store at ${context.storeDir}; run \`reproduce\` first.`);
    }
    const query = String(args["query"]);
    // Opening the store rebuilds or migrates the catalogue when it has to be, which a read-only one can't.
    const looked = await context.withStore(
      { create: false, look: true },
      async (store) => store.held ? await store.catalogue.ask(query) : undefined,
    );
    const path = join(context.storeDir, "catalogue.duckdb");
    const { columns, rows } = looked ?? await queryReadOnly(path, query);
    if (context.json) {
      const objects = rows.map((row) => Object.fromEntries(columns.map((c, i) => [c, row[i]])));
      return context.print(JSON.stringify(objects));
    }
    const { formatTable } = await import("../terminal/table.ts");
    const text = (value: unknown) =>
      value === null ? "NULL" : typeof value === "object" ? JSON.stringify(value) : String(value);
    context.print(formatTable(columns, rows.map((row) => row.map(text))));
    context.print(`(${rows.length} row${rows.length === 1 ? "" : "s"})`);
  },
};
