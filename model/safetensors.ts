/**
 * The safetensors format: a header in JSON, then the bytes of every tensor.
 *
 * Files of gigabytes are read tensor by tensor, or by ranges of one, and written from streams; nothing here holds more
 * than a header and what the caller asked for.
 *
 * @module
 */

/** Element types, by the name that the header gives them. */
export type Dtype = keyof typeof elementBytes;

const elementBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const;

/** An array of any element type. `BOOL` is read as bytes and `BF16` as the 16-bit words that it is stored in. */
export type TensorArray =
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

/** What the header says of one tensor. */
export interface TensorInfo {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** A header, checked. */
export interface Header {
  /** Tensors by name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A tensor in memory. */
export interface Tensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: TensorArray;
}

/** A tensor to write: its bytes, or something that yields them in order. */
export interface TensorSource {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Little-endian bytes, at once or piece by piece; the pieces may be of any size. */
  readonly data: ArrayBufferView | (() => AsyncIterable<Uint8Array> | Iterable<Uint8Array>);
}

/** What other readers accept, and far more than any model needs. */
const MAX_HEADER = 100_000_000;
const PREFIX = 8;

function isDtype(value: unknown): value is Dtype {
  return typeof value === "string" && Object.hasOwn(elementBytes, value);
}

/** Number of elements of a shape. */
function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
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

/** The keys of a JSON object's outermost level, repeated ones too; `text` must already be known to be valid JSON. */
function outerKeys(text: string): string[] {
  const keys: string[] = [];
  let depth = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"\s*:?|[{}[\]]/g)) {
    if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    else if (depth === 1 && token.endsWith(":")) {
      keys.push(JSON.parse(token.slice(0, -1).trimEnd()));
    }
  }
  return keys;
}

/** Says what is wrong with a file. */
function malformed(where: string, what: string): SyntaxError {
  return new SyntaxError(`${where} is not a valid safetensors file: ${what}`);
}

/** Length of the JSON header, from the file's first bytes. */
function headerLength(prefix: Uint8Array, fileLength: number, where: string): number {
  if (fileLength < PREFIX || prefix.length < PREFIX) {
    throw malformed(where, `it has ${fileLength} bytes, too few for the header's length`);
  }
  const length = Number(
    new DataView(prefix.buffer, prefix.byteOffset, PREFIX).getBigUint64(0, true),
  );
  if (length > MAX_HEADER) {
    throw malformed(where, `a header of ${length} bytes; at most ${MAX_HEADER} are accepted`);
  }
  if (PREFIX + length > fileLength) {
    throw malformed(
      where,
      `a header of ${length} bytes in a file of ${fileLength}: is it truncated?`,
    );
  }
  return length;
}

/** One tensor's entry, its offsets counted from the end of the header. */
function parseEntry(name: string, value: unknown, where: string) {
  const fail = (what: string) => malformed(where, `tensor ${JSON.stringify(name)} ${what}`);
  const entry = (typeof value === "object" && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const { dtype, shape, data_offsets: offsets } = entry;
  if (!isDtype(dtype)) {
    throw fail(
      `has the dtype ${JSON.stringify(dtype)}; known are ${Object.keys(elementBytes).join(", ")}`,
    );
  }
  const isSize = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  if (!(Array.isArray(shape) && shape.every(isSize))) {
    throw fail(`has the shape ${JSON.stringify(shape)}, expected a list of sizes`);
  }
  if (!(Array.isArray(offsets) && offsets.length === 2 && offsets.every(isSize))) {
    throw fail(`has the offsets ${JSON.stringify(offsets)}, expected [begin, end]`);
  }
  const [begin, end] = offsets as [number, number];
  const expected = elements(shape) * elementBytes[dtype];
  if (end - begin !== expected) {
    throw fail(
      `has ${end - begin} bytes [${begin}, ${end}], but ${dtype} of shape [${
        shape.join(", ")
      }] takes ${expected}`,
    );
  }
  return { name, dtype, shape: shape as number[], begin, end };
}

/** Parses and checks the JSON of a header. Tensors must cover the rest of the file without overlap or hole. */
function parseHeader(json: Uint8Array, fileLength: number, where: string): Header {
  let parsed: unknown;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(json);
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new SyntaxError(`${where} is not a valid safetensors file: its header is not JSON`, {
      cause,
    });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw malformed(where, "its header is not an object");
  }
  const names = new Set<string>();
  for (const name of outerKeys(text)) {
    if (names.has(name)) throw malformed(where, `${JSON.stringify(name)} is there twice`);
    names.add(name);
  }

  const { __metadata__: metadata = {}, ...rest } = parsed as Record<string, unknown>;
  if (
    typeof metadata !== "object" || metadata === null || Array.isArray(metadata) ||
    !Object.values(metadata).every((value) => typeof value === "string")
  ) {
    throw malformed(where, "__metadata__ is not an object of strings");
  }

  const entries = Object.entries(rest).map(([name, value]) => parseEntry(name, value, where))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  const start = PREFIX + json.length;
  const tensors = new Map<string, TensorInfo>();
  let position = 0;
  for (const { name, dtype, shape, begin, end } of entries) {
    if (begin !== position) {
      throw malformed(
        where,
        `tensor ${JSON.stringify(name)} begins at ${begin}, ${
          begin < position ? "overlapping what ends" : "leaving a hole after"
        } ${position}`,
      );
    }
    position = end;
    tensors.set(name, { dtype, shape, offset: start + begin, byteLength: end - begin });
  }
  if (start + position !== fileLength) {
    throw malformed(
      where,
      `its tensors end at byte ${start + position} of a file of ${fileLength}${
        start + position > fileLength ? ": is it truncated?" : ""
      }`,
    );
  }
  return { tensors, metadata: metadata as Record<string, string> };
}

/**
 * Reads a whole file that is already in memory.
 *
 * @example
 * ```ts
 * import { encodeSafetensors, parseSafetensors } from "./safetensors.ts";
 * const bytes = encodeSafetensors([
 *   { name: "x", dtype: "F32", shape: [2], data: Float32Array.of(1, 2) },
 * ]);
 * console.assert(parseSafetensors(bytes).tensors.get("x")?.data[1] === 2);
 * ```
 *
 * @param where What to call the file in errors.
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

  /** What the header says of a tensor. @throws {RangeError} If there is none of that name. */
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

/** What to write besides the tensors. */
export interface WriteOptions {
  /** Goes into the header's `__metadata__`. */
  readonly metadata?: Readonly<Record<string, string>>;
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
): Promise<void> {
  const { header, order } = layOut(tensors, options.metadata);
  const file = await Deno.open(path, { write: true, create: true, truncate: true });
  let whole = false;
  try {
    await writeAll(file, header);
    for (const source of order) {
      for await (const piece of pieces(source)) await writeAll(file, piece);
    }
    await file.sync();
    whole = true;
  } finally {
    file.close();
    if (!whole) await Deno.remove(path);
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}
