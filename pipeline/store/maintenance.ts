/**
 * Looking after a store: verifying, collecting garbage, cleaning.
 *
 * @module
 */

import { assertNoJobs } from "./locks/claim.ts";
import { join } from "@std/path";
import { UserError } from "../errors.ts";
import { hashFile, removeThrough, statOrUndefined } from "./files.ts";
import { type NodeRecord, objectsOf } from "./records/records.ts";
import type { Damage, Store } from "./store.ts";

/** The objects that `verify` read, and the damage that it found. */
export interface Verification {
  readonly objects: number;
  readonly bytes: number;
  readonly nodes: number;
  /** Objects that are not what a node published, each once for each node. */
  readonly damaged: readonly (Damage & { node: string; key: string })[];
  /** Keys whose manifest can't be read. */
  readonly unreadable: readonly string[];
  /** Objects that belong to no node. */
  readonly orphans: number;
}

/** Hashes every object. Nodes with a damaged one are taken back, so that they run again. */
export async function verifyStore(store: Store): Promise<Verification> {
  const { records, unreadable } = await readAll(store);
  const problems = new Map<string, Damage | undefined>();
  const sizes = new Map<string, number>();
  const damaged: (Damage & { node: string; key: string })[] = [];
  for (const record of records) {
    let bad = false;
    for (const { sha256, size } of objectsOf(record)) {
      if (!problems.has(sha256)) problems.set(sha256, await check(store, sha256));
      sizes.set(sha256, size);
      const damage = problems.get(sha256);
      if (damage === undefined) continue;
      damaged.push({ ...damage, node: record.node, key: record.key });
      bad = true;
    }
    if (bad) await store.retract(record.key);
  }
  for (const [sha256, damage] of problems) {
    if (damage !== undefined) await store.objects.remove(sha256);
  }
  for (const key of unreadable) await store.retract(key);
  const orphans = (await store.objects.list()).filter(({ sha256 }) => !problems.has(sha256));
  return {
    objects: problems.size,
    bytes: [...sizes.values()].reduce((sum, size) => sum + size, 0),
    nodes: records.length,
    damaged,
    unreadable,
    orphans: orphans.length,
  };
}

async function check(store: Store, sha256: string): Promise<Damage | undefined> {
  if (await store.objects.stat(sha256) === undefined) return { sha256, problem: "missing" };
  const content = await hashFile(store.objects.path(sha256));
  return content.sha256 === sha256 ? undefined : { sha256, problem: "changed" };
}

async function readAll(store: Store): Promise<{ records: NodeRecord[]; unreadable: string[] }> {
  const records: NodeRecord[] = [];
  const unreadable: string[] = [];
  for (const key of await store.records.nodeKeys()) {
    const record = await store.records.readNode(key);
    if (record === undefined) unreadable.push(key);
    else records.push(record);
  }
  return { records, unreadable };
}

/** The runs, nodes and objects that `gc` removed, or would. */
export interface Garbage {
  readonly runs: readonly string[];
  readonly nodes: readonly { readonly node: string; readonly key: string }[];
  readonly objects: number;
  readonly bytes: number;
}

/**
 * Keeps the last `keep` successful runs and every run since the oldest of them. Finds older runs, nodes that no kept
 * run used, and objects that no remaining node has. Before the first successful run, finds only
 * objects of no node.
 *
 * @throws UserError when a run's manifest can't be read: what it used would be lost.
 */
export async function collectGarbage(
  store: Store,
  options: { keep: number; remove: boolean },
): Promise<Garbage> {
  const { runs, unreadable } = await store.records.readEveryRun();
  if (unreadable.length > 0) {
    throw new UserError(
      `${
        unreadable.map((path) => join(store.dir, path)).join(", ")
      } can't be read, and nobody else knows which nodes that run used; mend or remove the file, then collect again.`,
    );
  }
  const successful = runs.filter((run) => run.state === "done");
  const oldest = successful[Math.max(0, successful.length - options.keep)]?.run ?? "";
  const kept = runs.filter((run) => run.run >= oldest);
  const used = new Set(kept.flatMap((run) => run.nodes.map((node) => node.key)));
  const { records } = await readAll(store);
  // A killed run lists no nodes; the nodes that it published or pulled name the run.
  const names = new Set(kept.map((run) => run.run));
  const isUsed = (record: NodeRecord) =>
    oldest === "" || used.has(record.key) || names.has(record.provenance.run) ||
    names.has(record.provenance.pulled?.run ?? "");
  const dropped = records.filter((record) => !isUsed(record));
  const needed = new Set(
    records.filter(isUsed).flatMap((record) => objectsOf(record).map((object) => object.sha256)),
  );
  const objects = (await store.objects.list()).filter(({ sha256 }) => !needed.has(sha256));
  const oldRuns = runs.filter((run) => run.run < oldest).map((run) => run.run);
  if (options.remove) {
    await assertNoJobs(store.dir);
    // Manifests go first: a kill in between leaves objects of no node, never a node without its objects.
    for (const { key } of dropped) await store.records.removeNode(key);
    for (const run of oldRuns) {
      await store.records.removeRun(run);
      await removeThrough(store.temporary, join(store.dir, "jobs", run));
    }
    await store.catalogue.remove({ keys: dropped.map(({ key }) => key), runs: oldRuns });
    for (const { sha256 } of objects) await store.objects.remove(sha256);
  }
  return {
    runs: oldRuns,
    nodes: dropped.map(({ node, key }) => ({ node, key })),
    objects: objects.length,
    bytes: objects.reduce((sum, { size }) => sum + size, 0),
  };
}

/** Removes unfinished work, or with `all` everything but the lock. Gives back the paths that were removed. */
export async function cleanStore(store: Store, options: { all: boolean }): Promise<string[]> {
  const names = options.all
    ? ["nodes", "objects", "runs", "jobs", "slurm", "state", "inputs.json"]
    : ["state"];
  await assertNoJobs(store.dir);
  const removed: string[] = [];
  for (const name of names) {
    const path = join(store.dir, name);
    if (await statOrUndefined(path) === undefined) continue;
    await removeThrough(store.temporary, path);
    removed.push(path);
  }
  if (options.all) await store.catalogue.clear();
  return removed;
}
