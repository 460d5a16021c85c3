/**
 * Any dataset on the Hugging Face hub as documents: JSON lines, plain text or Parquet.
 *
 * @module
 */

import { join } from "@std/path";
import type { JsonValue, StageContext } from "../../../../pipeline/stage.ts";
import {
  type DocumentLimits,
  gunzipBytes,
  HELD_OUT,
  isLimited,
  type TextDocument,
} from "../document.ts";
import { SourceError } from "../error.ts";
import { isParquet, parseFile, readFiles, requireReadable, requireSeparable } from "../files.ts";
import { Hub, type HubOptions } from "./hub.ts";
import { type HubFolder, listShards, type Shard } from "./listing.ts";
import type { HubSection } from "./section.ts";
import { fetchShards, selectShards, shardBytes, streamShards } from "./shards.ts";

/** Names of the settings that messages give. */
const SETTINGS = { encoding: "data.hub.encoding", separator: "data.hub.separator" };

/** The section to fetch, its limits, and the hub. */
export interface HubDatasetOptions extends HubOptions {
  readonly section: HubSection;
  readonly limits: DocumentLimits;
}

/**
 * Fetches a dataset and writes its documents into the output `documents`; those that it holds out into the folder
 * `validation` there.
 *
 * Without limits all shards are fetched whole. With limits, text and JSON are read as they come, and a Parquet file, which
 * is read from its end, is fetched whole when its turn comes. Held-out text is always fetched whole, and has no limit.
 *
 * @returns The content of `source.json`.
 * @throws {SourceError} of one line, if the hub can't serve the section.
 */
export async function downloadHub(
  context: StageContext<unknown>,
  options: HubDatasetOptions,
): Promise<JsonValue> {
  const { section, limits, concurrency } = options;
  const { dataset, revision, folder = "" } = section;
  const from: HubFolder = { dataset, revision, folder, section: "data.hub" };
  const hub = new Hub(options, { signal: context.signal, warn: (line) => context.log.warn(line) });
  const list = async (files: string, setting: string) => {
    const found = await listShards(hub, from, files);
    checked(() => requireReadable(found.map(pathOf), `${setting} "${files}"`));
    return found;
  };
  const choice = { shards: section.shards, fraction: section.fraction ?? 1 };
  const shards = selectShards(await list(section.files, "data.hub.files"), choice, from.section);
  const { validation } = section;
  const heldOut = validation === undefined ? [] : await list(validation, "data.hub.validation");
  requireApart(shards, heldOut);
  const names = [...shards, ...heldOut].map(pathOf);
  checked(() => requireSeparable(names, section.separator, SETTINGS.separator));

  const limited = isLimited(limits);
  const fetched = new Map<Shard, string>();
  const fetch = async (wanted: readonly Shard[]) => {
    const paths = await fetchShards(context, hub, wanted, { from, concurrency });
    for (const [index, shard] of wanted.entries()) fetched.set(shard, paths[index]!);
  };
  await fetch(limited ? heldOut : [...heldOut, ...shards]);

  const { text_field, separator, encoding } = section;
  const reading = { text_field, separator, encoding, settings: SETTINGS };
  async function* read(shard: Shard): AsyncGenerator<TextDocument> {
    const name = shard.path;
    if (!fetched.has(shard) && isParquet(name)) await fetch([shard]);
    const path = fetched.get(shard);
    if (path !== undefined) {
      yield* readFiles([{ path, name }], reading);
    } else {
      const packed = shardBytes(hub, from, shard);
      const bytes = name.endsWith(".gz") ? gunzipBytes(packed, name) : packed;
      yield* parseFile(bytes, { ...reading, name });
    }
  }
  let held: JsonValue | undefined;
  if (heldOut.length > 0) {
    const output = join(context.output("documents"), HELD_OUT);
    await Deno.mkdir(output);
    const counts = await streamShards(context, heldOut, { limits: {}, read, output });
    held = { ...counts, shards: listed(heldOut, counts.shards), files: heldOut.map(pathOf) };
  }
  const counts = await streamShards(context, shards, { limits, read });
  return {
    source: "hub",
    dataset,
    ...folder !== "" && { folder },
    revision,
    ...counts,
    shards: listed(shards, counts.shards),
    ...held !== undefined && { validation: held },
  };
}

function pathOf({ path }: Shard): string {
  return path;
}

/** The shards that were read, with their sizes and hashes. */
function listed(
  shards: readonly Shard[],
  used: readonly { readonly path: string; readonly verified: boolean }[],
): JsonValue {
  return used.map(({ path, verified }, index) => {
    const { size, algorithm, oid } = shards[index]!;
    return { path, size, [algorithm]: oid, verified };
  });
}

/** Throws when a shard is both learned from and held out. */
function requireApart(shards: readonly Shard[], heldOut: readonly Shard[]): void {
  const held = new Set(heldOut.map(({ path }) => path));
  const both = shards.find(({ path }) => held.has(path));
  if (both === undefined) return;
  throw new SourceError(
    `${both.path} is in both data.hub.files and data.hub.validation; what is held out must not be learned from`,
  );
}

/** Runs a check of names from the network, whose error is no mistake of the code. */
function checked(check: () => void): void {
  try {
    check();
  } catch (error) {
    throw new SourceError((error as Error).message, { cause: error });
  }
}
