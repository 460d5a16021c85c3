/**
 * C4 from the Hugging Face hub: whole shards with their hashes checked, or the first documents as a stream.
 *
 * A shard is written under a name that has its hash, `….partial`, and gets its own name only after the hash was checked
 * and the disk has it. Both live in the node's state folder, so that an interrupted download goes on where it was.
 *
 * @module
 */

import { createHash, type Hash } from "node:crypto";
import { statfs } from "node:fs/promises";
import { basename, join } from "@std/path";
import type { JsonValue, StageContext } from "../../../../pipeline/stage.ts";
import type { C4Section } from "./section.ts";
import {
  type DocumentLimits,
  gunzipBytes,
  limitDocuments,
  parseDocuments,
  type TextDocument,
  writeDocuments,
} from "../document.ts";
import { SourceError } from "../error.ts";
import { Hub, type HubOptions } from "./hub.ts";
import { listShards, resolvePath, type Shard } from "./listing.ts";

/** Share of the shards if the configuration names neither shards nor a limit. */
const DEFAULT_FRACTION = 0.01;

/** The section to fetch, its limits, and the hub. */
export interface C4Options extends HubOptions {
  readonly c4: C4Section;
  readonly limits: DocumentLimits;
}

/**
 * Fetches shards into the output `documents`.
 *
 * @returns What `source.json` says.
 * @throws {SourceError} of one line, if the hub can't serve the section.
 */
export async function downloadC4(
  context: StageContext<unknown>,
  options: C4Options,
): Promise<JsonValue> {
  const { c4, limits } = options;
  const hub = new Hub(options, { signal: context.signal, warn: (line) => context.log.warn(line) });
  const limited = limits.max_documents !== undefined || limits.max_bytes !== undefined;
  const shards = selectShards(await listShards(hub, c4), c4, limited);
  const about = { source: "c4", dataset: c4.dataset, config: c4.config, revision: c4.revision };
  if (limited) return { ...about, ...await streamShards(context, hub, shards, options) };
  await fetchShards(context, hub, shards, options);
  return {
    ...about,
    shards: shards.map(({ path, size, algorithm, oid }) => ({ path, size, [algorithm]: oid })),
  };
}

/** The shards that the configuration asks for. */
function selectShards(shards: readonly Shard[], c4: C4Section, limited: boolean): Shard[] {
  if (c4.shards) {
    return c4.shards.map((index) => {
      const shard = shards[index];
      if (!shard) {
        throw new SourceError(
          `data.c4.shards: ${index} is not there; the dataset has ${shards.length} shards, 0 to ${
            shards.length - 1
          }`,
        );
      }
      return shard;
    });
  }
  const fraction = c4.fraction ?? (limited ? 1 : DEFAULT_FRACTION);
  return shards.slice(0, Math.max(1, Math.round(fraction * shards.length)));
}

/** Streams shards until a limit is reached; a shard that was read to its end is checked. */
async function streamShards(
  context: StageContext<unknown>,
  hub: Hub,
  shards: readonly Shard[],
  { c4, limits }: C4Options,
): Promise<{ documents: number; bytes: number; shards: JsonValue }> {
  const used: { path: string; verified: boolean }[] = [];
  const total = limits.max_documents ?? limits.max_bytes!;
  const progress = context.progress(total, {
    unit: limits.max_documents === undefined ? "bytes" : "documents",
  });
  async function* documents(): AsyncGenerator<TextDocument> {
    for (const shard of shards) {
      const entry = { path: shard.path, verified: false };
      used.push(entry);
      const hash = startHash(shard);
      const packed = hub.bytes(resolvePath(c4, shard), { size: shard.size });
      const bytes = gunzipBytes(tap(packed, hash), shard.path);
      yield* parseDocuments(bytes, { name: shard.path });
      requireHash(shard, hash);
      entry.verified = true;
    }
  }
  const counts = await writeDocuments(
    context.output("documents"),
    limitDocuments(documents(), limits),
    {
      signal: context.signal,
      onDocument: ({ documents, bytes }) =>
        progress.update(limits.max_documents === undefined ? bytes : documents),
    },
  );
  if (counts.documents === 0) {
    throw new SourceError(
      `The first document of ${shards[0]?.path} is larger than data.max_bytes ${limits.max_bytes}`,
    );
  }
  context.log.info(`${counts.documents} documents from ${used.length} shards`);
  return { ...counts, shards: used };
}

async function* tap(chunks: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
}

/** Fetches whole shards, several at once. */
async function fetchShards(
  context: StageContext<unknown>,
  hub: Hub,
  shards: readonly Shard[],
  { c4, concurrency = 4 }: C4Options,
): Promise<void> {
  requireApart(shards);
  const total = shards.reduce((sum, { size }) => sum + size, 0);
  const present = await Promise.all(shards.map((shard) => presentBytes(context.stateDir, shard)));
  const missing = total - present.reduce((sum, bytes) => sum + bytes, 0);
  await requireSpace(context.stateDir, missing);
  context.log.info(
    `${shards.length} shards, ${(total / 1e6).toFixed(1)} MB, of which ${
      (missing / 1e6).toFixed(1)
    } MB are to be fetched`,
  );
  const progress = context.progress(total, { unit: "bytes" });
  const started = performance.now();
  const done = [...present];
  let reported = 0;
  const report = () => {
    const now = performance.now();
    const bytes = done.reduce((sum, bytes) => sum + bytes, 0);
    if (now - reported < 200 && bytes < total) return;
    reported = now;
    const fetched = Math.max(0, bytes - (total - missing));
    const rate = fetched / Math.max(1e-3, (now - started) / 1000);
    const left = rate > 0 ? `, ${duration((total - bytes) / rate)} left` : "";
    progress.update(bytes, `${(rate / 1e6).toFixed(1)} MB/s${left}`);
  };
  const queue = shards.entries();
  const stop = new AbortController();
  const lane = async () => {
    for (const [index, shard] of queue) {
      if (stop.signal.aborted) return;
      await fetchShard(context, hub, shard, {
        path: resolvePath(c4, shard),
        stop: stop.signal,
        onBytes: (bytes) => {
          done[index] = bytes;
          report();
        },
      });
    }
  };
  let failure: { error: unknown } | undefined;
  const lanes = Array.from(
    { length: Math.min(concurrency, shards.length) },
    () =>
      lane().catch((error) => {
        failure ??= { error };
        // The others end at once, also those that wait for the hub.
        stop.abort();
      }),
  );
  // All of them: none may write after the stage has ended.
  await Promise.all(lanes);
  if (failure) throw failure.error;
  for (const shard of shards) {
    const target = join(context.output("documents"), publishedName(shard));
    await place(finishedPath(context.stateDir, shard), target);
  }
}

function publishedName(shard: Shard): string {
  return basename(shard.path).replace(/\.json\.gz$/, ".jsonl.gz");
}

/** Throws if two shards would be published under one name. */
function requireApart(shards: readonly Shard[]): void {
  const byName = new Map<string, Shard>();
  for (const shard of shards) {
    const name = publishedName(shard);
    const other = byName.get(name);
    if (other) {
      throw new SourceError(
        `data.c4.files takes ${other.path} and ${shard.path}, both of which become ${name}`,
      );
    }
    byName.set(name, shard);
  }
}

/** Fetches one shard into the state folder, from where an earlier attempt left it. */
async function fetchShard(
  context: StageContext<unknown>,
  hub: Hub,
  shard: Shard,
  options: { path: string; stop: AbortSignal; onBytes: (bytes: number) => void },
): Promise<void> {
  const target = finishedPath(context.stateDir, shard);
  if (await fileSize(target) === shard.size) return options.onBytes(shard.size);
  const partial = `${target}.partial`;
  // A second time if the hash is wrong: the part from an earlier attempt may be to blame.
  for (let attempt = 1;; attempt++) {
    const hash = startHash(shard);
    {
      using file = await Deno.open(partial, { read: true, write: true, create: true });
      let position = (await file.stat()).size;
      if (position > shard.size) await file.truncate(position = 0);
      for (let left = position; left > 0;) {
        const chunk = new Uint8Array(Math.min(left, 1 << 20));
        const read = await file.read(chunk);
        if (read === null) break;
        hash.update(chunk.subarray(0, read));
        left -= read;
      }
      options.onBytes(position);
      const { size } = shard;
      const { stop: signal } = options;
      for await (const chunk of hub.bytes(options.path, { size, from: position, signal })) {
        hash.update(chunk);
        for (let done = 0; done < chunk.length;) done += await file.write(chunk.subarray(done));
        options.onBytes(position += chunk.length);
      }
      await file.sync();
    }
    try {
      requireHash(shard, hash);
      break;
    } catch (error) {
      await Deno.remove(partial);
      if (attempt === 2) throw error;
      context.log.warn(`${shard.path}: the hash is wrong; fetching it again`);
    }
  }
  await Deno.rename(partial, target);
}

/** A git blob's hash covers a small head before its bytes. */
function startHash(shard: Shard): Hash {
  const hash = createHash(shard.algorithm);
  return shard.algorithm === "sha1" ? hash.update(`blob ${shard.size}\0`) : hash;
}

function requireHash(shard: Shard, hash: Hash): void {
  const found = hash.digest("hex");
  if (found !== shard.oid) {
    throw new SourceError(
      `${shard.path} has ${shard.algorithm} ${found}; the hub's listing says ${shard.oid}`,
    );
  }
}

function finishedPath(folder: string, shard: Shard): string {
  return join(folder, `${shard.oid.slice(0, 16)}-${basename(shard.path)}`);
}

async function presentBytes(folder: string, shard: Shard): Promise<number> {
  const target = finishedPath(folder, shard);
  return Math.min(
    shard.size,
    await fileSize(target) ?? await fileSize(`${target}.partial`) ?? 0,
  );
}

async function fileSize(path: string): Promise<number | undefined> {
  try {
    return (await Deno.stat(path)).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Throws if the disk has less than `bytes` free, with a little room to spare. */
async function requireSpace(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const needed = bytes + 64 * 1024 * 1024;
  if (bytes > 0 && free < needed) {
    throw new SourceError(
      `${folder} has ${(free / 1e9).toFixed(2)} GB free, but ${
        (needed / 1e9).toFixed(2)
      } GB are needed; free some space or lower data.c4.fraction`,
    );
  }
}

/** A hard link, so that a kill between here and publication costs nothing; a copy where links are not possible. */
async function place(from: string, to: string): Promise<void> {
  try {
    await Deno.link(from, to);
  } catch {
    await Deno.copyFile(from, to);
  }
}

function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h} h ${m} min` : m > 0 ? `${m} min ${s} s` : `${s} s`;
}
