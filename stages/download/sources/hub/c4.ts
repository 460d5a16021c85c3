/**
 * C4 from the Hugging Face hub: a preset of `data.hub` whose shards are published as they are.
 *
 * @module
 */

import { basename, join } from "@std/path";
import type { JsonValue, StageContext } from "../../../../pipeline/stage.ts";
import { type DocumentLimits, gunzipBytes, isLimited, parseDocuments } from "../document.ts";
import { SourceError } from "../error.ts";
import { Hub, type HubOptions } from "./hub.ts";
import { type HubFolder, listShards, type Shard } from "./listing.ts";
import type { C4Section } from "./section.ts";
import { fetchShards, selectShards, shardBytes, streamShards } from "./shards.ts";

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
 * @returns The content of `source.json`.
 * @throws {SourceError} of one line, if the hub can't serve the section.
 */
export async function downloadC4(
  context: StageContext<unknown>,
  options: C4Options,
): Promise<JsonValue> {
  const { c4, limits } = options;
  const { dataset, config, revision } = c4;
  const from: HubFolder = { dataset, revision, folder: config, section: "data.c4" };
  const hub = new Hub(options, { signal: context.signal, warn: (line) => context.log.warn(line) });
  const limited = isLimited(limits);
  const choice = { shards: c4.shards, fraction: c4.fraction ?? (limited ? 1 : DEFAULT_FRACTION) };
  const shards = selectShards(await listShards(hub, from, c4.files), choice, from.section);
  const about = { source: "c4", dataset, config, revision };
  if (limited) {
    const read = (shard: Shard) => {
      const bytes = gunzipBytes(shardBytes(hub, from, shard), shard.path);
      return parseDocuments(bytes, { name: shard.path });
    };
    return { ...about, ...await streamShards(context, shards, { limits, read }) };
  }
  requireApart(shards);
  const { concurrency } = options;
  const paths = await fetchShards(context, hub, shards, { from, concurrency });
  for (const [index, shard] of shards.entries()) {
    await place(paths[index]!, join(context.output("documents"), publishedName(shard)));
  }
  return {
    ...about,
    shards: shards.map(({ path, size, algorithm, oid }) => ({ path, size, [algorithm]: oid })),
  };
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

/** A hard link, so that a kill between here and publication costs nothing; a copy where links are not possible. */
async function place(from: string, to: string): Promise<void> {
  try {
    await Deno.link(from, to);
  } catch {
    await Deno.copyFile(from, to);
  }
}
