/**
 * Files of text: JSON lines or a JSON array (`.jsonl`, `.json`, with or without `.gz`) and plain text (`.txt`, with or
 * without `.gz`), in any encoding that has a byte-order mark or is named; and Parquet.
 *
 * @module
 */

import { glob } from "node:fs/promises";
import { basename, join } from "@std/path";
import { cutText } from "./cut.ts";
import { readBytes, type TextDocument } from "./document.ts";
import { type EncodingOptions, utf8Bytes } from "./encoding.ts";
import { parseJsonFile } from "./json_array.ts";
import { readParquet } from "./parquet.ts";
import { splitText } from "./separator.ts";

const READABLE = /\.(?:(?:jsonl|json|txt)(?:\.gz)?|parquet)$/;
/** The endings that are read, for messages. */
const ENDINGS = ".jsonl, .json or .txt, each with or without .gz, or .parquet";

/** How to find files. */
export interface FindOptions {
  /** Name of the setting that holds the pattern, for messages; `data.files.glob` unless given. */
  readonly setting?: string;
  /** Called with each link that leads to no file and is left out. */
  readonly warn?: ((line: string) => void) | undefined;
}

/**
 * Files that a path or a glob names, sorted. A path that exists is that file, whatever characters its name has; anything
 * else is a pattern. A link to nothing is left out with a warning.
 *
 * @throws {Error} if there are none, or one has an ending that is not read.
 */
export async function findFiles(pattern: string, options: FindOptions = {}): Promise<string[]> {
  const { setting = "data.files.glob" } = options;
  const literal = await kindOf(pattern);
  if (literal === "folder") {
    throw new Error(
      `${setting} "${pattern}" is a folder; expected its files, such as "${
        join(pattern, "*.txt")
      }"`,
    );
  }
  const found = literal === "file" ? [pattern] : await Array.fromAsync(glob(pattern));
  return await readable(found, `${setting} "${pattern}"`, options);
}

/**
 * Files of a folder and of all folders in it, sorted, whatever characters its name has.
 *
 * @throws {Error} as {@linkcode findFiles} does.
 */
export async function findFilesBelow(folder: string, options: FindOptions = {}): Promise<string[]> {
  const { setting = "data.files.glob" } = options;
  const found = await Array.fromAsync(
    glob("**/*", { cwd: folder }),
    (path) => join(folder, path),
  );
  return await readable(found, `the folder of ${setting} "${folder}"`, options);
}

/** A path as a pattern that matches it alone. */
export function escapeGlob(path: string): string {
  return path.replaceAll(/[*?[{(]/g, "[$&]");
}

async function readable(
  found: readonly string[],
  what: string,
  options: FindOptions,
): Promise<string[]> {
  const files: string[] = [];
  let lost: string | undefined;
  for (const path of found) {
    const kind = await kindOf(path);
    if (kind === "file") files.push(path);
    if (kind !== undefined) continue;
    lost ??= path;
    options.warn?.(`${path} is left out: it is a link that leads to no file`);
  }
  if (files.length === 0) {
    const why = lost === undefined ? "" : `; ${lost} is a link that leads to no file`;
    throw new Error(`No file matches ${what}; it is read from ${Deno.cwd()}${why}`);
  }
  requireReadable(files, options.setting ?? "data.files.glob");
  return files.sort();
}

/** Says whether a path leads to a file or a folder; `undefined` where it leads to nothing. */
async function kindOf(path: string): Promise<"file" | "folder" | "other" | undefined> {
  try {
    const { isFile, isDirectory } = await Deno.stat(path);
    return isFile ? "file" : isDirectory ? "folder" : "other";
  } catch (error) {
    const nothing = [
      Deno.errors.NotFound,
      Deno.errors.NotADirectory,
      Deno.errors.FilesystemLoop,
    ];
    if (nothing.some((kind) => error instanceof kind) || isNoName(error)) return undefined;
    throw new Error(`${path} can't be read: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
}

/** Whether the system refused a name as such: a pattern may be longer than any name, or have characters of none. */
function isNoName(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "ENAMETOOLONG" || code === "EINVAL";
}

/** How to read files. */
export interface ReadFilesOptions extends Pick<EncodingOptions, "encoding"> {
  /** Key of the text in JSON, or its column in Parquet; `text` unless given. */
  readonly text_field?: string | undefined;
  /** Text between the documents of plain text; it is cut by its length unless given. */
  readonly separator?: string | undefined;
  /** Names of the settings above, for messages; those of `data.files` unless given. */
  readonly settings?: { readonly encoding: string; readonly separator: string } | undefined;
  /** Called with the bytes read of all files so far. */
  readonly onRead?: ((bytes: number, path: string) => void) | undefined;
}

/** A file by its path, and by another name for messages if it has one. */
export type NamedFile = string | { readonly path: string; readonly name: string };

/** Documents of local files, file by file; plain text is cut into documents of a few kilobytes or at its separator. */
export async function* readFiles(
  files: readonly NamedFile[],
  options: ReadFilesOptions = {},
): AsyncGenerator<TextDocument> {
  const { text_field, onRead } = options;
  let before = 0;
  for (const file of files) {
    const { path, name } = typeof file === "string" ? { path: file, name: file } : file;
    let within = 0;
    const told = (read: number) => onRead?.(before + (within = read), name);
    if (isParquet(name)) {
      yield* readParquet(path, { name, text_field, onRead: told });
    } else {
      yield* parseFile(readBytes(path, { name, onRead: told }), { ...options, name });
    }
    before += within;
  }
}

/**
 * Documents of one file of text or JSON, whose name says what it is.
 *
 * @param chunks Its bytes, unpacked.
 */
export async function* parseFile(
  chunks: AsyncIterable<Uint8Array>,
  options: ReadFilesOptions & { readonly name: string },
): AsyncGenerator<TextDocument> {
  const { name, encoding, separator, text_field, settings } = options;
  const bytes = utf8Bytes(chunks, { name, encoding, setting: settings?.encoding });
  if (!isPlainText(name)) {
    yield* parseJsonFile(bytes, { name, ...(text_field === undefined ? {} : { text_field }) });
    return;
  }
  const url = `file:${basename(name)}`;
  if (separator !== undefined) {
    const split = { name, separator, setting: settings?.separator };
    for await (const text of splitText(bytes, split)) yield { text, url };
    return;
  }
  for await (const block of textBlocks(bytes)) {
    for (const text of cutText(block)) yield { text, url };
  }
}

/** Whether a file is read as a whole, from its end, and not as a stream. */
export function isParquet(name: string): boolean {
  return name.endsWith(".parquet");
}

/** Throws when a name has an ending that is not read. */
export function requireReadable(names: readonly string[], setting: string): void {
  const foreign = names.find((name) => !READABLE.test(name));
  if (foreign !== undefined) throw new Error(`${setting} matches ${foreign}; expected ${ENDINGS}`);
}

/** Throws when a separator is given and no file is plain text, the only kind that it splits. */
export function requireSeparable(
  names: readonly string[],
  separator: string | undefined,
  setting = "data.files.separator",
): void {
  if (separator === undefined || names.some(isPlainText)) return;
  throw new Error(
    `${setting} ${JSON.stringify(separator)} has no effect: it splits .txt and .txt.gz, and ${
      names[0]
    } is neither; remove it`,
  );
}

function isPlainText(name: string): boolean {
  return /\.txt(?:\.gz)?$/.test(name);
}

/** Characters from which on text is cut at its last blank line, and from which on it is cut where there is none. */
const BLOCK = { least: 2 ** 18, most: 2 ** 24 };

/** Text of at least 256 Ki characters, cut at blank lines (or where there are none, at 16 Mi); CRLF becomes LF. */
async function* textBlocks(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let text = "";
  /** A carriage return at the end of a chunk: the next may begin with its line feed. */
  let held = "";
  /** Characters as they were read. */
  let length = 0;
  /** Where blank lines were not looked for yet; one that the text begins with cuts nothing off. */
  let unseen = 1;
  for await (const chunk of chunks) {
    const more = decoder.decode(chunk, { stream: true });
    length += more.length;
    const joined = held + more;
    held = joined.endsWith("\r") ? "\r" : "";
    text += joined.slice(0, joined.length - held.length).replaceAll("\r\n", "\n");
    if (length < BLOCK.least) continue;
    const blank = text.indexOf("\n\n", unseen) < 0 ? 0 : text.lastIndexOf("\n\n");
    unseen = text.length - 1;
    if (blank === 0 && length < BLOCK.most) continue;
    const end = blank === 0 ? text.length : blank;
    yield text.slice(0, end);
    text = text.slice(end);
    length = text.length + held.length;
    unseen = 1;
  }
  yield text + (held + decoder.decode()).replaceAll("\r\n", "\n");
}
