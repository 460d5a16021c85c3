/**
 * Vectors of f32 on the host that are added four numbers at a time.
 *
 * JavaScript adds a number at a time, in float64, and rounds: a third of what WebAssembly's vectors do. They add within one memory, so the vectors that are added
 * to each other are allocated together.
 *
 * @module
 */

/**
 * `add(sum, values, end)`: `sum += values` in f32 up to the address `end`, 16 numbers at a time. The text of the binary below:
 *
 * ```wat
 * (module
 *   (import "" "memory" (memory 1 65536))
 *   (func (export "add") (param $sum i32) (param $values i32) (param $end i32)
 *     (loop $next
 *       (v128.store (local.get $sum) (f32x4.add (v128.load (local.get $sum)) (v128.load (local.get $values))))
 *       ;; … and the same with offset=16, offset=32 and offset=48
 *       (local.set $values (i32.add (local.get $values) (i32.const 64)))
 *       (br_if $next (i32.lt_u (local.tee $sum (i32.add (local.get $sum) (i32.const 64))) (local.get $end))))))
 * ```
 */
const BINARY = "AGFzbQEAAAABBwFgA39/fwACDwEABm1lbW9yeQIBAYCABAMCAQAHBwEDYWRkAAAKcAFuAANAIAAg" +
  "AP0ABAAgAf0ABAD95AH9CwQAIAAgAP0ABBAgAf0ABBD95AH9CwQQIAAgAP0ABCAgAf0ABCD95AH9CwQgIAAg" +
  "AP0ABDAgAf0ABDD95AH9CwQwIAFBwABqIQEgAEHAAGoiACACSQ0ACws=";

/** Bytes that are added at a time: vectors take a multiple of them. */
const STEP_BYTES = 64;
const PAGE_BYTES = 65536;
/** Bytes of a memory, at most, unless a block needs more: each takes gigabytes of addresses. */
const MEMORY_BYTES = 2 ** 30;

let compiled: WebAssembly.Module | undefined;

function module(): WebAssembly.Module {
  return compiled ??= new WebAssembly.Module(Uint8Array.fromBase64(BINARY));
}

/** Vectors of one length that can be added to each other. */
export interface VectorBlock {
  /** `[vector][element]`, zeros. */
  readonly vectors: readonly Float32Array<ArrayBuffer>[];
  /** `vectors[to] += vectors[from]` in f32. */
  add(to: number, from: number): void;
}

/** A memory, its function, and the bytes that are taken. */
interface Memory {
  readonly buffer: ArrayBuffer;
  readonly add: (sum: number, values: number, end: number) => void;
  taken: number;
}

/** Allocates a block for each size: so many vectors of so many elements. */
export function allocateVectors(sizes: readonly number[], count: number): VectorBlock[] {
  const strides = sizes.map((size) => Math.max(1, Math.ceil(4 * size / STEP_BYTES)) * STEP_BYTES);
  let memory: Memory | undefined;
  return sizes.map((size, i) => {
    const stride = strides[i]!;
    if (!memory || memory.taken + count * stride > memory.buffer.byteLength) {
      memory = openMemory(wanted(strides.slice(i), count));
    }
    const { buffer, add, taken } = memory;
    memory.taken += count * stride;
    const at = (n: number) => taken + n * stride;
    return {
      vectors: Array.from({ length: count }, (_, n) => new Float32Array(buffer, at(n), size)),
      add: (to, from) => add(at(to), at(from), at(to) + stride),
    };
  });
}

/** Bytes of a memory for the first of these blocks, and for those after it that fit. */
function wanted(strides: readonly number[], count: number): number {
  let bytes = 0;
  for (const stride of strides) {
    if (bytes > 0 && bytes + count * stride > MEMORY_BYTES) break;
    bytes += count * stride;
  }
  return bytes;
}

function openMemory(bytes: number): Memory {
  const pages = Math.ceil(bytes / PAGE_BYTES);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const { exports } = new WebAssembly.Instance(module(), { "": { memory } });
  // A memory that is not said to be shared has no other kind of buffer.
  const buffer = memory.buffer as ArrayBuffer;
  return { buffer, add: exports["add"] as Memory["add"], taken: 0 };
}
