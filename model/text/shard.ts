/**
 * Token shards: what the tokeniser writes and training reads.
 *
 * A shard is a 64-byte header and the tokens of whole documents, each ended by `<|endoftext|>`, little-endian:
 *
 * | offset | type | what |
 * | --- | --- | --- |
 * | 0 | 8 bytes | `ETHOSTOK` |
 * | 8 | u32 | version, 1 |
 * | 12 | u32 | bytes a token: 2 when the vocabulary has at most 65,536 ids, else 4 |
 * | 16 | u64 | tokens |
 * | 24 | u32 | vocabulary size |
 * | 28 | u32 | 0 |
 * | 32 | 32 bytes | SHA-256 of `vocabulary.json` |
 * | 64 | u16 or u32 … | tokens |
 *
 * Files are read by position: a split of any size costs no more memory than what is asked for.
 *
 * @module
 */

const MAGIC = "ETHOSTOK";
const VERSION = 1;
/** Bytes before the first token. */
export const HEADER_BYTES = 64;
/** Tokens that a writer keeps before it writes. */
const BUFFER_TOKENS = 1 << 16;

/** A shard's header. */
interface ShardHeader {
  /** Bytes a token. */
  readonly width: 2 | 4;
  /** Tokens in the shard. */
  readonly tokens: number;
  /** Ids of the vocabulary. */
  readonly vocab_size: number;
  /** SHA-256 of the vocabulary, 32 bytes. */
  readonly digest: Uint8Array;
}

/** Bytes a token for a vocabulary of `vocab_size` ids. */
export function tokenWidth(vocab_size: number): 2 | 4 {
  return vocab_size <= 65536 ? 2 : 4;
}

/** Writes one shard. Nothing that is not closed can be read: the header is written last. */
export class ShardWriter implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #header: { width: 2 | 4; vocab_size: number; digest: Uint8Array };
  readonly #buffer: DataView<ArrayBuffer>;
  #buffered = 0;
  #tokens = 0;
  #open = true;

  /**
   * Creates the file; {@linkcode close} finishes it.
   *
   * @param path File to create.
   * @param options The vocabulary's size and its digest ({@linkcode vocabularyDigest}).
   */
  constructor(path: string, options: { vocab_size: number; digest: Uint8Array }) {
    const width = tokenWidth(options.vocab_size);
    this.#header = { width, vocab_size: options.vocab_size, digest: options.digest };
    this.#buffer = new DataView(new ArrayBuffer(BUFFER_TOKENS * width));
    this.#file = Deno.openSync(path, { write: true, create: true, truncate: true });
    writeAll(this.#file, new Uint8Array(HEADER_BYTES));
  }

  /** Tokens written so far. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Appends tokens. */
  write(ids: Uint32Array): void {
    const { width, vocab_size } = this.#header;
    for (const id of ids) {
      if (id >= vocab_size) {
        throw new RangeError(`Token ${id} is outside the vocabulary of ${vocab_size}`);
      }
      if (width === 2) this.#buffer.setUint16(this.#buffered * 2, id, true);
      else this.#buffer.setUint32(this.#buffered * 4, id, true);
      if (++this.#buffered === BUFFER_TOKENS) this.#flush();
    }
    this.#tokens += ids.length;
  }

  /** Writes what is buffered and the header, and waits until the disk has it. */
  close(): void {
    if (!this.#open) return;
    this.#flush();
    this.#file.seekSync(0, Deno.SeekMode.Start);
    writeAll(this.#file, encodeHeader({ ...this.#header, tokens: this.#tokens }));
    this.#file.syncSync();
    this.#open = false;
    this.#file.close();
  }

  /** Lets go of a shard that is not finished; it stays unreadable. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#file.close();
  }

  #flush(): void {
    writeAll(
      this.#file,
      new Uint8Array(this.#buffer.buffer, 0, this.#buffered * this.#header.width),
    );
    this.#buffered = 0;
  }
}

/** Reads one shard by position. */
export class ShardReader implements Disposable {
  /** Path that it was opened by. */
  readonly path: string;
  /** Its header. */
  readonly header: ShardHeader;
  readonly #file: Deno.FsFile;

  /**
   * Opens a shard and checks its header against its size.
   *
   * @throws {Error} naming the file, if it is no shard or is truncated.
   */
  constructor(path: string) {
    this.path = path;
    this.#file = Deno.openSync(path);
    try {
      this.header = readHeader(this.#file, path);
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  /** Tokens in the shard. */
  get length(): number {
    return this.header.tokens;
  }

  /**
   * Reads tokens into `target`, from token `offset` on, as many as it holds.
   *
   * @throws {RangeError} if the shard has fewer.
   */
  readInto(offset: number, target: Uint32Array): void {
    const { width, tokens } = this.header;
    if (offset < 0 || offset + target.length > tokens) {
      throw new RangeError(
        `Tokens ${offset} to ${
          offset + target.length
        } of ${this.path} are asked for, but it has ${tokens}`,
      );
    }
    const bytes = new Uint8Array(target.length * width);
    this.#file.seekSync(HEADER_BYTES + offset * width, Deno.SeekMode.Start);
    if (readFully(this.#file, bytes) < bytes.length) {
      throw new Error(`The token shard ${this.path} became shorter while it was read`);
    }
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < target.length; i++) {
      target[i] = width === 2 ? view.getUint16(i * 2, true) : view.getUint32(i * 4, true);
    }
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/**
 * The shards of a split as one sequence of tokens.
 *
 * @example
 * ```ts
 * import { ShardWriter, TokenSplit } from "./shard.ts";
 * const path = Deno.makeTempFileSync({ suffix: ".tokens" });
 * const writer = new ShardWriter(path, { vocab_size: 300, digest: new Uint8Array(32) });
 * writer.write(Uint32Array.of(1, 2, 299));
 * writer.close();
 * using split = TokenSplit.open([path]);
 * console.assert(split.length === 3 && split.read(1, 2)[1] === 299);
 * Deno.removeSync(path);
 * ```
 */
export class TokenSplit implements Disposable {
  /** Ids of the vocabulary. */
  readonly vocab_size: number;
  /** SHA-256 of the vocabulary. */
  readonly digest: Uint8Array;
  /** Tokens of all shards. */
  readonly length: number;
  readonly #shards: readonly ShardReader[];
  /** First token of each shard. */
  readonly #starts: readonly number[];

  private constructor(shards: readonly ShardReader[]) {
    const [first] = shards;
    if (!first) throw new Error("A split needs at least one token shard, and none is given");
    this.vocab_size = first.header.vocab_size;
    this.digest = first.header.digest;
    const starts: number[] = [];
    let length = 0;
    for (const shard of shards) {
      if (toHex(shard.header.digest) !== toHex(this.digest)) {
        throw new Error(
          `The token shards ${first.path} and ${shard.path} have different vocabularies; tokenise them together`,
        );
      }
      starts.push(length);
      length += shard.length;
    }
    this.#shards = shards;
    this.#starts = starts;
    this.length = length;
  }

  /**
   * Opens the shards of a split, in order.
   *
   * @param files Paths of `*.tokens` files.
   * @param options `digest`: the vocabulary that they must have.
   * @throws {Error} naming the file that is no shard, is truncated, or has another vocabulary.
   */
  static open(files: readonly string[], options: { digest?: Uint8Array } = {}): TokenSplit {
    const shards: ShardReader[] = [];
    try {
      for (const file of files) shards.push(new ShardReader(file));
      const split = new TokenSplit(shards);
      if (options.digest && toHex(options.digest) !== toHex(split.digest)) {
        throw new Error(
          `The token shard ${files[0]} was written with another vocabulary: ${
            toHex(split.digest).slice(0, 12)
          }, expected ${toHex(options.digest).slice(0, 12)}`,
        );
      }
      return split;
    } catch (error) {
      for (const shard of shards) shard[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Reads `count` tokens from token `offset` on, across shards.
   *
   * @throws {RangeError} if the split has fewer.
   */
  read(offset: number, count: number): Uint32Array {
    if (
      !Number.isInteger(offset) || !Number.isInteger(count) || offset < 0 || count < 0 ||
      offset + count > this.length
    ) {
      throw new RangeError(
        `Tokens ${offset} to ${offset + count} are asked for, but the split has ${this.length}`,
      );
    }
    const ids = new Uint32Array(count);
    let shard = this.#locate(offset);
    for (let done = 0; done < count; shard++) {
      const within = offset + done - this.#starts[shard]!;
      const take = Math.min(count - done, this.#shards[shard]!.length - within);
      this.#shards[shard]!.readInto(within, ids.subarray(done, done + take));
      done += take;
    }
    return ids;
  }

  /** Closes the files. */
  [Symbol.dispose](): void {
    for (const shard of this.#shards) shard[Symbol.dispose]();
  }

  /** Index of the last shard that starts at or before `offset`. */
  #locate(offset: number): number {
    let low = 0;
    let high = this.#starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#starts[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

function encodeHeader(header: ShardHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(MAGIC));
  view.setUint32(8, VERSION, true);
  view.setUint32(12, header.width, true);
  view.setBigUint64(16, BigInt(header.tokens), true);
  view.setUint32(24, header.vocab_size, true);
  bytes.set(header.digest, 32);
  return bytes;
}

function readHeader(file: Deno.FsFile, path: string): ShardHeader {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  const { size } = file.statSync();
  const magic = readFully(file, bytes) === HEADER_BYTES
    ? new TextDecoder("latin1").decode(bytes.subarray(0, 8))
    : "";
  if (magic !== MAGIC) {
    throw new Error(`${path} is not a finished token shard: it does not begin with ${MAGIC}`);
  }
  const version = view.getUint32(8, true);
  if (version !== VERSION) {
    throw new Error(`${path} is a token shard of version ${version}; expected ${VERSION}`);
  }
  const width = view.getUint32(12, true);
  const vocab_size = view.getUint32(24, true);
  if ((width !== 2 && width !== 4) || width !== tokenWidth(vocab_size)) {
    throw new Error(
      `${path} has a damaged header: ${width} bytes a token do not go with a vocabulary of ${vocab_size}`,
    );
  }
  const tokens = Number(view.getBigUint64(16, true));
  const expected = HEADER_BYTES + tokens * width;
  if (size !== expected) {
    throw new Error(
      `${path} is ${
        size < expected ? "truncated" : "longer than it should be"
      }: ${size} bytes, expected ${expected} for ${tokens} tokens`,
    );
  }
  return { width, tokens, vocab_size, digest: bytes.slice(32, 64) };
}

function readFully(file: Deno.FsFile, bytes: Uint8Array): number {
  let done = 0;
  while (done < bytes.length) {
    const read = file.readSync(bytes.subarray(done));
    if (read === null) break;
    done += read;
  }
  return done;
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
