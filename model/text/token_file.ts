/**
 * A token file as text to train on: a shard of the tokeniser, or bare little-endian numbers as other tools write them.
 *
 * @module
 */

import type { TokenSource } from "./token_source.ts";
import { TokenSplit, tokenWidth } from "./shard.ts";

/** The first bytes of every shard. */
const SHARD_MAGIC = "ETHOSTOK";

/** An open file of tokens. */
interface TokenFile extends TokenSource, Disposable {
  /** Ids of the vocabulary: what a shard says, or what was given. */
  readonly vocab_size: number;
}

interface TokenFileOptions {
  /** Ids of the vocabulary of a bare file; a shard says its own. */
  readonly vocab_size: number;
  /** Bytes a token of a bare file; as shards have it unless given: 2 for at most 65,536 ids, else 4. */
  readonly width?: 2 | 4;
}

/**
 * Opens a token file by what it begins with.
 *
 * @throws {Error} Naming the file, if its length is not a whole number of tokens, or it is a shard that is damaged.
 * @example
 * ```ts
 * import { openTokenFile } from "./token_file.ts";
 * const path = Deno.makeTempFileSync();
 * Deno.writeFileSync(path, new Uint8Array(Uint32Array.of(7, 8, 70000).buffer));
 * using tokens = openTokenFile(path, { vocab_size: 100277 });
 * console.assert(tokens.length === 3 && tokens.read(1, 2)[1] === 70000);
 * Deno.removeSync(path);
 * ```
 */
export function openTokenFile(path: string, options: TokenFileOptions): TokenFile {
  const file = Deno.openSync(path);
  let bare = false;
  try {
    const start = new Uint8Array(SHARD_MAGIC.length);
    const count = file.readSync(start) ?? 0;
    bare = new TextDecoder().decode(start.subarray(0, count)) !== SHARD_MAGIC;
    if (bare) return new BareTokens(file, path, options);
  } finally {
    if (!bare) file.close();
  }
  return TokenSplit.open([path]);
}

/** Tokens and nothing else, read by position. */
class BareTokens implements TokenFile {
  readonly length: number;
  readonly vocab_size: number;
  readonly #file: Deno.FsFile;
  readonly #path: string;
  readonly #width: 2 | 4;

  constructor(file: Deno.FsFile, path: string, options: TokenFileOptions) {
    this.vocab_size = options.vocab_size;
    this.#file = file;
    this.#path = path;
    this.#width = options.width ?? tokenWidth(options.vocab_size);
    const { size } = file.statSync();
    if (size % this.#width !== 0) {
      file.close();
      throw new Error(
        `The token file ${path} has ${size} bytes, which is no multiple of the ${this.#width} that a token takes`,
      );
    }
    this.length = size / this.#width;
  }

  /** @throws {RangeError} If the file has fewer tokens, or one is outside the vocabulary. */
  read(offset: number, count: number): Uint32Array {
    if (offset < 0 || offset + count > this.length) {
      throw new RangeError(
        `Tokens ${offset} to ${
          offset + count
        } of ${this.#path} are asked for, but it has ${this.length}`,
      );
    }
    const bytes = new Uint8Array(count * this.#width);
    this.#file.seekSync(offset * this.#width, Deno.SeekMode.Start);
    for (let filled = 0; filled < bytes.length;) {
      const got = this.#file.readSync(bytes.subarray(filled));
      if (got === null) throw new Error(`The token file ${this.#path} became shorter`);
      filled += got;
    }
    const view = new DataView(bytes.buffer);
    const tokens = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      const token = this.#width === 2 ? view.getUint16(i * 2, true) : view.getUint32(i * 4, true);
      if (token >= this.vocab_size) {
        throw new RangeError(
          `Token ${
            offset + i
          } of ${this.#path} is ${token}, outside the vocabulary of ${this.vocab_size}; ` +
            `is it a file of ${8 * this.#width}-bit numbers?`,
        );
      }
      tokens[i] = token;
    }
    return tokens;
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
