/**
 * Text in any encoding becomes UTF-8; bytes that are no text are refused with their place.
 *
 * A byte-order mark decides the encoding. A file without one is in the encoding that the caller names, UTF-8 unless
 * named. Nothing is ever replaced by U+FFFD: that character would be learned.
 *
 * @module
 */

import { isUtf8 } from "node:buffer";

/** The encoding of a file without a mark whose encoding nobody names. */
const ENCODING_DEFAULT = "utf-8";

/** How to read a file's bytes as text. */
export interface EncodingOptions {
  /** Name of the file, for messages. */
  readonly name: string;
  /** Encoding of a file without a byte-order mark; UTF-8 unless given. */
  readonly encoding?: string | undefined;
  /** Name of the setting that names an encoding, for messages. */
  readonly setting?: string | undefined;
}

/** Byte-order marks, longer ones first: that of UTF-32 begins with that of UTF-16. */
const MARKS: readonly (readonly [encoding: string, bytes: readonly number[]])[] = [
  ["utf-32le", [0xff, 0xfe, 0, 0]],
  ["utf-32be", [0, 0, 0xfe, 0xff]],
  ["utf-8", [0xef, 0xbb, 0xbf]],
  ["utf-16le", [0xff, 0xfe]],
  ["utf-16be", [0xfe, 0xff]],
];
/** A text of several bytes a character that has no line end in so many bytes is refused. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const SINGLE_BYTE = /^(?:ibm866|iso-8859-|koi8-|macintosh|windows-|x-mac-cyrillic|x-user-defined)/;

/**
 * The encoding's one name: `UTF8` is `utf-8`, and `latin1` is `windows-1252`, as the Encoding Standard has it.
 *
 * @returns `undefined` for a name that stands for no encoding.
 */
export function encodingName(label: string): string | undefined {
  const lower = label.trim().toLowerCase();
  if (lower === "utf-32le" || lower === "utf-32be") return lower;
  try {
    return new TextDecoder(label).encoding;
  } catch {
    return undefined;
  }
}

/**
 * Bytes of a text as UTF-8, without its byte-order mark.
 *
 * @throws {Error} Naming the file and the offset (from 0) of the first byte that is no text in its encoding, or is NUL.
 */
export async function* utf8Bytes(
  chunks: AsyncIterable<Uint8Array>,
  options: EncodingOptions,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let reader: BlockReader | undefined;
  let rest: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  for await (const chunk of chunks) {
    rest = joined(rest, chunk);
    if (reader === undefined) {
      if (rest.length < 4) continue;
      reader = new BlockReader(rest, options);
      rest = rest.subarray(reader.offset);
    }
    const end = reader.boundary(rest);
    if (end === 0) continue;
    yield reader.read(rest.subarray(0, end));
    rest = rest.slice(end);
  }
  if (reader === undefined) {
    reader = new BlockReader(rest, options);
    rest = rest.subarray(reader.offset);
  }
  if (rest.length > 0) yield reader.read(rest);
}

/** Reads blocks of whole characters in one encoding. */
class BlockReader {
  /** Bytes before the next block, the mark included. */
  offset: number;
  readonly #encoding: string;
  readonly #marked: boolean;
  readonly #options: EncodingOptions;

  /** @param head The file's first four bytes or more, unless it has fewer. */
  constructor(head: Uint8Array, options: EncodingOptions) {
    const mark = MARKS.find(([, bytes]) => bytes.every((byte, i) => head[i] === byte));
    const label = options.encoding ?? ENCODING_DEFAULT;
    const named = encodingName(label);
    if (named === undefined) throw new Error(`${label} is not an encoding`);
    this.#options = options;
    this.#marked = mark !== undefined;
    this.#encoding = mark?.[0] ?? named;
    this.offset = mark?.[1].length ?? 0;
  }

  /** Where `bytes` can be cut so that a block has whole characters only; 0 where more bytes are needed. */
  boundary(bytes: Uint8Array): number {
    const { length } = bytes;
    const encoding = this.#encoding;
    if (encoding === "utf-8") return utf8Boundary(bytes);
    if (encoding.startsWith("utf-32")) return length - length % 4;
    if (encoding.startsWith("utf-16")) {
      const end = length - length % 2;
      const high = bytes[end - (encoding === "utf-16le" ? 1 : 2)] ?? 0;
      return high >= 0xd8 && high <= 0xdb ? end - 2 : end;
    }
    if (SINGLE_BYTE.test(encoding)) return length;
    // No encoding of several bytes a character has a line end within one.
    const end = bytes.lastIndexOf(10) + 1;
    if (end === 0 && length > MAX_LINE_BYTES) {
      throw new Error(
        `${this.#options.name}: from byte offset ${this.offset} on, ${length} bytes have no line end; expected lines in ${encoding}`,
      );
    }
    return end;
  }

  /** A block as UTF-8. */
  read(block: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const encoding = this.#encoding;
    let bytes = block;
    if (encoding === "utf-8") {
      const nul = block.indexOf(0);
      if (!isUtf8(nul < 0 ? block : block.subarray(0, nul))) throw this.#invalid(block);
    } else {
      const text = decodeWhole(block, encoding);
      if (text === undefined) throw this.#invalid(block);
      bytes = new TextEncoder().encode(text);
    }
    if (bytes.includes(0)) throw this.#nul(block);
    this.offset += block.length;
    return bytes;
  }

  /** Describes the first bytes that are no character. */
  #invalid(block: Uint8Array<ArrayBuffer>): Error {
    const at = invalidOffset(block, this.#encoding);
    return this.#refusal(at, `is not ${this.#encoding}`, block[at]!);
  }

  /** Describes a NUL, which no text has, and which UTF-16 without a mark has all over. */
  #nul(block: Uint8Array<ArrayBuffer>): Error {
    const width = /^utf-(16|32)/.exec(this.#encoding)?.[1];
    const unit = width === undefined ? 1 : Number(width) / 8;
    let at = 0;
    while (block.subarray(at, at + unit).some((byte) => byte !== 0)) at += unit;
    return this.#refusal(at, "is NUL, which text does not have", 0);
  }

  #refusal(at: number, what: string, byte: number): Error {
    const { name, setting = "data.files.encoding" } = this.#options;
    const hex = `0x${byte.toString(16).toUpperCase().padStart(2, "0")}`;
    const gzip = this.offset + at <= 2 && byte === 0x8b;
    const advice = gzip
      ? "it looks packed by gzip, and such a name ends in .gz"
      : this.#marked
      ? "its first bytes are the mark of that encoding"
      : `expected text; ${setting} names another encoding, such as latin1 or utf-16le`;
    return new Error(`${name}: the byte at offset ${this.offset + at} (${hex}) ${what}; ${advice}`);
  }
}

/** End of the last whole UTF-8 character, going by its first byte. */
function utf8Boundary(bytes: Uint8Array): number {
  const { length } = bytes;
  for (let back = 1; back <= Math.min(3, length); back++) {
    const byte = bytes[length - back]!;
    if (byte < 0x80) break;
    if (byte < 0xc0) continue;
    const wanted = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return wanted > back ? length - back : length;
  }
  return length;
}

/** Text of whole characters; `undefined` if some byte is of none. */
function decodeWhole(bytes: Uint8Array<ArrayBuffer>, encoding: string): string | undefined {
  if (encoding.startsWith("utf-32")) return decodeUtf32(bytes, encoding === "utf-32le").text;
  return decode(bytes, encoding, { stream: false });
}

function decode(
  bytes: Uint8Array<ArrayBuffer>,
  encoding: string,
  options: { stream: boolean },
): string | undefined {
  try {
    return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(bytes, options);
  } catch {
    return undefined;
  }
}

/** Decodes UTF-32, which `TextDecoder` does not know; `valid` counts the bytes before the first that are wrong. */
function decodeUtf32(
  bytes: Uint8Array,
  littleEndian: boolean,
): { text?: string; valid: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; at += 4) {
    const point = at + 4 <= bytes.length ? view.getUint32(at, littleEndian) : Infinity;
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return { valid: at };
    parts.push(String.fromCodePoint(point));
  }
  return { text: parts.join(""), valid: bytes.length };
}

/** Offset of the first byte that begins no character of `encoding`, in a block that begins with a whole one. */
function invalidOffset(bytes: Uint8Array<ArrayBuffer>, encoding: string): number {
  if (encoding.startsWith("utf-32")) return decodeUtf32(bytes, encoding === "utf-32le").valid;
  // The longest prefix that may still go on to be text, found by halving.
  let [good, bad] = [0, bytes.length + 1];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    const begins = decode(bytes.subarray(0, middle), encoding, { stream: true }) !== undefined;
    if (begins) good = middle;
    else bad = middle;
  }
  // It may end within a character.
  while (decode(bytes.subarray(0, good), encoding, { stream: false }) === undefined) good--;
  return Math.min(good, bytes.length - 1);
}

function joined(first: Uint8Array<ArrayBuffer>, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}
