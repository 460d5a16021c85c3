/**
 * Documents as files: `*.jsonl.gz`, one `{text, url?, timestamp?}` a line.
 *
 * @module
 */

import { isUtf8 } from "node:buffer";
import { createReadStream, createWriteStream } from "node:fs";
import { createGunzip, createGzip } from "node:zlib";
import { once } from "node:events";
import { finished } from "node:stream/promises";
import { Readable } from "node:stream";
import { join } from "@std/path";
import { SourceError } from "./error.ts";

/** Folder of the documents that a source holds out, among all that `download` publishes. */
export const HELD_OUT = "validation";

/** One text with where and when it was found, if known. */
export interface TextDocument {
  readonly text: string;
  readonly url?: string;
  readonly timestamp?: string;
}

/** A document and the line of its file that it stands on, from 1. */
export interface LineDocument extends TextDocument {
  readonly line: number;
}

/** How much of a source to take. */
export interface DocumentLimits {
  /** Documents at most. */
  readonly max_documents?: number | undefined;
  /** UTF-8 bytes of text at most; the document that would exceed it is the first left out. */
  readonly max_bytes?: number | undefined;
}

/** Whether a source is taken up to a limit, and not whole. */
export function isLimited({ max_documents, max_bytes }: DocumentLimits): boolean {
  return max_documents !== undefined || max_bytes !== undefined;
}

/** Counts of the text written. */
export interface DocumentCounts {
  readonly documents: number;
  /** UTF-8 bytes of text. */
  readonly bytes: number;
}

/** Text of one file, in UTF-8 bytes, before the next is begun. */
const FILE_BYTES = 64 * 1024 * 1024;
/** Keys of a line that a message names, and characters of each. */
const NAMED_KEYS = 10;
const NAMED_CHARACTERS = 40;
/** A line longer than this is no document. */
const MAX_LINE_BYTES = 256 * 1024 * 1024;

const encoder = new TextEncoder();

/** UTF-8 bytes of a text. */
function utf8Length(text: string): number {
  return encoder.encode(text).length;
}

/** Passes documents on until a limit is reached; `onTake` sees the size of each, in UTF-8 bytes. */
export async function* limitDocuments(
  documents: AsyncIterable<TextDocument> | Iterable<TextDocument>,
  limits: DocumentLimits,
): AsyncGenerator<TextDocument & { bytes: number }> {
  let count = 0;
  let total = 0;
  if (limits.max_documents === 0) return;
  for await (const document of documents) {
    const bytes = utf8Length(document.text);
    if (total + bytes > (limits.max_bytes ?? Infinity)) return;
    total += bytes;
    count++;
    yield { ...document, bytes };
    if (count >= (limits.max_documents ?? Infinity)) return;
  }
}

/**
 * Writes documents to `folder` as `00000.jsonl.gz`, `00001.jsonl.gz`, …
 *
 * @returns Documents and bytes that were written.
 */
export async function writeDocuments(
  folder: string,
  documents: AsyncIterable<TextDocument & { bytes: number }>,
  options: { signal?: AbortSignal; onDocument?: (counts: DocumentCounts) => void } = {},
): Promise<DocumentCounts> {
  let file: GzipFile | undefined;
  let files = 0;
  const counts = { documents: 0, bytes: 0 };
  try {
    for await (const { text, url, timestamp, bytes } of documents) {
      options.signal?.throwIfAborted();
      file ??= new GzipFile(join(folder, `${String(files++).padStart(5, "0")}.jsonl.gz`));
      await file.write(JSON.stringify({ text, url, timestamp }) + "\n", bytes);
      counts.documents++;
      counts.bytes += bytes;
      options.onDocument?.(counts);
      if (file.bytes >= FILE_BYTES) {
        await file.close();
        file = undefined;
      }
    }
  } finally {
    await file?.close();
  }
  return counts;
}

/** A gzip file written as a stream. */
class GzipFile {
  /** Bytes of text so far. */
  bytes = 0;
  readonly #gzip = createGzip();
  readonly #done: Promise<void>;

  constructor(path: string) {
    const target = createWriteStream(path);
    target.on("error", (error) => this.#gzip.destroy(error));
    this.#gzip.pipe(target);
    this.#done = finished(target);
    // Told by `close`; a rejection in between must not end the process.
    this.#done.catch(() => {});
  }

  async write(line: string, bytes: number): Promise<void> {
    this.bytes += bytes;
    if (!this.#gzip.write(line)) await Promise.race([once(this.#gzip, "drain"), this.#done]);
  }

  async close(): Promise<void> {
    this.#gzip.end();
    await this.#done;
  }
}

/**
 * Bytes of a file, unpacked if its name ends in `.gz`.
 *
 * @param options `name`: stands for the path in messages and tells whether the file is packed; `onRead` is told the
 * bytes of the file, as packed, that were read so far.
 * @throws {Error} naming the file, if it can't be read or its gzip stream is damaged or cut off.
 */
export async function* readBytes(
  path: string,
  options: { name?: string; onRead?: (bytes: number) => void } = {},
): AsyncGenerator<Uint8Array> {
  const name = options.name ?? path;
  const source = createReadStream(path, { highWaterMark: 256 * 1024 });
  let read = 0;
  source.on("data", (chunk) => options.onRead?.(read += chunk.length));
  let stream: Readable = source;
  if (name.endsWith(".gz")) {
    const gunzip = createGunzip({ chunkSize: 256 * 1024 });
    source.on("error", (error) => gunzip.destroy(error));
    stream = source.pipe(gunzip);
  }
  try {
    for await (const chunk of stream) yield chunk;
  } catch (error) {
    throw new Error(`${name} can't be read to its end: ${message(error)}`, { cause: error });
  } finally {
    stream.destroy();
    source.destroy();
  }
}

/**
 * Unpacks a gzip stream.
 *
 * @throws {Error} with `name`, if the stream is damaged or cut off; errors of `chunks` pass unchanged.
 */
export async function* gunzipBytes(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
): AsyncGenerator<Uint8Array> {
  let failure: { error: unknown } | undefined;
  const source = Readable.from(chunks);
  const gunzip = createGunzip({ chunkSize: 256 * 1024 });
  source.on("error", (error) => {
    failure = { error };
    gunzip.destroy(error);
  });
  try {
    for await (const chunk of source.pipe(gunzip)) yield chunk;
  } catch (error) {
    if (failure) throw failure.error;
    throw new SourceError(`${name} can't be unpacked: ${message(error)}`, { cause: error });
  } finally {
    gunzip.destroy();
    source.destroy();
  }
}

/** Whole lines, at least `size` bytes of them (but for the last), and the number of the first. */
export interface LineBatch {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Number of the first line, from 1. */
  readonly line: number;
}

/**
 * Cuts a stream of bytes after whole lines, without looking into them.
 *
 * @param options `size`: bytes from which on a batch is passed on; `name`: for messages.
 */
export async function* lineBatches(
  chunks: AsyncIterable<Uint8Array>,
  options: { size: number; name: string },
): AsyncGenerator<LineBatch> {
  const newline = 10;
  let parts: Uint8Array[] = [];
  let length = 0;
  let line = 1;
  const take = (): LineBatch => {
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    const batch = { bytes, line };
    for (let i = bytes.indexOf(newline); i >= 0; i = bytes.indexOf(newline, i + 1)) line++;
    parts = [];
    length = 0;
    return batch;
  };
  for await (const chunk of chunks) {
    const end = length + chunk.length >= options.size ? chunk.lastIndexOf(newline) + 1 : 0;
    if (end > 0) {
      parts.push(chunk.subarray(0, end));
      length += end;
      yield take();
    }
    if (end < chunk.length) {
      // A copy: streams may use their chunks again.
      parts.push(chunk.slice(end));
      length += chunk.length - end;
    }
    if (length > MAX_LINE_BYTES + options.size) {
      throw new Error(
        `${options.name}: line ${line} is longer than ${
          MAX_LINE_BYTES / 2 ** 20
        } MiB; documents are one a line`,
      );
    }
  }
  if (length > 0) yield take();
}

/**
 * Documents of JSON lines.
 *
 * A line may end in CRLF, and a file may begin with a byte-order mark. Bytes that are no UTF-8 are refused.
 *
 * @param options `text_field`: key of the text; `name`: for messages.
 * @throws {Error} naming file and line, if a line is no JSON object or has no text.
 */
export async function* parseDocuments(
  chunks: AsyncIterable<Uint8Array>,
  options: { name: string; text_field?: string },
): AsyncGenerator<LineDocument> {
  for await (const batch of lineBatches(chunks, { size: 256 * 1024, name: options.name })) {
    yield* parseLines(batch, options);
  }
}

/** Documents of a batch of lines; see {@linkcode parseDocuments}. */
export function* parseLines(
  batch: LineBatch,
  options: { name: string; text_field?: string },
): Generator<LineDocument> {
  if (!isUtf8(batch.bytes)) throw notUtf8(batch, options.name);
  let line = batch.line - 1;
  // A mark within the file is an error, wherever its line lies in a batch.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: batch.line > 1 });
  for (const json of decoder.decode(batch.bytes).split("\n")) {
    line++;
    if (json.trim() === "") continue;
    let value: unknown;
    try {
      value = JSON.parse(json);
    } catch (error) {
      const several = json.trim() === "{"
        ? "; expected one document a line, or an array of them"
        : "";
      throw new Error(`${options.name}: line ${line} is not JSON: ${message(error)}${several}`);
    }
    yield { line, ...recordDocument(value, { ...options, place: `line ${line}` }) };
  }
}

/** Names the first line that is not UTF-8. */
function notUtf8({ bytes, line }: LineBatch, name: string): Error {
  let start = 0;
  for (;; line++) {
    const end = bytes.indexOf(10, start);
    if (end < 0 || !isUtf8(bytes.subarray(start, end))) {
      return new Error(`${name}: line ${line} is not UTF-8`);
    }
    start = end + 1;
  }
}

/**
 * The document that a JSON value is.
 *
 * @param options `text_field`: key of the text; `name` and `place`: the file and the place in it, for messages.
 * @throws {Error} If the value is no object or has no text.
 */
export function recordDocument(
  value: unknown,
  options: { name: string; place: string; text_field?: string },
): TextDocument {
  const field = options.text_field ?? "text";
  const record = typeof value === "object" && value !== null
    ? value as Record<string, unknown>
    : {};
  const text = record[field];
  if (typeof text !== "string") {
    throw new Error(
      `${options.name}: ${options.place} has no string "${field}"; its keys are ${
        Object.keys(record).slice(0, NAMED_KEYS).map(shorten).join(", ") || "none"
      }`,
    );
  }
  return {
    // Lone surrogates have no UTF-8; the text written must be the text hashed and counted.
    text: text.toWellFormed(),
    ...(typeof record.url === "string" ? { url: record.url } : {}),
    ...(typeof record.timestamp === "string" ? { timestamp: record.timestamp } : {}),
  };
}

function shorten(key: string): string {
  const shown = printable(key.slice(0, NAMED_CHARACTERS));
  return key.length > NAMED_CHARACTERS ? `${shown}…` : shown;
}

/** The message of an error, in one line that a terminal shows as it is. */
export function message(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return printable(text.replaceAll(/\s*\n\s*/g, " "));
}

/** Spells out characters that have no shape: controls, line separators, halves of pairs. */
function printable(text: string): string {
  return text.replaceAll(
    /[\p{C}\u2028\u2029]/gu,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}
