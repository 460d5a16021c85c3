/**
 * A store that others share: nodes are taken from it and sent to it.
 *
 * It has the layout of a store: `nodes/ab/<key>.json` and `objects/ab/<sha256>`. A node's manifest is sent after all of
 * its objects, so a reader never finds a node of which a part is missing. All bytes that come are compared with their
 * digests.
 *
 * @module
 */

import { createHash, type Hash } from "node:crypto";
import { join } from "@std/path";
import { nodeKey } from "../graph/key.ts";
import { remove } from "../store/files.ts";
import type { ObjectOrigin, ObjectRef, ObjectStat } from "../store/objects.ts";
import { type NodeRecord, objectsOf, parseNode } from "../store/records/records.ts";
import type { Store } from "../store/store.ts";
import type { Display } from "../terminal/progress.ts";
import { parseRemote } from "./address.ts";
import type { Backend, Sink } from "./backend.ts";
import { RemoteError } from "./error.ts";
import { PATIENCE, type Patience } from "./exchange.ts";
import { openBackend } from "./open.ts";

/** Objects that are transferred at the same time. */
const TRANSFERS = 4;
/** A manifest holds a node's JSON values; a larger file is none. */
const MANIFEST_BYTES = 256 << 20;
const MEGABYTE = 1e6;

/** Where a node comes from or goes to, and how it is shown. */
export interface NodeTransfer {
  /** The store of this machine. */
  readonly store: Store;
  readonly signal: AbortSignal;
  readonly display: Display;
}

/** A remote store. Failures of the remote are `RemoteError`s; others are those of this machine. */
export class Remote {
  /** The address, without credentials. */
  readonly name: string;
  readonly #backend: Backend;
  #running = 0;
  readonly #waiting: (() => void)[] = [];
  #prepared: Promise<void> | undefined;

  /** `backend` is the place of the remote store. */
  constructor(backend: Backend) {
    this.name = backend.name;
    this.#backend = backend;
  }

  /**
   * Opens a remote store; nothing is asked yet.
   *
   * @param from The option or variable that gave the address, for messages.
   * @throws UserError when the address is none.
   */
  static async open(
    address: string,
    options: { from: string; patience?: Patience },
  ): Promise<Remote> {
    const parsed = parseRemote(address, options.from);
    return new Remote(await openBackend(parsed, options.patience ?? PATIENCE));
  }

  /**
   * The manifest of a key, or `undefined` when the remote has none.
   *
   * @throws RemoteError when the manifest is damaged or another node's.
   */
  async manifest(key: string, signal: AbortSignal): Promise<NodeRecord | undefined> {
    const sink = new MemorySink(MANIFEST_BYTES);
    const path = manifestPath(key);
    try {
      if (!await this.#backend.read(path, sink, { signal })) return undefined;
    } catch (error) {
      if (error instanceof TooLarge) throw this.#damaged(`${path} is too large for a manifest`);
      throw error;
    }
    const record = parseNode(sink.text(), key);
    // A local manifest lies where this program put it; this one may be anything.
    const sound = record !== undefined && nodeKey(record.components) === key &&
      record.stage === record.components.stage && !/\p{Cc}/u.test(record.node);
    if (!sound) {
      throw this.#damaged(`${path} is no manifest of that key`);
    }
    return record;
  }

  /**
   * Fetches a node's objects, those that the store lacks, and publishes it.
   *
   * @param record A manifest that {@linkcode Remote.manifest} gave.
   * @param run The run that asked, if one did.
   * @throws RemoteError when an object is missing or damaged; then nothing is published.
   */
  async pull(
    record: NodeRecord,
    { store, signal, display }: NodeTransfer,
    run?: string,
  ): Promise<{ record: NodeRecord; bytes: number }> {
    const wanted = new Map<string, ObjectRef & { origin: ObjectOrigin }>();
    for (const object of originsOf(record)) wanted.set(object.sha256, object);
    using bar = this.#bar(display, `${record.node} ←`, [...wanted.values()]);
    let bytes = 0;
    const objects = await this.#each([...wanted.values()], signal, async (object, stop) => {
      if (await store.objects.verify(object)) {
        bar.add(object.size);
        return { ...object, ...(await store.objects.stat(object.sha256))! };
      }
      const put = await this.#fetch(object, { store, signal: stop, onBytes: (n) => bar.add(n) });
      bytes += object.size;
      return put;
    });
    const pulled = {
      from: this.name,
      at: new Date().toISOString(),
      ...run === undefined ? {} : { run },
    };
    const adopted = { ...record, provenance: { ...record.provenance, pulled } };
    const metrics = await store.metrics(record).catch(() => {
      throw this.#damaged(`the metrics of ${manifestPath(record.key)} can't be read`);
    });
    await store.publish({ record: adopted, metrics, objects });
    // Only now: until the manifest is there, a kill must find the state as it was.
    await store.discardState(record.key);
    return { record: adopted, bytes };
  }

  /** Fetches an object into the store. A file that was put together from several answers gets a second chance. */
  async #fetch(
    { sha256, size, origin }: ObjectRef & { origin: ObjectOrigin },
    { store, signal, onBytes }: { store: Store; signal: AbortSignal; onBytes(n: number): void },
  ): Promise<ObjectRef & ObjectStat> {
    const path = objectPath(sha256);
    for (let whole = false;; whole = true) {
      using sink = new FileSink(join(store.temporary, crypto.randomUUID()), size, onBytes);
      try {
        if (!await this.#backend.read(path, sink, { signal })) {
          throw this.#damaged(`${path} is missing, though a manifest names it`);
        }
        if (sink.length !== size) {
          throw this.#damaged(`${path} has ${sink.length} bytes; its manifest says ${size}`);
        }
        if (sink.digest() === sha256) {
          sink.close();
          return await store.objects.put(sink.path, origin);
        }
        if (whole || !sink.resumed) {
          throw this.#damaged(`${path} holds other bytes than its name says`);
        }
      } catch (error) {
        if (!(error instanceof TooLarge)) throw error;
        throw this.#damaged(`${path} has more than the ${size} bytes that its manifest says`);
      } finally {
        sink.close();
        await remove(sink.path);
      }
      onBytes(-sink.length);
    }
  }

  /**
   * Sends a node that the remote lacks: its objects, then its manifest.
   *
   * @param options.force Sends all bytes again, also those that the remote has.
   * @returns The bytes of objects that were sent, or `undefined` when the remote had the node.
   * @throws RemoteError when an object of the store is damaged; then no manifest is sent.
   */
  async push(
    record: NodeRecord,
    { store, signal, display, force = false }: NodeTransfer & { force?: boolean },
  ): Promise<{ bytes: number } | undefined> {
    const path = manifestPath(record.key);
    await (this.#prepared ??= this.#backend.prepare?.() ?? Promise.resolve());
    if (!force && await this.#backend.size(path, { signal }) !== undefined) return undefined;
    const objects = [
      ...new Map(objectsOf(record).map((object) => [object.sha256, object])).values(),
    ];
    using bar = this.#bar(display, `${record.node} →`, objects);
    let bytes = 0;
    await this.#each(objects, signal, async ({ sha256, size }, stop) => {
      const to = objectPath(sha256);
      if (!force && await this.#backend.size(to, { signal: stop }) === size) return bar.add(size);
      if (!await store.objects.verify({ sha256, size })) {
        throw new RemoteError(
          `${record.node}: object ${sha256} of the store ${store.dir} is damaged or missing, ` +
            "so the node is not sent; `verify` makes it run again.",
          { fault: "damaged" },
        );
      }
      const source = { path: store.objects.path(sha256), size, sha256 };
      await this.#backend.write(to, source, { signal: stop, onBytes: (n) => bar.add(n) });
      bytes += size;
    });
    // Where this machine had it from is nothing to others.
    const { pulled: _, ...provenance } = record.provenance;
    const manifest = new TextEncoder().encode(`${JSON.stringify({ ...record, provenance })}\n`);
    await this.#backend.write(path, { bytes: manifest }, { signal });
    return { bytes };
  }

  /** Works on objects, so many at a time over all nodes; the first failure ends the others. */
  async #each<T, R>(
    items: readonly T[],
    signal: AbortSignal,
    work: (item: T, signal: AbortSignal) => Promise<R>,
  ): Promise<R[]> {
    const failed = new AbortController();
    const stop = AbortSignal.any([signal, failed.signal]);
    const results = await Promise.allSettled(items.map(async (item) => {
      if (this.#running >= TRANSFERS) {
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      } else this.#running++;
      try {
        stop.throwIfAborted();
        return await work(item, stop);
      } catch (error) {
        failed.abort(error);
        throw error;
      } finally {
        const next = this.#waiting.shift();
        if (next === undefined) this.#running--;
        else next();
      }
    }));
    signal.throwIfAborted();
    if (failed.signal.aborted) throw failed.signal.reason;
    return results.map((result) => (result as PromiseFulfilledResult<R>).value);
  }

  #bar(display: Display, name: string, objects: readonly ObjectRef[]) {
    const total = objects.reduce((sum, { size }) => sum + size, 0);
    const bar = total < MEGABYTE
      ? undefined
      : display.bar(name, Math.round(total / MEGABYTE), `MB ${this.name}`);
    let done = 0;
    return {
      add(bytes: number) {
        done += bytes;
        bar?.update(Math.floor(done / MEGABYTE));
      },
      [Symbol.dispose]: () => bar?.stop(),
    };
  }

  #damaged(problem: string): RemoteError {
    return new RemoteError(`${this.name}: ${problem}.`, { fault: "damaged" });
  }
}

/** Path of a key's manifest; a key is the digest that this program computed or checked. */
function manifestPath(key: string): string {
  return `nodes/${digest(key).slice(0, 2)}/${key}.json`;
}

function objectPath(sha256: string): string {
  return `objects/${digest(sha256).slice(0, 2)}/${sha256}`;
}

function digest(text: string): string {
  if (!/^[0-9a-f]{64}$/.test(text)) throw new RangeError(`${JSON.stringify(text)} is no digest.`);
  return text;
}

/** All objects of a record, with their place in it. */
function originsOf(record: NodeRecord): (ObjectRef & { origin: ObjectOrigin })[] {
  const { node, key } = record;
  const origin = { node, key };
  const found: (ObjectRef & { origin: ObjectOrigin })[] = [];
  const add = ({ sha256, size }: ObjectRef, more: Pick<ObjectOrigin, "output" | "path">) =>
    found.push({ sha256, size, origin: { ...origin, ...more } });
  for (const [output, value] of Object.entries(record.outputs)) {
    if (value.kind === "file") add(value, { output });
    if (value.kind !== "directory") continue;
    for (const file of value.files) add(file, { output, path: file.path });
  }
  if (record.metrics) add(record.metrics, { output: "metrics" });
  if (record.measured) add(record.measured, { output: "measured" });
  return found;
}

/** More bytes came than may. */
class TooLarge extends Error {}

/** Bytes in memory. */
class MemorySink implements Sink {
  readonly #most: number;
  #chunks: Uint8Array[] = [];
  length = 0;

  constructor(most: number) {
    this.#most = most;
  }

  write(chunk: Uint8Array): Promise<void> {
    this.length += chunk.length;
    if (this.length > this.#most) return Promise.reject(new TooLarge());
    this.#chunks.push(chunk.slice());
    return Promise.resolve();
  }

  resume(): void {}

  reset(): Promise<void> {
    this.#chunks = [];
    this.length = 0;
    return Promise.resolve();
  }

  text(): string {
    const decoder = new TextDecoder();
    const parts = this.#chunks.map((chunk) => decoder.decode(chunk, { stream: true }));
    return parts.join("") + decoder.decode();
  }
}

/** Bytes in a new file, hashed as they come. */
class FileSink implements Sink, Disposable {
  readonly path: string;
  readonly #size: number;
  readonly #onBytes: (bytes: number) => void;
  #file: Deno.FsFile | undefined;
  #hash: Hash = createHash("sha256");
  length = 0;
  /** Whether the bytes are of more than one answer. */
  resumed = false;

  constructor(path: string, size: number, onBytes: (bytes: number) => void) {
    this.path = path;
    this.#size = size;
    this.#onBytes = onBytes;
    this.#file = Deno.openSync(path, { write: true, createNew: true });
  }

  async write(chunk: Uint8Array): Promise<void> {
    if (this.length + chunk.length > this.#size) throw new TooLarge();
    this.#hash.update(chunk);
    for (let at = 0; at < chunk.length;) at += await this.#file!.write(chunk.subarray(at));
    this.length += chunk.length;
    this.#onBytes(chunk.length);
  }

  async reset(): Promise<void> {
    this.#onBytes(-this.length);
    await this.#file!.truncate(0);
    await this.#file!.seek(0, Deno.SeekMode.Start);
    this.#hash = createHash("sha256");
    this.length = 0;
    this.resumed = false;
  }

  resume(): void {
    this.resumed = true;
  }

  digest(): string {
    return this.#hash.digest("hex");
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
