/**
 * The texts that windows are taken from, as the published protocols read them.
 *
 * | dataset | calibration | evaluation |
 * | --- | --- | --- |
 * | wikitext2 | the training rows, joined by a space | the test rows, joined by two line ends |
 * | c4 | documents of the first training file, one window each | the first 1,100 validation documents, joined by a space |
 * | files | the files, joined by two line ends | the same |
 * | embedded | the first documents of the packages' | the last documents, joined by two line ends |
 *
 * @module
 */

import type { StageContext } from "../../pipeline/stage.ts";
import { contentDigest } from "../download/sources/content_digest.ts";
import { gunzipBytes, parseDocuments, type TextDocument } from "../download/sources/document.ts";
import { readEmbedded } from "../download/sources/embedded.ts";
import { SourceError } from "../download/sources/error.ts";
import { findFiles, isParquet, readFiles } from "../download/sources/files.ts";
import { Hub, type HubOptions } from "../download/sources/hub/hub.ts";
import { type HubFolder, listShards, type Shard } from "../download/sources/hub/listing.ts";
import { C4_REVISION } from "../download/sources/hub/section.ts";
import { fetchShards, shardBytes } from "../download/sources/hub/shards.ts";
import { readParquet } from "../download/sources/parquet.ts";
import type { Dataset, TextFiles } from "./config.ts";
import { readWhole } from "./whole_text.ts";

/** Commit of `Salesforce/wikitext` that the project was written against. */
const WIKITEXT_REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3";

/** Documents of C4 that models are measured on. */
const C4_DOCUMENTS = 1100;

/** UTF-16 units of embedded text that one side takes. */
const EMBEDDED_LENGTH = 2_000_000;

/** The purpose of a text. */
export type TextRole = "calibration" | "evaluation";

/** A text to read. */
export interface TextSource {
  readonly dataset: Dataset;
  readonly files?: TextFiles | undefined;
}

/** A file that was read; a digest where all of it was, and checked. */
export interface ReadFile {
  readonly path: string;
  readonly sha256: string | null;
}

/** A text that was found, and is read document by document. */
export interface FoundText {
  /** Documents or rows, in order. */
  readonly documents: AsyncIterable<string> | Iterable<string>;
  /** Separator of documents that are one text; undefined where each is a text of its own. */
  readonly join: string | undefined;
  readonly files: readonly ReadFile[];
  /** The commit, of a dataset of the hub. */
  readonly revision: string | null;
}

/** A dataset of the hub, and how its documents become a text. */
interface HubText {
  readonly from: HubFolder;
  /** Name of the file that is read. */
  readonly file: string;
  readonly join: string | undefined;
  /** Documents at most. */
  readonly most?: number;
  /** Whether it is read as it comes, and not fetched whole: its reader needs its beginning. */
  readonly streams: boolean;
}

const WIKITEXT = { dataset: "Salesforce/wikitext", folder: "wikitext-2-raw-v1" } as const;
const C4 = { dataset: "allenai/c4", folder: "en" } as const;

const HUB: Readonly<Record<"wikitext2" | "c4", Readonly<Record<TextRole, Omit<HubText, "from">>>>> =
  {
    wikitext2: {
      calibration: { file: "train-00000-of-00001.parquet", join: " ", streams: false },
      evaluation: { file: "test-00000-of-00001.parquet", join: "\n\n", streams: false },
    },
    c4: {
      calibration: { file: "c4-train.00000-of-01024.json.gz", join: undefined, streams: true },
      evaluation: {
        file: "c4-validation.00000-of-00008.json.gz",
        join: " ",
        most: C4_DOCUMENTS,
        streams: true,
      },
    },
  };

function hubText(dataset: "wikitext2" | "c4", role: TextRole): HubText {
  const from = dataset === "c4"
    ? { ...C4, revision: C4_REVISION }
    : { ...WIKITEXT, revision: WIKITEXT_REVISION };
  return { ...HUB[dataset][role], from: { ...from, section: role } };
}

/**
 * Finds a text.
 *
 * @param options `role`: also the section of the configuration, for messages. `hub`: where the hub is and how patient to be.
 * @throws {SourceError} Of one line, if there is none.
 */
export async function findText(
  context: StageContext<unknown>,
  source: TextSource,
  { role, hub }: { readonly role: TextRole; readonly hub: HubOptions },
): Promise<FoundText> {
  const { dataset, files } = source;
  if (dataset === "embedded") return await embedded(role);
  if (files !== undefined) return await localText(dataset, files, role);
  if (dataset === "files") throw new RangeError(`${role}.files is missing`);
  return await fetchedText(context, hubText(dataset, role), hub);
}

/** Half of the packages' English: the first documents in their shuffled order, or the last. */
async function embedded(role: TextRole): Promise<FoundText> {
  const { documents, packages } = await readEmbedded();
  const chosen: string[] = [];
  let length = 0;
  for (const { text } of role === "calibration" ? documents : documents.toReversed()) {
    length += text.length;
    if (length > EMBEDDED_LENGTH) break;
    chosen.push(text);
  }
  return {
    documents: chosen,
    join: "\n\n",
    files: packages.map(({ name, version }) => ({ path: `${name}@${version}`, sha256: null })),
    revision: null,
  };
}

/** Local files; where they are a dataset's own, its rows are joined as that says. */
async function localText(
  dataset: "wikitext2" | "c4" | "files",
  { glob, text_field, encoding, fingerprint }: TextFiles,
  role: TextRole,
): Promise<FoundText> {
  const setting = `${role}.files.glob`;
  const paths = await findFiles(glob, { setting });
  const files: ReadFile[] = [];
  for (const path of paths) files.push({ path, sha256: await contentDigest(path) });
  if (fingerprint !== undefined && fingerprint !== await textFingerprint({ glob }, role)) {
    throw new SourceError(
      `The files of ${setting} "${glob}" changed after the experiment was planned; run it again`,
    );
  }
  const about = { files, revision: null };
  if (dataset === "files") {
    const text = await readWhole(paths, {
      text_field,
      encoding,
      setting: `${role}.files.encoding`,
    });
    if (text.trim() === "") throw new SourceError(`${setting} "${glob}" has no text`);
    return { ...about, documents: [text], join: "\n\n" };
  }
  const plain = paths.find((path) => /\.txt(?:\.gz)?$/.test(path));
  if (plain !== undefined) {
    throw new SourceError(
      `${setting} matches ${plain}, which has no rows; expected the .parquet or .json of ${dataset}, or dataset: files`,
    );
  }
  const { join, most } = HUB[dataset][role];
  return { ...about, documents: rows(paths, { text_field, most }), join };
}

/** Digest of the names and contents of local files. @throws {Error} If there are none. */
export async function textFingerprint(
  { glob }: Pick<TextFiles, "glob">,
  role: TextRole,
  options: { readonly verify?: boolean; readonly warn?: ((line: string) => void) | undefined } = {},
): Promise<string> {
  const paths = await findFiles(glob, { setting: `${role}.files.glob`, warn: options.warn });
  const parts: string[] = [];
  for (const path of paths) {
    parts.push(JSON.stringify([path, await contentDigest(path, options)]));
  }
  const bytes = new TextEncoder().encode(parts.join("\n"));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Rows of files, blank ones too: they are lines of a text. */
async function* rows(
  paths: readonly (string | { readonly path: string; readonly name: string })[],
  { text_field, most = Infinity }: {
    readonly text_field?: string;
    readonly most?: number | undefined;
  },
): AsyncGenerator<string> {
  let count = 0;
  for (const file of paths) {
    const { path, name } = typeof file === "string" ? { path: file, name: file } : file;
    const documents: AsyncIterable<TextDocument> = isParquet(name)
      ? readParquet(path, { name, text_field, blank: true })
      : readFiles([file], { text_field });
    for await (const { text } of documents) {
      if (count++ >= most) return;
      yield text;
    }
  }
}

/** A dataset of the hub. */
async function fetchedText(
  context: StageContext<unknown>,
  { from, file, join, most, streams }: HubText,
  options: HubOptions,
): Promise<FoundText> {
  const { log, signal } = context;
  const hub = new Hub(options, { signal, warn: (line) => log.warn(line) });
  const [shard] = await listShards(hub, from, file) as [Shard];
  const { path } = shard;
  const name = `${from.dataset}/${path}`;
  const about = { join, revision: from.revision };
  if (!streams) {
    const [local] = await fetchShards(context, hub, [shard], { from }) as [string];
    const files = [{ path: name, sha256: await contentDigest(local) }];
    return { ...about, documents: rows([{ path: local, name }], {}), files };
  }
  async function* documents(): AsyncGenerator<string> {
    let count = 0;
    for await (
      const { text } of parseDocuments(gunzipBytes(shardBytes(hub, from, shard), path), { name })
    ) {
      yield text;
      if (++count === most) return;
    }
  }
  return { ...about, documents: documents(), files: [{ path: name, sha256: null }] };
}
