/**
 * `diff`: what differs between two runs.
 *
 * @module
 */

import type { Command, CommandContext } from "../command.ts";
import type { JsonValue } from "../stage.ts";
import type { Store } from "../store/store.ts";
import { isBucket } from "../tensorboard/event_log.ts";
import { findRun } from "./runs.ts";

interface Change {
  readonly path: string;
  readonly before: JsonValue;
  readonly after: JsonValue;
}

interface NodeChange {
  readonly node: string;
  readonly before: string | null;
  readonly after: string | null;
}

interface MetricChange {
  readonly node: string;
  readonly metric: string;
  /** Null for a number of a `measured` output. */
  readonly step: number | null;
  readonly before: number | null;
  readonly after: number | null;
}

/** Compares two runs. */
export const diff: Command = {
  name: "diff <before> <after>",
  summary: "Compare two runs: configuration, nodes, and the last value of each metric",
  examples: [
    ["diff previous latest", "the last two runs"],
    ["diff 20260412-101500 latest --measured", "with times and memory"],
  ],
  positionals: {
    before: { type: "string", describe: "A run, the start of its name, `latest` or `previous`" },
    after: { type: "string", describe: "Another" },
  },
  options: { measured: { type: "boolean", describe: "Also what was measured: times, memory" } },
  async run(args, context) {
    await context.withStore({ create: false, look: true }, async (store) => {
      const before = await findRun(store, String(args["before"]));
      const after = await findRun(store, String(args["after"]));
      const configuration = await compareConfigurations(store, before, after);
      const nodes = await compareNodes(store, before, after);
      const metrics = await compareMetrics(store, before, after, args["measured"] === true);
      if (args["measured"] === true) metrics.push(...await compareMeasured(store, before, after));
      if (context.json) {
        const all = { before, after, configuration, nodes, metrics };
        return context.print(JSON.stringify(all));
      }
      await show({ before, after, configuration, nodes, metrics }, context);
    });
  },
};

async function compareConfigurations(store: Store, before: string, after: string) {
  const flat = async (run: string) => {
    const rows = await store.catalogue.rows<{ configuration: string }>(
      "SELECT configuration FROM runs WHERE run = ?",
      [run],
    );
    const values = new Map<string, JsonValue>();
    flatten("", JSON.parse(rows[0]?.configuration ?? "null"), values);
    return values;
  };
  const [a, b] = [await flat(before), await flat(after)];
  const changes: Change[] = [];
  for (const path of [...new Set([...a.keys(), ...b.keys()])].sort()) {
    const [x, y] = [a.get(path) ?? null, b.get(path) ?? null];
    if (JSON.stringify(x) !== JSON.stringify(y)) changes.push({ path, before: x, after: y });
  }
  return changes;
}

function flatten(path: string, value: JsonValue, to: Map<string, JsonValue>): void {
  if (typeof value !== "object" || value === null) return void to.set(path, value);
  for (const [key, item] of Object.entries(value)) {
    flatten(path === "" ? key : `${path}.${key}`, item, to);
  }
}

async function compareNodes(store: Store, before: string, after: string): Promise<NodeChange[]> {
  return await store.catalogue.rows<{ node: string; before: string | null; after: string | null }>(
    `WITH both_runs AS (
       SELECT r.run, r.node, n.digest FROM run_nodes r LEFT JOIN nodes n USING (key)),
     a AS (SELECT * FROM both_runs WHERE run = $1), b AS (SELECT * FROM both_runs WHERE run = $2)
     SELECT coalesce(a.node, b.node) AS node, a.digest AS before, b.digest AS after
     FROM a FULL JOIN b ON a.node = b.node
     WHERE a.digest IS DISTINCT FROM b.digest ORDER BY 1`,
    [before, after],
  );
}

async function compareMetrics(
  store: Store,
  before: string,
  after: string,
  measured: boolean,
): Promise<MetricChange[]> {
  type Row = Omit<MetricChange, "step"> & { step: string | null };
  const rows = await store.catalogue.rows<Row>(
    `WITH last AS (
       SELECT run, node, name, max(step) AS step, last(value ORDER BY step) AS value
       FROM metrics WHERE run IN ($1, $2) AND measured <= $3 GROUP BY ALL),
     a AS (SELECT * FROM last WHERE run = $1), b AS (SELECT * FROM last WHERE run = $2)
     SELECT coalesce(a.node, b.node) AS node, coalesce(a.name, b.name) AS metric,
       coalesce(b.step, a.step) AS step, a.value AS before, b.value AS after
     FROM a FULL JOIN b ON a.node = b.node AND a.name = b.name
     WHERE a.value IS DISTINCT FROM b.value ORDER BY 1, 2`,
    [before, after, measured],
  );
  return rows.map((row) => ({ ...row, step: row.step === null ? null : Number(row.step) }));
}

/** Numbers of `measured` outputs that differ, those that a run lacks too. */
async function compareMeasured(
  store: Store,
  before: string,
  after: string,
): Promise<MetricChange[]> {
  const rows = await store.catalogue.rows<
    { run: string; node: string; name: string; value: string }
  >(
    `SELECT run, r.node, a.output AS name, a.value
     FROM run_nodes r JOIN artifacts a USING (key)
     WHERE run IN ($1, $2) AND a.kind = 'measured' AND r.state IN ('cached', 'done')
     ORDER BY r.node, name`,
    [before, after],
  );
  const changes = new Map<string, MetricChange>();
  for (const { run, node, name, value } of rows) {
    const numbers = new Map<string, number>();
    flattenNumbers(name, JSON.parse(value), numbers);
    for (const [metric, number] of numbers) {
      const id = JSON.stringify([node, metric]);
      const change = changes.get(id) ?? { node, metric, step: null, before: null, after: null };
      changes.set(id, {
        ...change,
        ...run === before && { before: number },
        ...run === after && { after: number },
      });
    }
  }
  return [...changes.values()].filter((change) => change.before !== change.after);
}

/** Numbers by path. A row of a list is named by the texts in it, `timings[fused].peak_bytes`, or by its position. */
function flattenNumbers(path: string, value: JsonValue, to: Map<string, number>): void {
  if (typeof value === "number") to.set(path, value);
  if (typeof value !== "object" || value === null) return;
  const seen = new Set<string>();
  for (const [key, item] of Object.entries(value)) {
    if (!Array.isArray(value)) {
      flattenNumbers(`${path}.${key}`, item, to);
      continue;
    }
    const texts = Object.values(item ?? {}).filter((field) => typeof field === "string").join(" ");
    const name = texts === "" || seen.has(texts) ? key : texts;
    seen.add(name);
    flattenNumbers(`${path}[${name}]`, item, to);
  }
}

async function show(
  all: {
    before: string;
    after: string;
    configuration: readonly Change[];
    nodes: readonly NodeChange[];
    metrics: readonly MetricChange[];
  },
  context: CommandContext,
): Promise<void> {
  const { formatTable } = await import("../terminal/table.ts");
  context.print(`${all.before} → ${all.after}`);
  const text = (value: JsonValue) => value === null ? "–" : JSON.stringify(value);
  if (all.configuration.length + all.nodes.length + all.metrics.length === 0) {
    return context.print("Nothing differs.");
  }
  if (all.configuration.length > 0) {
    const rows = all.configuration.map((c) => [c.path, text(c.before), text(c.after)]);
    context.print(`\n${formatTable(["configuration", "before", "after"], rows)}`);
  }
  if (all.nodes.length > 0) {
    const short = (digest: string | null) => digest === null ? "–" : digest.slice(0, 12);
    const rows = all.nodes.map((n) => [n.node, short(n.before), short(n.after)]);
    context.print(`\n${formatTable(["node", "before", "after"], rows)}`);
  }
  if (all.metrics.length > 0) {
    const number = (value: number | null) => value === null ? "–" : String(+value.toPrecision(6));
    // A histogram has many buckets, of which few say something alone.
    const single = all.metrics.filter(({ metric }) => !isBucket(metric));
    const buckets = all.metrics.length - single.length;
    if (buckets > 0) context.print(`\n${buckets} buckets of histograms differ; --json has them.`);
    const rows = single.map((m) => [
      m.node,
      m.metric,
      String(m.step ?? ""),
      number(m.before),
      number(m.after),
    ]);
    if (rows.length === 0) return;
    context.print(`\n${formatTable(["node", "metric", "step", "before", "after"], rows)}`);
  }
}
