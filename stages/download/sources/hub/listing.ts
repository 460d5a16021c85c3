/**
 * Which shards a dataset on the hub has, from a listing that is believed in nothing but what can be checked.
 *
 * @module
 */

import { listFiles } from "@huggingface/hub";
import { z } from "zod";
import { message } from "../document.ts";
import { quote, SourceError, TransientError } from "../error.ts";
import type { Hub } from "./hub.ts";
import { notTheHub, originOf } from "./answer.ts";
import { nextPage } from "./headers.ts";

/** Pages of one listing; the hub puts 1,000 entries on one. */
const MOST_PAGES = 10_000;
/** UTF-8 bytes of a name: with its hash and `.partial` it is a file's name. */
const LONGEST_NAME = 200;

/** A folder of a dataset at a revision. */
export interface HubFolder {
  /** Owner and name. */
  readonly dataset: string;
  /** Commit, branch, tag or another reference. */
  readonly revision: string;
  /** Path of the folder; empty for the dataset's top. */
  readonly folder: string;
  /** Section of the configuration that names it, such as `data.c4`. */
  readonly section: string;
}

/** A shard as the hub lists it. */
export interface Shard {
  /** Path in the dataset. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** `sha256` of a large file, `sha1` of a git blob otherwise. */
  readonly algorithm: "sha256" | "sha1";
  /** The hash in hexadecimal digits. */
  readonly oid: string;
}

/** One entry as far as every entry must have it: those of files that are not wanted are not judged. */
const pageSchema = z.array(z.looseObject({ type: z.string(), path: z.string() }));

const wantedSchema = z.object({
  path: z.string(),
  size: z.int().min(0),
  oid: z.string().nullish(),
  lfs: z.object({ oid: z.string(), size: z.int().min(0) }).nullish(),
});

/**
 * Shards of a folder whose name fits `files`, in which `*` stands for anything, sorted.
 *
 * @throws {SourceError} if there are none, the listing is none or ends early, or a wanted entry can't be right.
 */
export async function listShards(hub: Hub, from: HubFolder, files: string): Promise<Shard[]> {
  const { dataset, revision, folder } = from;
  const shards = new Map<string, Shard>();
  const entries = listFiles({
    repo: { type: "dataset", name: dataset },
    ...folder === "" ? {} : { path: escapePath(folder) },
    revision: encodeURIComponent(revision),
    hubUrl: hub.endpoint,
    fetch: pages(hub),
  });
  for await (const entry of entries) {
    const shard = wantedShard(entry, { folder, files });
    if (!shard) continue;
    const before = shards.get(shard.path);
    if (before && (before.oid !== shard.oid || before.size !== shard.size)) {
      throw new SourceError(`The hub lists ${quote(shard.path)} twice, with different hashes`);
    }
    shards.set(shard.path, shard);
  }
  if (shards.size === 0) {
    throw new SourceError(
      `${dataset} at ${revision} has no file ${within(folder, files)}; check ${from.section}`,
    );
  }
  return [...shards.values()].sort((a, b) => a.path < b.path ? -1 : 1);
}

/** Path of a shard below the hub's endpoint, escaped. */
export function resolvePath(from: HubFolder, shard: Pick<Shard, "path">): string {
  const revision = encodeURIComponent(from.revision);
  return `/datasets/${from.dataset}/resolve/${revision}/${escapePath(shard.path)}`;
}

function escapePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}

/**
 * A `fetch` to give to `@huggingface/hub`: every page is checked, and its link to the next one leads to the endpoint's own
 * host in the one form that the package reads.
 */
function pages(hub: Hub): typeof fetch {
  const seen = new Set<string>();
  return async (input, init) => {
    const asked = String(input instanceof Request ? input.url : input);
    if (seen.has(asked)) {
      throw new SourceError(`The hub's listing goes round in circles: ${quote(asked)} came before`);
    }
    seen.add(asked);
    if (seen.size > MOST_PAGES) {
      throw new SourceError(`The hub's listing has more than ${MOST_PAGES} pages`);
    }
    const headers = Object.fromEntries(new Headers(init?.headers));
    const { entries, link, url } = await hub.answer(asked, headers, ({ text, headers, url }) => ({
      entries: parsePage(text, { url, what: new URL(asked).pathname, headers }),
      link: headers.get("link"),
      url,
    }));
    const next = nextPage(link, { endpoint: hub.endpoint, url: url || asked });
    return Response.json(
      entries,
      next === undefined ? {} : {
        headers: { link: `<${next}>; rel="next"` },
      },
    );
  };
}

/**
 * Entries of one page.
 *
 * @param answer Who answered what, for messages.
 * @throws {TransientError} if it is JSON that is broken off.
 * @throws {SourceError} if it is no list of entries.
 */
export function parsePage(
  text: string,
  answer: { readonly url: string; readonly what: string; readonly headers: Headers },
): z.infer<typeof pageSchema> {
  const { url, what } = answer;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (/^\s*application\/json\b/i.test(answer.headers.get("content-type") ?? "")) {
      throw new TransientError(
        `${originOf(url)} answers with JSON that is damaged: ${quote(message(error))}`,
      );
    }
    throw notTheHub({ url, what, is: `${quote(text, 60)}, which is no JSON,` });
  }
  const result = pageSchema.safeParse(value);
  if (result.success) return result.data;
  const place = result.error.issues[0]?.path.join(".") ?? "";
  throw notTheHub({
    url,
    what,
    is: place === ""
      ? `${quote(text, 60)}, which is no listing,`
      : `a listing whose entry ${place} is no path or type`,
  });
}

/**
 * An entry as a shard, or `undefined` if its file is not wanted.
 *
 * @throws {SourceError} if it is wanted, and its name would leave the folder, or its size or hash is missing.
 */
export function wantedShard(
  entry: { readonly type: string; readonly path: string },
  { folder, files }: { readonly folder: string; readonly files: string },
): Shard | undefined {
  const { path } = entry;
  if (entry.type !== "file") return undefined;
  const last = path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);
  if (!globPattern(files).test(last)) return undefined;
  if (path !== within(folder, last)) {
    // A file of another folder is not wanted either. One that only seems to be of another is refused.
    if (path.split("/").every(isPlainName)) return undefined;
    throw outside(path, folder);
  }
  if (!isPlainName(last)) throw outside(path, folder);
  const result = wantedSchema.safeParse(entry);
  if (!result.success) {
    const place = result.error.issues[0]?.path.join(".");
    throw new SourceError(`The hub lists ${quote(path)} without a ${place} that can be right`);
  }
  const { size, oid, lfs } = result.data;
  const hash = lfs
    ? { algorithm: "sha256", oid: lfs.oid, size: lfs.size } as const
    : { algorithm: "sha1", oid: oid ?? "", size } as const;
  if (!(lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(hash.oid)) {
    throw new SourceError(`The hub lists ${quote(path)} without a hash to check it by`);
  }
  return { path, ...hash };
}

function outside(path: string, folder: string): SourceError {
  const where = folder === "" ? "at the top of the dataset" : `in the folder ${folder}`;
  return new SourceError(`The hub lists ${quote(path)}, which is no plain name ${where}`);
}

function within(folder: string, name: string): string {
  return folder === "" ? name : `${folder}/${name}`;
}

/** Whether a name from the network can be a file's name: printable, no path, not hidden, not too long. */
function isPlainName(name: string): boolean {
  return /^(?!\.)[^\p{C}\p{Zl}\p{Zp}\/\\:*?"<>|]+$/u.test(name) &&
    new TextEncoder().encode(name).length <= LONGEST_NAME;
}

function globPattern(glob: string): RegExp {
  const parts = glob.split("*").map((part) => part.replaceAll(/[\\^$.|?+()[\]{}]/g, "\\$&"));
  return new RegExp(`^${parts.join("[^/]*")}$`, "s");
}
