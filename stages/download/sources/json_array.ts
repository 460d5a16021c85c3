/**
 * Documents of a JSON file: one a line, or all in one array.
 *
 * @module
 */

import { message, parseDocuments, recordDocument, type TextDocument } from "./document.ts";

/** An array is parsed at once, so it must fit into one string. */
const MAX_ARRAY_BYTES = 256 * 1024 * 1024;

/** How to read a JSON file. */
export interface JsonOptions {
  /** Name of the file, for messages. */
  readonly name: string;
  /** Key of the text; `text` unless given. */
  readonly text_field?: string;
}

/**
 * Documents of JSON lines or of one JSON array, whichever the first character says.
 *
 * @param chunks UTF-8.
 * @throws {Error} Naming the file and the line or the document that is wrong.
 */
export async function* parseJsonFile(
  chunks: AsyncIterable<Uint8Array>,
  options: JsonOptions,
): AsyncGenerator<TextDocument> {
  const head: Uint8Array[] = [];
  const source = chunks[Symbol.asyncIterator]();
  let first: number | undefined;
  while (first === undefined) {
    const next = await source.next();
    if (next.done) return;
    head.push(next.value);
    first = next.value.find((byte) => byte !== 32 && byte !== 9 && byte !== 10 && byte !== 13);
  }
  async function* all(): AsyncGenerator<Uint8Array> {
    yield* head;
    for (let next = await source.next(); !next.done; next = await source.next()) yield next.value;
  }
  try {
    if (first === "[".charCodeAt(0)) yield* parseArray(all(), options);
    else yield* parseDocuments(all(), options);
  } finally {
    // A reader that has enough closes the file.
    await source.return?.();
  }
}

async function* parseArray(
  chunks: AsyncIterable<Uint8Array>,
  options: JsonOptions,
): AsyncGenerator<TextDocument> {
  const { name } = options;
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > MAX_ARRAY_BYTES) {
      throw new Error(
        `${name} is a JSON array of more than ${
          MAX_ARRAY_BYTES / 2 ** 20
        } MiB; expected one document a line`,
      );
    }
    text += decoder.decode(chunk, { stream: true });
  }
  text += decoder.decode();
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch (error) {
    throw new Error(
      `${name} begins as a JSON array of documents and is not JSON: ${message(error)}`,
    );
  }
  for (const [index, value] of (values as unknown[]).entries()) {
    yield recordDocument(value, { ...options, place: `document ${index + 1} of the array` });
  }
}
