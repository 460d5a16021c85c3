/**
 * Documents within a long row of tokens, in which each ends in the one token that no text has.
 *
 * @module
 */

import type { TokenSource } from "./token_source.ts";

/** Tokens that are read at once. */
const BLOCK = 1 << 16;

/** Tokens of a source in blocks, from its beginning. */
export function* tokenBlocks(source: TokenSource): Generator<Uint32Array> {
  for (let at = 0; at < source.length; at += BLOCK) {
    yield source.read(at, Math.min(BLOCK, source.length - at));
  }
}

/**
 * Heads of the documents of a stream: at most `most` tokens of each, its end among them if it is as short. A document
 * without text is left out, since nothing in it can be predicted.
 *
 * @param blocks Consecutive tokens, cut anywhere.
 */
export async function* documentHeads(
  blocks: AsyncIterable<Uint32Array> | Iterable<Uint32Array>,
  options: { readonly endoftext: number; readonly most: number },
): AsyncGenerator<Uint32Array> {
  const { endoftext, most } = options;
  const head = new Uint32Array(most);
  let length = 0;
  for await (const block of blocks) {
    for (let at = 0; at < block.length;) {
      const found = block.indexOf(endoftext, at);
      const end = found < 0 ? block.length : found + 1;
      const take = Math.min(end - at, most - length);
      head.set(block.subarray(at, at + take), length);
      length += take;
      at = end;
      if (found < 0) continue;
      if (length > 1) yield head.slice(0, length);
      length = 0;
    }
  }
  if (length > 1) yield head.slice(0, length);
}

/**
 * Where the documents of a source are, those without text aside. Takes 12 bytes a document.
 *
 * @example
 * ```ts
 * import { Documents } from "./documents.ts";
 * const all = Uint32Array.of(5, 6, 9, 9, 7, 9);
 * const source = { length: 6, read: (at: number, n: number) => all.slice(at, at + n) };
 * const documents = Documents.scan(source, { endoftext: 9 });
 * console.assert(documents.count === 2 && documents.read(1, 10).join() === "7,9");
 * ```
 */
export class Documents {
  readonly #source: TokenSource;
  readonly #starts: Float64Array;
  readonly #lengths: Uint32Array;

  private constructor(source: TokenSource, starts: Float64Array, lengths: Uint32Array) {
    this.#source = source;
    this.#starts = starts;
    this.#lengths = lengths;
  }

  /** Reads a source once and notes where its documents are. */
  static scan(source: TokenSource, options: { readonly endoftext: number }): Documents {
    let starts = new Float64Array(1024);
    let lengths = new Uint32Array(1024);
    let count = 0;
    const add = (start: number, end: number) => {
      if (end - start < 2) return;
      if (count === starts.length) {
        const [before, widths] = [starts, lengths];
        (starts = new Float64Array(2 * count)).set(before);
        (lengths = new Uint32Array(2 * count)).set(widths);
      }
      starts[count] = start;
      lengths[count++] = end - start;
    };
    let start = 0;
    let position = 0;
    for (const block of tokenBlocks(source)) {
      for (let at; (at = block.indexOf(options.endoftext, at === undefined ? 0 : at + 1)) >= 0;) {
        add(start, position + at + 1);
        start = position + at + 1;
      }
      position += block.length;
    }
    add(start, position);
    return new Documents(source, starts.slice(0, count), lengths.slice(0, count));
  }

  /** Documents with text. */
  get count(): number {
    return this.#lengths.length;
  }

  /** Tokens of a document, its end among them. */
  length(document: number): number {
    return this.#lengths[document] ?? 0;
  }

  /** The first tokens of a document, at most `most`. */
  read(document: number, most: number): Uint32Array {
    return this.#source.read(this.#starts[document]!, Math.min(most, this.length(document)));
  }
}
