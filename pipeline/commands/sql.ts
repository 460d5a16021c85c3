/**
 * `sql`: asks the catalogue, and can't change it.
 *
 * @module
 */

import { assertStore, type Command } from "../command.ts";

/** Runs a query on the catalogue. */
export const sql: Command = {
  name: "sql <query>",
  summary:
    "Ask the catalogue in SQL, read-only (tables are described in pipeline/store/catalogue/schema.ts)",
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
    await assertStore(context);
    const query = String(args["query"]);
    const { columns, rows } = await context.withStore(
      { create: false, look: true },
      (store) => store.catalogue.ask(query),
    );
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
