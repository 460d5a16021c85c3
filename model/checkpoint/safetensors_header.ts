/**
 * The header of a safetensors file: reading it, and refusing what is not right.
 *
 * @module
 */

/** Element types, by the name that the header gives them. */
export type Dtype = keyof typeof elementBytes;

/** Bytes of an element, by dtype. */
export const elementBytes = {
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

/** The header's entry for one tensor. */
export interface TensorInfo {
  /** Type of an element. */
  readonly dtype: Dtype;
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  /** Number of bytes. */
  readonly byteLength: number;
}

/** A header, checked. */
export interface Header {
  /** Tensors by name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The header's `__metadata__`. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** The limit of other readers, far more than any model needs. */
const MAX_HEADER = 100_000_000;
/** Characters of a header's value that a message shows. */
const MOST_SHOWN = 100;
/** Bytes before the header: its length. */
export const PREFIX = 8;

function isDtype(value: unknown): value is Dtype {
  return typeof value === "string" && Object.hasOwn(elementBytes, value);
}

/** Number of elements of a shape. */
export function elements(shape: readonly number[]): number {
  // Sizes beside a zero may be so large that their product is infinite, and infinity times zero is no number.
  if (shape.includes(0)) return 0;
  return shape.reduce((product, size) => product * size, 1);
}

/** The keys of a JSON object's outermost level, repeated ones too; `text` must already be known to be valid JSON. */
function outerKeys(text: string): string[] {
  const keys: string[] = [];
  let depth = 0;
  for (const [token] of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"\s*:?|[{}[\]]/g)) {
    if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    else if (depth === 1 && token.endsWith(":")) {
      keys.push(JSON.parse(token.slice(0, -1).trimEnd()));
    }
  }
  return keys;
}

/** A header's value, for messages: its first characters, since a header may hold megabytes. */
function shown(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // It is nested deeper than the stack.
    text = Array.isArray(value) ? "[…]" : "{…}";
  }
  if (text === undefined) return "undefined";
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text;
}

/** Says what is wrong with a file. */
export function malformed(where: string, what: string): SyntaxError {
  return new SyntaxError(`${where} is not a valid safetensors file: ${what}`);
}

/** Length of the JSON header, from the file's first bytes. */
export function headerLength(prefix: Uint8Array, fileLength: number, where: string): number {
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
  const fail = (what: string) => malformed(where, `tensor ${shown(name)} ${what}`);
  const entry = (typeof value === "object" && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const { dtype, shape, data_offsets: offsets } = entry;
  if (!isDtype(dtype)) {
    throw fail(
      `has the dtype ${shown(dtype)}; known are ${Object.keys(elementBytes).join(", ")}`,
    );
  }
  const isSize = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  if (!(Array.isArray(shape) && shape.every(isSize))) {
    throw fail(`has the shape ${shown(shape)}, expected a list of sizes`);
  }
  if (!(Array.isArray(offsets) && offsets.length === 2 && offsets.every(isSize))) {
    throw fail(`has the offsets ${shown(offsets)}, expected [begin, end]`);
  }
  const [begin, end] = offsets as [number, number];
  const expected = elements(shape) * elementBytes[dtype];
  if (end - begin !== expected) {
    throw fail(
      `has ${end - begin} bytes [${begin}, ${end}], but ${dtype} of shape ${shown(shape)} takes ${
        Number.isSafeInteger(expected) ? expected : "more than any file has"
      }`,
    );
  }
  return { name, dtype, shape: shape as number[], begin, end };
}

/** Parses and checks the JSON of a header. Tensors must cover the rest of the file without overlap or hole. */
export function parseHeader(json: Uint8Array, fileLength: number, where: string): Header {
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
    if (names.has(name)) throw malformed(where, `${shown(name)} is there twice`);
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
        `tensor ${shown(name)} begins at ${begin}, ${
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
