/**
 * Models of the Hugging Face hub: which files one has at a revision, and how they come into the cache, with their hashes checked.
 *
 * @module
 */

import { statfs } from "node:fs/promises";
import { join } from "@std/path";
import { z } from "zod";
import { MODEL_FILE } from "../../model/checkpoint/checkpoint.ts";
import { INDEX_FILE, parseIndex, readJson } from "../../model/pretrained/files.ts";
import { CONFIG_FILE } from "../../model/pretrained/json.ts";
import { OPTIONAL_FILES, TOKENIZER_FILE } from "../../model/pretrained/tokenizer.ts";
import { fetchShard, finishedPath, presentBytes } from "../download/sources/hub/shards.ts";
import { quote, SourceError, StatusError, TransientError } from "../download/sources/error.ts";
import { Hub, type HubOptions } from "../download/sources/hub/hub.ts";
import type { Shard } from "../download/sources/hub/listing.ts";
import { COMMIT, ModelCache, sizeOf } from "./cache.ts";

/** A name on the hub: an owner and a model. */
export const HUB_NAME = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;

/** A branch, a tag or a commit; no path that leads elsewhere. */
const REVISION = /^(?!\/)(?!.*(?:\/\/|\.\.|\/$))[\w./-]+$/;

/** A model of the hub to fetch. */
export interface FetchOptions {
  /** `ORG/NAME`. */
  readonly name: string;
  /** Branch, tag or commit; `main` unless given. */
  readonly revision?: string | undefined;
  /** Told what goes on. */
  warn(line: string): void;
  /** Where the hub is, and how patient to be. */
  readonly hub?: HubOptions;
  /** Folder of all models; see `cacheFolder()`. */
  readonly cache?: string;
  readonly signal?: AbortSignal;
}

/** A model in the cache. */
export interface FetchedModel {
  /** Folder of its files. */
  readonly folder: string;
  /** The commit that they are of. */
  readonly commit: string;
}

/**
 * Fetches a model's files into the cache, those that are not there. A commit that is there whole asks the hub nothing. With `HF_HUB_OFFLINE` the cache is
 * all there is, and a branch is at the commit that it was at when it was last looked up.
 *
 * @throws {SourceError} Of one line, if the model is not there, or can't be fetched.
 */
export async function fetchModel(options: FetchOptions): Promise<FetchedModel> {
  const { name, revision = "main", warn, signal = new AbortController().signal } = options;
  if (!REVISION.test(revision)) {
    throw new SourceError(
      `--revision is ${quote(revision)}; expected a branch, a tag or a commit of ${name}`,
    );
  }
  const cache = new ModelCache(name, options.cache);
  const known = await cache.commitOf(revision);
  const offline = options.hub?.offline ??
    /^(?:1|true|yes|on)$/i.test(Deno.env.get("HF_HUB_OFFLINE")?.trim() ?? "");
  if (known !== undefined && (offline || COMMIT.test(revision)) && await cache.isComplete(known)) {
    return { folder: cache.snapshot(known), commit: known };
  }
  if (offline) {
    throw new SourceError(
      `HF_HUB_OFFLINE is set, and ${cache.folder} does not hold ${name} at ${revision}; fetch it once without`,
    );
  }
  const hub = new Hub(options.hub ?? {}, { signal, warn });
  try {
    const { commit, files } = await listModel(hub, name, revision);
    await Deno.mkdir(cache.blobs, { recursive: true });
    // Nobody else writes into the same parts of files.
    using lock = await Deno.open(join(cache.folder, ".lock"), { create: true, write: true });
    await lock.lock(true);
    await fetchFiles(hub, cache, { name, commit, files, warn, signal });
    await cache.note(revision, commit);
    return { folder: cache.snapshot(commit), commit };
  } catch (error) {
    if (error instanceof StatusError) throw explain(error, name, revision);
    const held = known !== undefined && await cache.isComplete(known);
    if (!(error instanceof SourceError) || !held) throw error;
    throw new SourceError(
      `${error.message}; the cache has an earlier look, which HF_HUB_OFFLINE=1 takes`,
    );
  }
}

/** The hub's refusal in terms of the model that was asked for. */
function explain({ status, message }: StatusError, name: string, revision: string): SourceError {
  if (status === 404) {
    return new SourceError(`The hub has no model ${name} at revision ${revision} (status 404)`);
  }
  // The hub answers so for names that do not exist, too.
  if (status === 401 || status === 403) {
    return new SourceError(
      `The hub does not give ${name} (status ${status}): there is no such model, or it is private or gated, which needs HF_TOKEN of an account with access`,
    );
  }
  return new SourceError(message);
}

const answerSchema = z.object({
  sha: z.string().regex(COMMIT),
  siblings: z.array(z.object({
    rfilename: z.string(),
    size: z.int().min(0).nullish(),
    blobId: z.string().nullish(),
    lfs: z.object({ sha256: z.string(), size: z.int().min(0) }).nullish(),
  })),
});

type Sibling = z.infer<typeof answerSchema>["siblings"][number];

/** The commit of a revision, and its files. */
async function listModel(
  hub: Hub,
  name: string,
  revision: string,
): Promise<{ commit: string; files: ReadonlyMap<string, Sibling> }> {
  const path = `/api/models/${name}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const { sha, siblings } = await hub.answer(hub.endpoint + path, {}, ({ text }) => {
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      throw new TransientError(`${quote(text, 60)} is no description of a model`);
    }
    const parsed = answerSchema.safeParse(json);
    if (parsed.success) return parsed.data;
    const place = parsed.error.issues[0]!.path.join(".") || "it";
    throw new SourceError(`The hub describes ${name} so that ${place} can't be right`);
  });
  return { commit: sha, files: new Map(siblings.map((file) => [file.rfilename, file])) };
}

/** A file with the hash that it must have. @throws {SourceError} If the hub says none. */
function hashed({ rfilename: path, size, blobId, lfs }: Sibling): Shard {
  const shard: Shard = lfs
    ? { path, size: lfs.size, algorithm: "sha256", oid: lfs.sha256 }
    : { path, size: size ?? -1, algorithm: "sha1", oid: blobId ?? "" };
  const right = (lfs ? /^[0-9a-f]{64}$/ : COMMIT).test(shard.oid) && shard.size >= 0;
  if (right) return shard;
  throw new SourceError(`The hub lists ${quote(path)} without a hash and a size to check it by`);
}

/** Files of a model that are to be fetched. */
interface Fetching {
  readonly name: string;
  readonly commit: string;
  readonly files: ReadonlyMap<string, Sibling>;
  readonly signal: AbortSignal;
  warn(line: string): void;
}

/** Fetches the files that a model needs: small ones first, so that whoever finds the weights has all. */
async function fetchFiles(hub: Hub, cache: ModelCache, fetching: Fetching): Promise<void> {
  const { name, commit, files } = fetching;
  const need = (file: string): Shard => {
    const found = files.get(file);
    if (found) return hashed(found);
    throw new SourceError(`${name} has no ${file} at ${commit.slice(0, 12)}`);
  };
  const optional = OPTIONAL_FILES.filter((file) => files.has(file));
  const whole = files.has(MODEL_FILE);
  if (!whole && !files.has(INDEX_FILE)) {
    throw new SourceError(
      `${name} has no ${MODEL_FILE} and no ${INDEX_FILE} at ${
        commit.slice(0, 12)
      }; other forms of weights are not read`,
    );
  }
  const small = [CONFIG_FILE, TOKENIZER_FILE, ...optional, ...whole ? [] : [INDEX_FILE]];
  await fetchAll(hub, cache, small.map(need), fetching);
  const folder = cache.snapshot(commit);
  const weights = whole
    ? [MODEL_FILE]
    : parseIndex(await readJson(folder, INDEX_FILE), join(folder, INDEX_FILE)).files;
  await fetchAll(hub, cache, weights.map(need), fetching);
}

async function fetchAll(
  hub: Hub,
  cache: ModelCache,
  files: readonly Shard[],
  { name, commit, warn, signal }: Fetching,
): Promise<void> {
  const missing: Shard[] = [];
  for (const file of files) {
    if (await sizeOf(join(cache.blobs, file.oid)) !== file.size) missing.push(file);
  }
  const present = await Promise.all(missing.map((file) => presentBytes(cache.blobs, file)));
  const left = missing.reduce((sum, { size }, i) => sum + size - present[i]!, 0);
  await requireSpace(cache.folder, left, name);
  for (const [i, file] of missing.entries()) {
    const megabytes = ((file.size - present[i]!) / 1e6).toFixed(1);
    warn(`${name}: fetching ${file.path}, ${megabytes} MB`);
    await fetchShard({ stateDir: cache.blobs, log: { warn } }, hub, file, {
      path: `/${name}/resolve/${commit}/${file.path.split("/").map(encodeURIComponent).join("/")}`,
      stop: signal,
      onBytes() {},
    });
    await Deno.rename(finishedPath(cache.blobs, file), join(cache.blobs, file.oid));
  }
  for (const { path, oid } of files) await cache.place(commit, path, oid);
}

/** Room that is left on the disk at least. */
const ROOM = 64 * 2 ** 20;

async function requireSpace(folder: string, bytes: number, name: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (bytes === 0 || free >= bytes + ROOM) return;
  throw new SourceError(
    `${folder} has ${(free / 1e9).toFixed(2)} GB free, but ${name} needs ${
      ((bytes + ROOM) / 1e9).toFixed(2)
    } GB; free some space, or set HF_HOME`,
  );
}
