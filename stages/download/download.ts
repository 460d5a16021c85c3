/**
 * The first stage: text from the source that the configuration names, as documents.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { defineStage, type JsonValue, type StageContext } from "../../pipeline/stage.ts";
import {
  type DocumentLimits,
  HELD_OUT,
  limitDocuments,
  writeDocuments,
} from "./sources/document.ts";
import { readEmbedded } from "./sources/embedded.ts";
import { findFiles, readFiles, requireSeparable } from "./sources/files.ts";
import { filesFingerprint } from "./sources/fingerprint.ts";
import { downloadC4 } from "./sources/hub/c4.ts";
import { downloadHub } from "./sources/hub/dataset.ts";
import { c4Schema, hubSchema } from "./sources/hub/section.ts";
import type { HubOptions } from "./sources/hub/hub.ts";
import { encoding, separator } from "./sources/text_fields.ts";

const filesSchema = z.strictObject({
  glob: z.string().min(1, "glob must not be empty")
    .describe(
      "local files: .jsonl, .json or .txt, each with or without .gz, or .parquet; a path or a pattern",
    ),
  validation: z.string().min(1, "validation must not be empty").optional()
    .describe("local files that are held out, all of them; a share of the documents unless given"),
  embedded: z.boolean().optional()
    .describe("whether the texts of source: embedded are learned from, too, after the files"),
  text_field: z.string().min(1).default("text").describe(
    "key of the text in JSON, column in Parquet",
  ),
  separator: separator.optional(),
  encoding: encoding.optional(),
  fingerprint: z.string().optional()
    .describe("digest of names and contents, so that changed files are read again"),
});

/** Schema of the `data` section. */
export const dataSchema = z.strictObject({
  source: z.enum(["embedded", "c4", "hub", "files"], {
    error: (issue) =>
      `${JSON.stringify(issue.input)} is not a source; expected embedded, c4, hub or files`,
  }).default("embedded").describe("where text comes from"),
  max_documents: z.int("max_documents must be a whole number").min(1).optional()
    .describe("documents at most, what is held out aside"),
  max_bytes: z.int("max_bytes must be a whole number").min(1).optional()
    .describe("UTF-8 bytes of text at most, what is held out aside"),
  c4: c4Schema.optional().describe("for source: c4"),
  hub: hubSchema.optional().describe("for source: hub"),
  files: filesSchema.optional().describe("for source: files"),
}).superRefine((data, context) => {
  const issue = (key: "c4" | "hub" | "files", message: string) =>
    context.addIssue({ code: "custom", path: [key], message, input: data[key] });
  if (data.source === "files" && !data.files) {
    issue("files", "source: files needs files.glob, as files: { glob: text/*.jsonl }");
  }
  if (data.source === "hub" && !data.hub) {
    issue(
      "hub",
      "source: hub needs hub.dataset, hub.revision and hub.files, as hub: { dataset: roneneldan/TinyStories, revision: a commit, files: TinyStories-train.txt }",
    );
  }
  for (const key of ["c4", "hub", "files"] as const) {
    if (data[key] && data.source !== key) {
      issue(key, `has no effect with source: ${data.source}; remove it or set source: ${key}`);
    }
  }
});

/** The `data` section, validated. */
export type DataSection = z.infer<typeof dataSchema>;

/**
 * Fetches text and publishes it as `documents/*.gz`, one `{text, url?, timestamp?}` a line, with `source.json`: counts,
 * revision and hashes. Documents that the source holds out are in `documents/validation/*.gz`.
 */
export const download = defineStage<DataSection>({
  name: "download",
  description: "Fetch text: embedded in packages, from the hub, or from local files",
  module: import.meta.url,
  params: dataSchema,
  outputs: { documents: "directory", source: "json" },
  run: (context) => runDownload(context),
});

/**
 * Runs {@linkcode download}.
 *
 * @param hub Where the hub is and how patient to be; tests change it.
 */
export async function runDownload(
  context: StageContext<DataSection>,
  hub: HubOptions = {},
): Promise<void> {
  const { params } = context;
  const limits = { max_documents: params.max_documents, max_bytes: params.max_bytes };
  switch (params.source) {
    case "embedded":
      context.json("source", await downloadEmbedded(context, limits));
      break;
    case "files":
      context.json("source", await downloadFiles(context, limits));
      break;
    case "hub":
      context.json("source", await downloadHub(context, { ...hub, section: params.hub!, limits }));
      break;
    case "c4":
      context.json(
        "source",
        await downloadC4(context, { ...hub, c4: params.c4 ?? c4Schema.parse({}), limits }),
      );
  }
}

async function downloadEmbedded(
  context: StageContext<DataSection>,
  limits: DocumentLimits,
): Promise<JsonValue> {
  const { documents, packages } = await readEmbedded();
  const progress = context.progress(documents.length, { unit: "documents" });
  const counts = await writeDocuments(
    context.output("documents"),
    limitDocuments(documents, limits),
    {
      signal: context.signal,
      onDocument: ({ documents }) => {
        if (documents % 1000 === 0) progress.update(documents);
      },
    },
  );
  requireSome(counts.documents, limits);
  context.log.info(`${counts.documents} documents, ${megabytes(counts.bytes)} of text`);
  return { source: "embedded", ...counts, packages: packages.map((entry) => ({ ...entry })) };
}

async function downloadFiles(
  context: StageContext<DataSection>,
  limits: DocumentLimits,
): Promise<JsonValue> {
  const options = context.params.files!;
  const { fingerprint, validation, embedded } = options;
  const paths = await findFiles(options.glob);
  const heldOut = validation === undefined
    ? []
    : await findFiles(validation, { setting: "data.files.validation" });
  await requireApart(paths, heldOut);
  requireSeparable([...paths, ...heldOut], options.separator);
  const requireUnchanged = async () => {
    if (fingerprint === undefined || fingerprint === await filesFingerprint(options)) return;
    throw new Error(
      `The files of data.files.glob "${options.glob}" ${
        validation === undefined ? "" : `or data.files.validation "${validation}" `
      }changed after the experiment was planned; run it again`,
    );
  };
  await requireUnchanged();
  const [heldBytes, bytes] = [await totalBytes(heldOut), await totalBytes(paths)];
  const progress = context.progress(heldBytes + bytes, { unit: "bytes" });
  const { signal } = context;
  const read = (files: readonly string[], before: number) =>
    readFiles(files, {
      text_field: options.text_field,
      separator: options.separator,
      encoding: options.encoding,
      onRead: (bytes, path) => progress.update(before + bytes, path),
    });
  const folder = context.output("documents");
  let held: JsonValue | undefined;
  if (heldOut.length > 0) {
    await Deno.mkdir(join(folder, HELD_OUT));
    const counts = await writeDocuments(
      join(folder, HELD_OUT),
      limitDocuments(read(heldOut, 0), {}),
      { signal },
    );
    requireSome(counts.documents, {}, `data.files.validation (${heldOut.join(", ")})`);
    held = { ...counts, files: heldOut };
  }
  const more = embedded === true ? await readEmbedded() : undefined;
  const texts = read(paths, heldBytes);
  const documents = more === undefined ? texts : chain(texts, more.documents);
  const counts = await writeDocuments(folder, limitDocuments(documents, limits), { signal });
  requireSome(counts.documents, limits, `data.files.glob (${paths.join(", ")})`);
  // The text that was read is the text that the key names.
  await requireUnchanged();
  context.log.info(
    `${counts.documents} documents, ${megabytes(counts.bytes)} of text from ${paths.length} files` +
      (more === undefined ? "" : ` and ${more.packages.length} packages`),
  );
  return {
    source: "files",
    ...counts,
    files: paths,
    ...held !== undefined && { validation: held },
    ...more !== undefined && { packages: more.packages.map((entry) => ({ ...entry })) },
  };
}

async function totalBytes(paths: readonly string[]): Promise<number> {
  const stats = await Promise.all(paths.map((path) => Deno.stat(path)));
  return stats.reduce((sum, { size }) => sum + size, 0);
}

/** Throws when a file is both learned from and held out, whichever names lead to it. */
async function requireApart(paths: readonly string[], heldOut: readonly string[]): Promise<void> {
  const held = new Set(await Promise.all(heldOut.map((path) => Deno.realPath(path))));
  const real = await Promise.all(paths.map((path) => Deno.realPath(path)));
  const both = paths.find((_, index) => held.has(real[index]!));
  if (both === undefined) return;
  throw new Error(
    `${both} is in both data.files.glob and data.files.validation; what is held out must not be learned from`,
  );
}

async function* chain<T>(
  ...sources: readonly (AsyncIterable<T> | Iterable<T>)[]
): AsyncGenerator<T> {
  for (const source of sources) yield* source;
}

function requireSome(documents: number, limits: DocumentLimits, what = "The source"): void {
  if (documents > 0) return;
  throw new Error(
    limits.max_bytes === undefined
      ? `${what} has no document`
      : `${what} has no document, or the first alone is larger than data.max_bytes ${limits.max_bytes}; raise it`,
  );
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
