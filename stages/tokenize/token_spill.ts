/**
 * Tokens that wait on disk until the vocabulary is known.
 *
 * @module
 */

import { closeSync, openSync, readSync, rmSync, writeSync } from "node:fs";

/** Words that are written and read at once. */
const BLOCK = 1 << 18;

/** One document of a spill. */
export interface SpilledDocument {
  readonly tokens: Uint32Array;
  readonly bytes: number;
  readonly tag: number;
}

/** A temporary file of documents: `tag`, bytes, number of tokens and the tokens, in the machine's byte order. */
export class Spill implements Disposable {
  readonly #path: string;
  readonly #file: number;
  readonly #buffer = new Uint32Array(BLOCK);
  #buffered = 0;

  /** @param path File to create; it replaces an earlier run's. */
  constructor(path: string) {
    this.#path = path;
    this.#file = openSync(path, "w+");
  }

  /** Adds a document. */
  write(tokens: Uint32Array, bytes: number, tag: number): void {
    this.#append(Uint32Array.of(tag, bytes, tokens.length));
    this.#append(tokens);
  }

  /** Documents in the order in which they were written. */
  *read(): Generator<SpilledDocument> {
    this.#flush();
    let position = 0;
    const next = (words: number): Uint32Array => {
      const bytes = new Uint8Array(words * 4);
      for (let done = 0; done < bytes.length;) {
        const read = readSync(this.#file, bytes, done, bytes.length - done, position);
        if (read === 0) throw new Error(`${this.#path} became shorter while it was read`);
        done += read;
        position += read;
      }
      return new Uint32Array(bytes.buffer);
    };
    // Blocks of documents, so that a short document does not cost two reads.
    let block: Uint32Array = new Uint32Array();
    let at = 0;
    let left = this.#words;
    const take = (words: number): Uint32Array => {
      if (at + words > block.length) {
        const rest = block.subarray(at);
        const fresh = next(Math.min(left, Math.max(BLOCK, words - rest.length)));
        left -= fresh.length;
        block = new Uint32Array(rest.length + fresh.length);
        block.set(rest);
        block.set(fresh, rest.length);
        at = 0;
      }
      return block.subarray(at, at += words);
    };
    while (left > 0 || at < block.length) {
      const [tag, bytes, length] = take(3);
      yield { tag: tag!, bytes: bytes!, tokens: take(length!) };
    }
  }

  /** Closes and removes the file. */
  [Symbol.dispose](): void {
    closeSync(this.#file);
    rmSync(this.#path, { force: true });
  }

  #words = 0;

  #append(words: Uint32Array): void {
    for (let done = 0; done < words.length;) {
      const take = Math.min(words.length - done, BLOCK - this.#buffered);
      this.#buffer.set(words.subarray(done, done + take), this.#buffered);
      this.#buffered += take;
      done += take;
      if (this.#buffered === BLOCK) this.#flush();
    }
    this.#words += words.length;
  }

  #flush(): void {
    const bytes = new Uint8Array(this.#buffer.buffer, 0, this.#buffered * 4);
    for (let done = 0; done < bytes.length;) {
      done += writeSync(this.#file, bytes, done, bytes.length - done);
    }
    this.#buffered = 0;
  }
}
