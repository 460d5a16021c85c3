/**
 * `runs`: what was run when.
 *
 * @module
 */

import type { Command } from "../command.ts";
import { UserError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { columnsOf } from "../terminal/wrap.ts";

interface Row {
  readonly run: string;
  readonly state: string;
  readonly started_at: string;
  readonly seconds: number | null;
  readonly done: string;
  readonly cached: string;
  readonly failed: string;
  readonly command: string;
  readonly config_path: string;
}

/** Lists runs. */
export const runs: Command = {
  name: "runs",
  summary: "List runs, newest first",
  examples: [["runs --limit 3", "the last three"]],
  options: {
    limit: { type: "number", default: 20, requiresArg: true, describe: "How many" },
  },
  async run(args, context) {
    const limit = args["limit"] as number;
    if (!(Number.isSafeInteger(limit) && limit > 0)) {
      throw new UserError(`--limit is ${limit}; expected an integer of at least 1.`);
    }
    const rows = await context.withStore(
      { create: false, look: true },
      (store) =>
        store.catalogue.rows<Row>(`
          SELECT run, runs.state, strftime(started_at, '%Y-%m-%d %H:%M:%S') AS started_at,
            epoch(finished_at - started_at) AS seconds,
            count(*) FILTER (n.state = 'done') AS done,
            count(*) FILTER (n.state = 'cached') AS cached,
            count(*) FILTER (n.state IN ('failed', 'blocked', 'interrupted')) AS failed,
            command, config_path
          FROM runs LEFT JOIN run_nodes n USING (run)
          GROUP BY ALL ORDER BY run DESC LIMIT ${limit}`),
    );
    if (context.json) return context.print(JSON.stringify({ runs: rows.map(numbers) }));
    if (rows.length === 0) return context.print("There are no runs yet.");
    const { formatTable } = await import("../terminal/table.ts");
    // A run's name is when it began, UTC.
    const header = ["run", "state", "seconds", "done", "cached", "not", "command"];
    context.print(formatTable(
      header,
      rows.map((row) => [
        row.run,
        row.state,
        row.seconds === null ? "" : row.seconds.toFixed(1),
        row.done,
        row.cached,
        row.failed,
        row.command,
      ]),
      { columns: columnsOf(Deno.stdout) },
    ));
  },
};

function numbers(row: Row) {
  const { done, cached, failed } = row;
  return { ...row, done: Number(done), cached: Number(cached), failed: Number(failed) };
}

/**
 * The full name of a run that is given by its name, the start of it, `latest` or `previous`.
 *
 * @throws UserError when there is no such run, or more than one.
 */
export async function findRun(store: Store, given: string): Promise<string> {
  const rows = await store.catalogue.rows<{ run: string }>(
    "SELECT run FROM runs ORDER BY run DESC",
  );
  const names = rows.map((row) => row.run);
  const position = given === "latest" ? 0 : given === "previous" ? 1 : undefined;
  if (position !== undefined) {
    const name = names[position];
    if (name !== undefined) return name;
    throw new UserError(`There is no ${given} run; the store has ${names.length} runs.`);
  }
  const found = names.filter((name) => name === given || name.startsWith(given));
  if (found.length === 1) return found[0]!;
  if (found.length > 1) {
    throw new UserError(`Several runs start with \`${given}\`: ${found.slice(0, 5).join(", ")}.`);
  }
  throw new UserError(
    `No run is named \`${given}\`. ` +
      (names.length === 0
        ? "There are none."
        : `The last ones are ${names.slice(0, 3).join(", ")}.`),
  );
}
