/**
 * Local text: JSON lines (`.jsonl`, `.json`, with or without `.gz`) and plain text (`.txt`, with or without `.gz`).
 *
 * @module
 */

import { glob } from "node:fs/promises";
import { createHash } from "node:crypto";
import { basename } from "@std/path";
import { cutText } from "./cut.ts";
import { parseDocuments, readBytes, type TextDocument } from "./document.ts";

const READABLE = /\.(?:jsonl|json|txt)(?:\.gz)?$/;

/**
 * Files that a glob names, sorted.
 *
 * @param setting What the user calls the glob, for messages.
 * @throws {Error} if there are none, or one has an ending that is not read.
 */
export async function findFiles(
  pattern: string,
  setting = "data.files.glob",
): Promise<string[]> {
  const files: string[] = [];
  for await (const path of glob(pattern)) {
    if ((await Deno.stat(path)).isFile) files.push(path);
  }
  if (files.length === 0) {
    throw new Error(`No file matches ${setting} "${pattern}"; it is read from ${Deno.cwd()}`);
  }
  const foreign = files.find((path) => !READABLE.test(path));
  if (foreign !== undefined) {
    throw new Error(
      `${setting} matches ${foreign}; expected .jsonl, .json or .txt, each with or without .gz`,
    );
  }
  return files.sort();
}

/**
 * Digest of the names, sizes and times of the files that a `data.files` section names: what an experiment puts into
 * `data.files.fingerprint`, so that changed files make a node stale.
 */
export async function filesFingerprint(
  section: { readonly glob: string; readonly validation?: string | undefined },
): Promise<string> {
  const hash = createHash("sha256");
  const add = async (paths: readonly string[]) => {
    for (const path of paths) {
      const { size, mtime } = await Deno.stat(path);
      hash.update(JSON.stringify([path, size, mtime?.getTime() ?? 0]));
    }
  };
  await add(await findFiles(section.glob));
  if (section.validation !== undefined) {
    hash.update("validation");
    await add(await findFiles(section.validation, "data.files.validation"));
  }
  return hash.digest("hex");
}

/**
 * Documents of local files, file by file; plain text is cut into documents of a few kilobytes.
 *
 * @param options `text_field`: the key of the text in JSON lines, `text` if not given; `onRead` is told the bytes
 * read of all files so far.
 */
export async function* readFiles(
  paths: readonly string[],
  options: { text_field?: string; onRead?: (bytes: number, path: string) => void } = {},
): AsyncGenerator<TextDocument> {
  let before = 0;
  for (const path of paths) {
    let within = 0;
    const bytes = readBytes(path, {
      onRead: (read) => options.onRead?.(before + (within = read), path),
    });
    if (/\.txt(?:\.gz)?$/.test(path)) {
      for await (const block of textBlocks(bytes)) {
        for (const text of cutText(block)) yield { text, url: `file:${basename(path)}` };
      }
    } else {
      yield* parseDocuments(bytes, {
        name: path,
        ...(options.text_field === undefined ? {} : { text_field: options.text_field }),
      });
    }
    before += within;
  }
}

/** Text of at least 256 Ki characters, cut at blank lines (or where there are none, at 16 Mi). */
async function* textBlocks(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of chunks) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length < 2 ** 18) continue;
    const blank = text.replaceAll("\r\n", "\n").lastIndexOf("\n\n");
    if (blank < 0 && text.length < 2 ** 24) continue;
    const normal = text.replaceAll("\r\n", "\n");
    const end = blank < 0 ? normal.length : blank;
    yield normal.slice(0, end);
    text = normal.slice(end);
  }
  yield (text + decoder.decode()).replaceAll("\r\n", "\n");
}
