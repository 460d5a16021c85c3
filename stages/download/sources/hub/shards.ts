/**
 * Shards of a dataset on the hub: whole ones with their hashes checked, or their bytes as a stream.
 *
 * A shard is written under a name that has its hash, `….partial`, and gets its own name only after the hash was checked
 * and the disk has it. Both live in the node's state folder, so that an interrupted download goes on where it was.
 *
 * @module
 */

import { createHash, type Hash } from "node:crypto";
import { statfs } from "node:fs/promises";
import { basename, join } from "@std/path";
import type { StageContext } from "../../../../pipeline/stage.ts";
import {
  type DocumentCounts,
  type DocumentLimits,
  limitDocuments,
  type TextDocument,
  writeDocuments,
} from "../document.ts";
import { SourceError } from "../error.ts";
import type { Hub } from "./hub.ts";
import { type HubFolder, resolvePath, type Shard } from "./listing.ts";

/** Which shards to take. */
export interface ShardChoice {
  /** Their numbers, from 0. */
  readonly shards?: readonly number[] | undefined;
  /** Share of them, from the first on. */
  readonly fraction: number;
}

/**
 * The shards that the configuration asks for.
 *
 * @param section Section of the configuration, for messages.
 */
export function selectShards(
  shards: readonly Shard[],
  choice: ShardChoice,
  section: string,
): Shard[] {
  if (choice.shards) {
    return choice.shards.map((index) => {
      const shard = shards[index];
      if (!shard) {
        throw new SourceError(
          `${section}.shards: ${index} is not there; the dataset has ${shards.length} shards, 0 to ${
            shards.length - 1
          }`,
        );
      }
      return shard;
    });
  }
  return shards.slice(0, Math.max(1, Math.round(choice.fraction * shards.length)));
}

/** Bytes of a shard as a stream. @throws {SourceError} At their end, if they have another hash than is listed. */
export async function* shardBytes(
  hub: Hub,
  from: HubFolder,
  shard: Shard,
): AsyncGenerator<Uint8Array> {
  const hash = startHash(shard);
  for await (const chunk of hub.bytes(resolvePath(from, shard), { size: shard.size })) {
    hash.update(chunk);
    yield chunk;
  }
  requireHash(shard, hash);
}

/** How to read shards. */
interface StreamOptions {
  readonly limits: DocumentLimits;
  /** Documents of a shard; it has its listed hash when they come to their end. */
  read(shard: Shard): AsyncIterable<TextDocument>;
  /** Folder to write to; the output `documents` unless given. */
  readonly output?: string;
}

/** Counts of what was read, and the shards that it was read from. */
export interface StreamedShards extends DocumentCounts {
  /** `verified`: whether the shard was read to its end, where its hash is checked. */
  readonly shards: { path: string; verified: boolean }[];
}

/**
 * Writes the documents of shards until a limit is reached.
 *
 * @throws {SourceError} If there is no document, or the first is beyond the limit.
 */
export async function streamShards(
  context: StageContext<unknown>,
  shards: readonly Shard[],
  { limits, read, output = context.output("documents") }: StreamOptions,
): Promise<StreamedShards> {
  const used: StreamedShards["shards"] = [];
  const { max_documents, max_bytes } = limits;
  // Without a limit nobody knows how many there are: shards are counted.
  const [unit, total] = max_documents !== undefined
    ? ["documents" as const, max_documents]
    : max_bytes !== undefined
    ? ["bytes" as const, max_bytes]
    : ["shards" as const, shards.length];
  const progress = context.progress(total, { unit });
  async function* documents(): AsyncGenerator<TextDocument> {
    for (const shard of shards) {
      const entry = { path: shard.path, verified: false };
      used.push(entry);
      yield* read(shard);
      entry.verified = true;
      if (unit === "shards") progress.update(used.length, shard.path);
    }
  }
  const counts = await writeDocuments(output, limitDocuments(documents(), limits), {
    signal: context.signal,
    onDocument: (counts) => {
      if (unit !== "shards") progress.update(counts[unit]);
    },
  });
  if (counts.documents === 0) {
    const first = shards[0]?.path;
    throw new SourceError(
      max_bytes === undefined || used.every(({ verified }) => verified)
        ? `${first}${
          shards.length > 1 ? ` and ${shards.length - 1} more have` : " has"
        } no document`
        : `The first document of ${first} is larger than data.max_bytes ${max_bytes}`,
    );
  }
  context.log.info(`${counts.documents} documents from ${used.length} shards`);
  return { ...counts, shards: used };
}

/**
 * Fetches whole shards into the state folder, several at once.
 *
 * @returns Their paths.
 */
export async function fetchShards(
  context: StageContext<unknown>,
  hub: Hub,
  shards: readonly Shard[],
  { from, concurrency = 4 }: {
    readonly from: HubFolder;
    readonly concurrency?: number | undefined;
  },
): Promise<string[]> {
  const total = shards.reduce((sum, { size }) => sum + size, 0);
  const present = await Promise.all(shards.map((shard) => presentBytes(context.stateDir, shard)));
  const missing = total - present.reduce((sum, bytes) => sum + bytes, 0);
  await requireSpace(context.stateDir, missing, from.section);
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
        path: resolvePath(from, shard),
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
  return shards.map((shard) => finishedPath(context.stateDir, shard));
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
async function requireSpace(folder: string, bytes: number, section: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const needed = bytes + 64 * 1024 * 1024;
  if (bytes > 0 && free < needed) {
    throw new SourceError(
      `${folder} has ${(free / 1e9).toFixed(2)} GB free, but ${
        (needed / 1e9).toFixed(2)
      } GB are needed; free some space or lower ${section}.fraction`,
    );
  }
}

function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h} h ${m} min` : m > 0 ? `${m} min ${s} s` : `${s} s`;
}
