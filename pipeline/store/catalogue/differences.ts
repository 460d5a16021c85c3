/**
 * How a catalogue differs from the manifests, as a kill between the two leaves it.
 *
 * @module
 */

import type { Catalogue } from "./catalogue.ts";
import type { NodeRecord, Records, RunRecord } from "../records/records.ts";

/** A store's two sides: the truth and the index over it. */
interface Sides {
  readonly records: Records;
  readonly catalogue: Catalogue;
}

/** Entries that one side has and the other lacks. */
export interface Differences {
  /** Nodes without rows. */
  readonly nodes: readonly NodeRecord[];
  /** Runs without rows. */
  readonly runs: readonly RunRecord[];
  /** Rows without manifests. */
  readonly gone: { readonly keys: readonly string[]; readonly runs: readonly string[] };
}

/** Finds the differences; reads only manifests that have no rows. `known` has the keys of the catalogue. */
export async function findDifferences(
  { records, catalogue }: Sides,
  known: ReadonlySet<string>,
): Promise<Differences> {
  const keys = new Set(await records.nodeKeys());
  const nodes: NodeRecord[] = [];
  for (const key of keys.difference(known)) {
    const record = await records.readNode(key);
    if (record !== undefined) nodes.push(record);
  }
  const rows = await catalogue.rows<{ run: string }>("SELECT run FROM runs");
  const entered = new Set(rows.map(({ run }) => run));
  const names = new Set(await records.runNames());
  const runs = await readRuns(records, names.difference(entered));
  const gone = { keys: [...known.difference(keys)], runs: [...entered.difference(names)] };
  return { nodes, runs, gone };
}

/** A run that says it is running has lost its process, for whoever holds the store's lock. */
export async function buryKilledRuns({ records, catalogue }: Sides): Promise<void> {
  const rows = await catalogue.rows<{ run: string }>(
    "SELECT run FROM runs WHERE state = 'running'",
  );
  if (rows.length === 0) return;
  const names = new Set(rows.map(({ run }) => run));
  const killed = (await readRuns(records, names))
    // A killed process may have told its manifest how it ended, and not the catalogue.
    .map((record): RunRecord =>
      record.state === "running" ? { ...record, state: "killed" } : record
    );
  for (const record of killed) await records.writeRun(record);
  await catalogue.putRuns(killed);
  for (const { run } of killed) names.delete(run);
  await catalogue.remove({ runs: [...names] });
}

async function readRuns(records: Records, names: ReadonlySet<string>): Promise<RunRecord[]> {
  const found = await Promise.all([...names].sort().map((name) => records.readRun(name)));
  return found.filter((record) => record !== undefined);
}
