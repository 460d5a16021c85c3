/**
 * The store: where everything that nodes publish is kept.
 *
 * ```
 * .ethos/
 *   store.json              marks the folder as a store
 *   lock                    held by the one process that works here, or by those that read
 *   lease/                  the same between hosts, by files alone
 *   catalogue.duckdb        an index over the manifests, to be asked in SQL
 *   nodes/ab/<key>.json     a published node: components of its key, outputs, provenance
 *   objects/ab/<sha256>     a file, read-only; beside it <sha256>.json, who made it
 *   runs/<run>.json         a run and what became of its nodes
 *   runs/<run>.jsonl        what happens in it, an event a line
 *   results.json            which files were copied to results folders
 *   inputs.json             digests of local input files, which save reading them again
 *   state/<key>/            what an unfinished node keeps for its next attempt
 *   claims/<key>            held by the process that runs a node
 *   jobs/<run>/             what the jobs of a run start from, and their logs
 *   tmp/                    what the owners of leases and jobs are writing
 * ```
 *
 * A manifest in `nodes/` is what makes a node published. It is written after all of its objects are on disk, and
 * before the catalogue's rows, which are only an index.
 *
 * @module
 */

import { join, resolve } from "@std/path";
import { Catalogue, type Publication } from "./catalogue/catalogue.ts";
import { buryKilledRuns, findDifferences } from "./catalogue/differences.ts";
import { explain, systemCode, UserError } from "../errors.ts";
import { hashFile, remove } from "./files.ts";
import { inspectStore, markStore } from "./folder.ts";
import { describeHolder } from "./lease/holder.ts";
import { HeldError, StoreLock } from "./locks/lock.ts";
import type { Damage, StoreOptions } from "./options.ts";
import { NodeFiles } from "./node_files.ts";
import { removeLeftovers, temporaryNames } from "./leftovers.ts";
import { copyCatalogue, openCatalogue } from "./catalogue/open_catalogue.ts";
import { type ObjectRef, type ObjectStat, ObjectStore } from "./objects.ts";
import { publicationOf } from "./records/publication.ts";
import { type NodeRecord, objectsOf, Records } from "./records/records.ts";

export type { Damage, StoreOptions } from "./options.ts";

/** How many publications are entered into the catalogue at once. */
const BATCH = 256;
/** How long a publication waits for others to be entered with it. */
const BATCH_MILLISECONDS = 250;

/** An open store; only one process writes to it at a time, others may look at what it has published. */
export class Store extends NodeFiles {
  /** The index over them, in SQL. */
  readonly catalogue: Catalogue;
  /** Folder out of which all is published by a rename; it is gone with our lease, and never made again. */
  override readonly temporary: string;
  /** Folder for outputs that stages are writing. */
  override readonly outputs: string;
  readonly #lock: StoreLock | undefined;
  readonly #giveBack: (() => Promise<void>) | undefined;
  /** Keys that the catalogue has. */
  readonly #known: Set<string>;
  /** How the disk described objects when their content was last known to be right. */
  readonly #stats: Map<string, ObjectStat>;
  /** Objects whose bytes this process has read and found right. */
  readonly #hashed = new Set<string>();
  /** True for a look at a store that another process works in. */
  readonly held: boolean;
  /** True for a look: nothing may be written. */
  readonly #readOnly: boolean;
  #pending: Publication[] = [];
  #pendingSince = 0;

  private constructor(dir: string, parts: {
    objects: ObjectStore;
    records: Records;
    catalogue: Catalogue;
    lock: StoreLock | undefined;
    known: Set<string>;
    stats: Map<string, ObjectStat>;
    temporary?: string;
    outputs?: string;
    giveBack?: () => Promise<void>;
    held?: boolean;
    readOnly?: boolean;
  }) {
    super(dir, parts);
    this.held = parts.held ?? false;
    this.#readOnly = parts.readOnly ?? false;
    this.catalogue = parts.catalogue;
    this.#lock = parts.lock;
    this.temporary = parts.temporary ?? join(dir, "tmp");
    this.outputs = parts.outputs ?? join(dir, "tmp");
    this.#giveBack = parts.giveBack;
    this.#known = parts.known;
    this.#stats = parts.stats;
  }

  /**
   * Opens a store and takes its lock. Removes the leftovers of a killed process. Rebuilds a missing or broken
   * catalogue from the manifests.
   *
   * @throws UserError when the folder is not a store, another process has it, its schema is newer than the program, or
   * the disk refuses.
   */
  static async open(dir: string, options: StoreOptions): Promise<Store> {
    dir = resolve(dir);
    const folder = await inspectStore(dir);
    const objects = new ObjectStore(join(dir, "objects"), join(dir, "tmp"));
    const records = new Records(dir, join(dir, "tmp"));
    try {
      if ((folder === "absent" || folder === "empty") && !options.create) {
        const catalogue = await Catalogue.open(":memory:");
        const parts = { objects, records, catalogue, lock: undefined, readOnly: true };
        return new Store(dir, { ...parts, known: new Set(), stats: new Map() });
      }
      if (options.look) return await Store.#look(dir, { objects, records }, options);
      await Deno.mkdir(dir, { recursive: true });
      const leftovers = await temporaryNames(dir);
      const lock = await StoreLock.acquire(join(dir, "lock"), options.command, options);
      try {
        return await Store.#own(dir, { lock, leftovers, marked: folder === "marked" }, options);
      } catch (error) {
        await lock[Symbol.asyncDispose]();
        throw error;
      }
    } catch (error) {
      if (error instanceof UserError || systemCode(error) === undefined) throw error;
      throw new UserError(explain(error, `opening the store ${dir}`), {
        exitCode: 1,
        cause: error,
      });
    }
  }

  /** Opens a store whose lock is ours. */
  static async #own(
    dir: string,
    { lock, leftovers, marked }: { lock: StoreLock; leftovers: readonly string[]; marked: boolean },
    { warn }: StoreOptions,
  ): Promise<Store> {
    await removeLeftovers(dir, leftovers);
    const token = lock.lease?.token ?? crypto.randomUUID();
    const temporary = join(dir, "tmp", token);
    // A lease has made it; to make it again would undo a fence.
    if (lock.lease === undefined) await Deno.mkdir(temporary, { recursive: true });
    if (!marked) await markStore(dir, temporary);
    const path = join(dir, "catalogue.duckdb");
    const silent = lock.lease?.silent;
    if (silent !== undefined) {
      warn?.(`Took the store over from ${describeHolder(silent)}, which gave no sign of life.`);
      // It may wake, and still has the catalogue open.
      for (const file of [path, `${path}.wal`]) await remove(file);
    }
    const copy = lock.kernel ? undefined : await copyCatalogue(path, warn);
    const catalogue = copy?.catalogue ?? await openCatalogue(path, warn);
    const store = new Store(dir, {
      objects: new ObjectStore(join(dir, "objects"), temporary),
      records: new Records(dir, temporary),
      catalogue,
      lock,
      temporary,
      outputs: join(dir, "tmp", `w-${token}`),
      ...copy && { giveBack: () => copy.giveBack(temporary) },
      known: new Set(),
      stats: new Map(),
    });
    try {
      await store.#load(warn);
    } catch (error) {
      catalogue[Symbol.dispose]();
      throw error;
    }
    return store;
  }

  /**
   * Opens a store of which nothing changes: with its own catalogue where that tells all, otherwise with one in memory,
   * made from the manifests. DuckDB does not share a file with a process that writes it.
   */
  static async #look(
    dir: string,
    parts: { objects: ObjectStore; records: Records },
    options: StoreOptions,
  ): Promise<Store> {
    let lock: StoreLock | undefined;
    let held = false;
    try {
      lock = await StoreLock.share(join(dir, "lock"), options.tryLock);
    } catch (error) {
      if (!(error instanceof HeldError)) throw error;
      held = true;
      const [who] = error.message.split(". ");
      options.warn?.(`${who}; this is what it has published so far.`);
    }
    const more = { ...parts, lock, held, readOnly: true };
    let stats = new Map<string, ObjectStat>();
    let catalogue: Catalogue | undefined;
    try {
      if (!held) catalogue = await Catalogue.openReadOnly(join(dir, "catalogue.duckdb"));
      if (catalogue !== undefined) {
        const store = new Store(dir, { ...more, catalogue, known: new Set(), stats });
        await store.#readCatalogue();
        if (await store.#isUpToDate()) return store;
        catalogue[Symbol.dispose]();
        stats = new Map(store.#stats);
      }
      catalogue = await Catalogue.open(":memory:");
      const store = new Store(dir, { ...more, catalogue, known: new Set(), stats: new Map() });
      await store.#imagine(stats);
      return store;
    } catch (error) {
      catalogue?.[Symbol.dispose]();
      await lock?.[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Fills a catalogue in memory from the manifests, as a writer would leave it. */
  async #imagine(stats: ReadonlyMap<string, ObjectStat>): Promise<void> {
    await this.rebuild();
    if (!this.held) {
      for (const [sha256, stat] of stats) this.#stats.set(sha256, stat);
      await this.catalogue.run("UPDATE runs SET state = 'killed' WHERE state = 'running'");
      return;
    }
    // Whoever works here looks after the bytes; a look at sizes is enough.
    for (const key of this.#known) {
      const record = await this.records.readNode(key);
      for (const { sha256, size } of record === undefined ? [] : objectsOf(record)) {
        const stat = await this.objects.stat(sha256);
        if (stat?.size === size) this.#stats.set(sha256, stat);
      }
    }
  }

  async #load(warn?: (message: string) => void): Promise<void> {
    if (this.catalogue.fresh) {
      const { nodes, runs } = await this.rebuild();
      if (nodes + runs > 0) {
        warn?.(`The catalogue was not there; rebuilt it from ${nodes} nodes and ${runs} runs.`);
      }
    }
    await this.#readCatalogue();
    await this.#catchUp();
    await buryKilledRuns(this);
    await this.#tidyState();
  }

  async #readCatalogue(): Promise<void> {
    const rows = await this.catalogue.rows<{ key: string }>("SELECT key FROM nodes");
    for (const { key } of rows) this.#known.add(key);
    type Row = { sha256: string; size: string; mtime: string };
    for (const row of await this.catalogue.rows<Row>("SELECT sha256, size, mtime FROM objects")) {
      this.#stats.set(row.sha256, { size: Number(row.size), mtime: Number(row.mtime) });
    }
  }

  /** Whether the catalogue on disk says all that the manifests do, so that a look needs no other. */
  async #isUpToDate(): Promise<boolean> {
    const { nodes, runs, gone } = await findDifferences(this, this.#known);
    if (nodes.length + runs.length + gone.keys.length + gone.runs.length > 0) return false;
    const running = await this.catalogue.rows("SELECT 1 FROM runs WHERE state = 'running'");
    return running.length === 0;
  }

  /**
   * Enters what a killed process left out of the catalogue. The objects of such nodes stay unknown until they are
   * hashed, and so do the nodes themselves.
   */
  async #catchUp(): Promise<void> {
    const { nodes, runs, gone } = await findDifferences(this, this.#known);
    for (let i = 0; i < nodes.length; i += BATCH) {
      const batch = nodes.slice(i, i + BATCH).map((record) => this.#publicationOf(record));
      await this.catalogue.publish(await Promise.all(batch));
    }
    if (runs.length > 0) await this.catalogue.putRuns(runs);
    if (gone.keys.length + gone.runs.length > 0) await this.catalogue.remove(gone);
    for (const key of gone.keys) this.#known.delete(key);
  }

  /** Removes state folders of nodes that were published just before a kill. */
  async #tidyState(): Promise<void> {
    for (const key of await this.stateKeys()) {
      if (this.#known.has(key)) await this.discardState(key);
    }
  }

  /** Enters waiting records into the catalogue, closes it and releases the lock. */
  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      this.catalogue[Symbol.dispose]();
      try {
        await this.#giveBack?.();
        if (!this.#readOnly) await Promise.all([this.temporary, this.outputs].map(remove));
      } finally {
        await this.#lock?.[Symbol.asyncDispose]();
      }
    }
  }

  /** Aborted when another process took the store over, because this one stood still for a minute. */
  get lost(): AbortSignal | undefined {
    return this.#lock?.lease?.lost;
  }

  /**
   * Asks the file system whether the store is still ours.
   *
   * @throws LeaseLostError that names who took it over.
   */
  async assertOwned(): Promise<void> {
    await this.#lock?.lease?.assertHeld();
  }

  /**
   * The published record of a key, when all of its objects look right; nothing otherwise.
   *
   * Looking right costs no reading: size and time of each object are as they were when it was last hashed. One whose
   * time changed, or which the catalogue doesn't know (an orphan of a killed process), is hashed.
   */
  async lookUp(key: string): Promise<NodeRecord | undefined> {
    const record = await this.records.readNode(key);
    if (record === undefined) return undefined;
    const orphan = !this.#known.has(key) && !this.#pending.some((p) => p.record.key === key);
    if (await this.damage(record, { read: orphan }) !== undefined) return undefined;
    if (orphan && !this.#readOnly) this.#enqueue(await this.#publicationOf(record));
    return record;
  }

  /** The first object of a record that is missing or changed; `read` hashes each (once a process). */
  async damage(record: NodeRecord, options: { read: boolean }): Promise<Damage | undefined> {
    const verified: (ObjectRef & ObjectStat)[] = [];
    for (const object of objectsOf(record)) {
      const { sha256, size } = object;
      const stat = await this.objects.stat(sha256);
      if (stat === undefined) return { sha256, problem: "missing" };
      if (stat.size !== size) return { sha256, problem: "changed" };
      const known = this.#stats.get(sha256);
      const looksRight = known?.mtime === stat.mtime && known.size === stat.size;
      if (looksRight && (!options.read || this.#hashed.has(sha256))) continue;
      if ((await hashFile(this.objects.path(sha256))).sha256 !== sha256) {
        return { sha256, problem: "changed" };
      }
      this.#hashed.add(sha256);
      this.#stats.set(sha256, stat);
      if (!looksRight) verified.push({ sha256, ...stat });
    }
    if (!this.#readOnly) await this.catalogue.verified(verified);
    return undefined;
  }

  /** Publishes a node: from here on it is finished. Its rows wait for {@linkcode Store.flush}. */
  override async publish(publication: Publication): Promise<void> {
    try {
      await this.records.writeNode(publication.record);
    } catch (error) {
      await this.assertOwned();
      throw error;
    }
    for (const object of publication.objects) {
      this.#stats.set(object.sha256, object);
      this.#hashed.add(object.sha256);
    }
    this.#enqueue(publication);
  }

  /** Also enters the node into the catalogue. */
  override async takeIn(key: string): Promise<NodeRecord | undefined> {
    const record = await this.records.readNode(key);
    if (record === undefined) return undefined;
    if (await this.damage(record, { read: true }) !== undefined) return undefined;
    this.#enqueue(await this.#publicationOf(record));
    return record;
  }

  /** Says in the lock which run is under way, so that a job can tell whether it belongs to it. */
  async announce(run: string): Promise<void> {
    await this.#lock?.announce(run);
  }

  /** Enters publications into the catalogue when enough wait, or have waited long enough. */
  async flushSome(): Promise<void> {
    const waited = performance.now() - this.#pendingSince;
    if (this.#pending.length >= BATCH || waited > BATCH_MILLISECONDS) await this.flush();
  }

  #enqueue(publication: Publication): void {
    if (this.#pending.length === 0) this.#pendingSince = performance.now();
    this.#pending = this.#pending.filter((p) => p.record.key !== publication.record.key);
    this.#pending.push(publication);
  }

  /** Enters all publications that wait into the catalogue. */
  async flush(): Promise<void> {
    // Nodes end while the catalogue is written; one transaction at a time.
    while (this.#flushing) await this.#flushing.catch(() => {});
    if (this.#pending.length === 0) return;
    await this.assertOwned();
    const batch = this.#pending;
    this.#pending = [];
    this.#flushing = this.catalogue.publish(batch);
    try {
      await this.#flushing;
      for (const { record } of batch) this.#known.add(record.key);
    } catch (error) {
      this.#pending = [...batch, ...this.#pending];
      throw error;
    } finally {
      this.#flushing = undefined;
    }
  }
  #flushing: Promise<void> | undefined;

  /** Takes a publication back, so that its node runs again. */
  async retract(key: string): Promise<void> {
    this.#pending = this.#pending.filter((p) => p.record.key !== key);
    await this.records.removeNode(key);
    await this.catalogue.remove({ keys: [key] });
    this.#known.delete(key);
  }

  /**
   * Makes the catalogue anew from the manifests. Metrics files that can't be read are left out (their nodes are
   * found damaged later).
   */
  async rebuild(): Promise<{ nodes: number; runs: number }> {
    await this.catalogue.clear();
    this.#stats.clear();
    this.#known.clear();
    const keys = await this.records.nodeKeys();
    let nodes = 0;
    for (let i = 0; i < keys.length; i += BATCH) {
      const batch: Publication[] = [];
      for (const key of keys.slice(i, i + BATCH)) {
        const record = await this.records.readNode(key);
        if (record !== undefined) batch.push(await this.#publicationOf(record));
      }
      await this.catalogue.publish(batch);
      for (const { record } of batch) this.#known.add(record.key);
      nodes += batch.length;
    }
    const runs = await this.records.readRuns();
    if (runs.length > 0) await this.catalogue.putRuns(runs);
    return { nodes, runs: runs.length };
  }

  /** Makes the catalogue's entry of a record that was read from its manifest; objects are entered once hashed. */
  async #publicationOf(record: NodeRecord): Promise<Publication> {
    const hashed = (sha256: string) =>
      this.#hashed.has(sha256) ? this.#stats.get(sha256) : undefined;
    return await publicationOf(this.objects, record, hashed);
  }
}
