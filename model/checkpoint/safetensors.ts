/**
 * The safetensors format: a header in JSON, then the bytes of every tensor.
 *
 * Files of gigabytes are read tensor by tensor, or by ranges of one, and written from streams; nothing here holds more
 * than a header and what the caller asked for.
 *
 * @module
 */

import { createHash } from "node:crypto";
import {
  type Dtype,
  elementBytes,
  elements,
  type Header,
  headerLength,
  malformed,
  parseHeader,
  PREFIX,
  type TensorInfo,
} from "./safetensors_header.ts";

export type { Dtype } from "./safetensors_header.ts";

/** An array of any element type. `BOOL` is read as bytes and `BF16` as the 16-bit words that it is stored in. */
type TensorArray =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Float16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>
  | BigInt64Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>;

/** A tensor in memory. */
export interface Tensor {
  /** Type of an element. */
  readonly dtype: Dtype;
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** Elements, row-major. */
  readonly data: TensorArray;
}

/** A tensor to write: its bytes, or something that yields them in order. */
export interface TensorSource {
  /** Name in the file. */
  readonly name: string;
  /** Type of an element. */
  readonly dtype: Dtype;
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** Little-endian bytes, at once or piece by piece; the pieces may be of any size. */
  readonly data: ArrayBufferView | (() => AsyncIterable<Uint8Array> | Iterable<Uint8Array>);
}

/** The array type that holds a dtype. */
function arrayOf(dtype: Dtype, bytes: ArrayBuffer): TensorArray {
  switch (dtype) {
    case "BOOL":
    case "U8":
      return new Uint8Array(bytes);
    case "I8":
      return new Int8Array(bytes);
    case "U16":
    case "BF16":
      return new Uint16Array(bytes);
    case "I16":
      return new Int16Array(bytes);
    case "F16":
      return new Float16Array(bytes);
    case "U32":
      return new Uint32Array(bytes);
    case "I32":
      return new Int32Array(bytes);
    case "F32":
      return new Float32Array(bytes);
    case "U64":
      return new BigUint64Array(bytes);
    case "I64":
      return new BigInt64Array(bytes);
    case "F64":
      return new Float64Array(bytes);
  }
}

/** The tensor's values as float64; 64-bit integers beyond 2⁵³ are rounded. */
export function toFloat64(tensor: Tensor): Float64Array<ArrayBuffer> {
  if (tensor.dtype === "BF16") {
    // bfloat16 is the upper half of a float32.
    const words = Uint32Array.from(tensor.data as Uint16Array, (word) => word << 16);
    return Float64Array.from(new Float32Array(words.buffer));
  }
  return Float64Array.from(tensor.data as ArrayLike<number | bigint>, Number);
}

/**
 * Reads a whole file that is already in memory.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { encodeSafetensors, parseSafetensors } from "./safetensors.ts";
 * const bytes = encodeSafetensors([
 *   { name: "x", dtype: "F32", shape: [2], data: Float32Array.of(1, 2) },
 * ]);
 * assert(parseSafetensors(bytes).tensors.get("x")?.data[1] === 2);
 * ```
 *
 * @param where The name of the file in errors.
 * @throws {SyntaxError} If the file is malformed: what is wrong, and where.
 */
export function parseSafetensors(
  bytes: Uint8Array,
  where = "The buffer",
): { tensors: Map<string, Tensor>; metadata: Readonly<Record<string, string>> } {
  const length = headerLength(bytes, bytes.length, where);
  const json = bytes.subarray(PREFIX, PREFIX + length);
  const header = parseHeader(json, bytes.length, where);
  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, shape, offset, byteLength }] of header.tensors) {
    // A copy, since an offset need not be a multiple of the element's size.
    const data = arrayOf(dtype, bytes.slice(offset, offset + byteLength).buffer as ArrayBuffer);
    tensors.set(name, { dtype, shape, data });
  }
  return { tensors, metadata: header.metadata };
}

/**
 * An open file, of which only the header has been read.
 *
 * @example
 * ```ts ignore
 * import { SafetensorsFile } from "./safetensors.ts";
 * using file = await SafetensorsFile.open("model.safetensors");
 * const embedding = await file.read("embed.weight");
 * ```
 */
export class SafetensorsFile implements Disposable {
  #file: Deno.FsFile;
  #path: string;
  #header: Header;

  private constructor(file: Deno.FsFile, path: string, header: Header) {
    this.#file = file;
    this.#path = path;
    this.#header = header;
  }

  /**
   * Opens a file and checks its header.
   *
   * @throws {SyntaxError} If the file is malformed.
   * @throws {Deno.errors.NotFound} If there is no such file.
   */
  static async open(path: string): Promise<SafetensorsFile> {
    const file = await Deno.open(path, { read: true });
    try {
      const { size } = await file.stat();
      const prefix = await readAt(file, 0, Math.min(PREFIX, size), path);
      const length = headerLength(prefix, size, path);
      const json = await readAt(file, PREFIX, length, path);
      return new SafetensorsFile(file, path, parseHeader(json, size, path));
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Tensors by name, in the order of their bytes. */
  get tensors(): ReadonlyMap<string, TensorInfo> {
    return this.#header.tensors;
  }

  /** The header's `__metadata__`. */
  get metadata(): Readonly<Record<string, string>> {
    return this.#header.metadata;
  }

  /** The header's entry for a tensor. @throws {RangeError} If there is none of that name. */
  info(name: string): TensorInfo {
    const info = this.#header.tensors.get(name);
    if (info === undefined) throw new RangeError(`${this.#path} has no tensor ${name}`);
    return info;
  }

  /** Reads a whole tensor. @throws {RangeError} If there is none of that name. */
  async read(name: string): Promise<Tensor> {
    const { dtype, shape, offset, byteLength } = this.info(name);
    const bytes = await readAt(this.#file, offset, byteLength, this.#path);
    return { dtype, shape, data: arrayOf(dtype, bytes.buffer) };
  }

  /**
   * Reads `byteLength` bytes of a tensor from its byte `offset`.
   *
   * @throws {RangeError} If the tensor does not have those bytes.
   */
  async readBytes(
    name: string,
    range: { offset: number; byteLength: number },
  ): Promise<Uint8Array<ArrayBuffer>> {
    const info = this.info(name);
    const { offset, byteLength } = range;
    if (!(offset >= 0 && byteLength >= 0 && offset + byteLength <= info.byteLength)) {
      throw new RangeError(
        `Bytes ${offset} to ${
          offset + byteLength
        } of ${name} in ${this.#path}: it has ${info.byteLength}`,
      );
    }
    return await readAt(this.#file, info.offset + offset, byteLength, this.#path);
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

async function readAt(
  file: Deno.FsFile,
  offset: number,
  length: number,
  path: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  await file.seek(offset, Deno.SeekMode.Start);
  for (let filled = 0; filled < length;) {
    const count = await file.read(bytes.subarray(filled));
    if (count === null) throw malformed(path, `it ends at byte ${offset + filled}`);
    filled += count;
  }
  return bytes;
}

/** Sources in the order in which they are written, and the bytes before them. */
function layOut(
  sources: readonly TensorSource[],
  metadata: Readonly<Record<string, string>> | undefined,
): { header: Uint8Array; order: TensorSource[] } {
  // Wider elements first, so that every tensor is aligned to its element.
  const order = sources.toSorted((a, b) => elementBytes[b.dtype] - elementBytes[a.dtype]);
  const entries = new Map<string, unknown>();
  if (metadata !== undefined) entries.set("__metadata__", metadata);
  let position = 0;
  for (const { name, dtype, shape, data } of order) {
    if (entries.has(name) || name === "__metadata__") {
      throw new RangeError(`Cannot write two tensors of the name ${JSON.stringify(name)}`);
    }
    const byteLength = elements(shape) * elementBytes[dtype];
    if (!Number.isSafeInteger(byteLength) || shape.some((size) => size < 0)) {
      throw new RangeError(`Tensor ${name} has the impossible shape [${shape.join(", ")}]`);
    }
    if (ArrayBuffer.isView(data) && data.byteLength !== byteLength) {
      throw wrongLength({ name, dtype, shape }, byteLength, data.byteLength);
    }
    entries.set(name, { dtype, shape, data_offsets: [position, position + byteLength] });
    position += byteLength;
  }
  // fromEntries and JSON.stringify would put names that look like numbers first: harmless, since offsets decide.
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const padded = Math.ceil(json.length / PREFIX) * PREFIX;
  const header = new Uint8Array(PREFIX + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, PREFIX);
  return { header, order };
}

function wrongLength(
  { name, dtype, shape }: Pick<TensorSource, "name" | "dtype" | "shape">,
  expected: number,
  got: number,
): RangeError {
  return new RangeError(
    `Tensor ${name}, ${dtype} of shape [${shape.join(", ")}], takes ${expected} bytes, got ${got}`,
  );
}

/** The bytes of a source, checked against its shape. */
async function* pieces(source: TensorSource): AsyncGenerator<Uint8Array> {
  const { data } = source;
  if (typeof data !== "function") {
    yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return;
  }
  const expected = elements(source.shape) * elementBytes[source.dtype];
  let total = 0;
  for await (const piece of data()) {
    total += piece.byteLength;
    if (total > expected) throw wrongLength(source, expected, total);
    yield piece;
  }
  if (total !== expected) throw wrongLength(source, expected, total);
}

/** Options of {@linkcode writeSafetensors}. */
interface WriteOptions {
  /** Goes into the header's `__metadata__`. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** The file that {@linkcode writeSafetensors} wrote: enough to tell later whether it has changed. */
export interface WrittenFile {
  /** Length of the file. */
  readonly bytes: number;
  /** SHA-256 of the file, hexadecimal. */
  readonly sha256: string;
}

/**
 * A whole file in memory, of tensors whose bytes are at hand.
 *
 * @throws {RangeError} If a name repeats, or bytes don't fit a shape.
 */
export function encodeSafetensors(
  tensors: readonly (TensorSource & { readonly data: ArrayBufferView })[],
  options: WriteOptions = {},
): Uint8Array<ArrayBuffer> {
  const { header, order } = layOut(tensors, options.metadata);
  const views = (order as typeof tensors).map(({ data }) =>
    new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  );
  const bytes = new Uint8Array(views.reduce((sum, view) => sum + view.length, header.length));
  bytes.set(header);
  let position = header.length;
  for (const view of views) {
    bytes.set(view, position);
    position += view.length;
  }
  return bytes;
}

/**
 * Writes a file piece by piece and waits until it is on disk. Sources are read one after another, each when its turn
 * comes, so that memory holds one piece at a time. A file that cannot be completed is removed; a caller that replaces a
 * file writes beside it and renames.
 *
 * @throws {RangeError} If a name repeats, or a source yields more or fewer bytes than its shape takes.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  options: WriteOptions = {},
): Promise<WrittenFile> {
  const { header, order } = layOut(tensors, options.metadata);
  const file = await Deno.open(path, { write: true, create: true, truncate: true });
  const hash = createHash("sha256");
  let bytes = 0;
  let whole = false;
  const write = async (piece: Uint8Array) => {
    hash.update(piece);
    bytes += piece.length;
    await writeAll(file, piece);
  };
  try {
    await write(header);
    for (const source of order) {
      for await (const piece of pieces(source)) await write(piece);
    }
    await file.sync();
    whole = true;
    return { bytes, sha256: hash.digest("hex") };
  } finally {
    file.close();
    if (!whole) await Deno.remove(path);
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}
