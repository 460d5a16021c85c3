/**
 * How a parameter is made of the tensors of a published checkpoint, whose linear layers are stored output × input.
 *
 * @module
 */

/** Consecutive rows of a stored tensor, and where they go. */
export interface Run {
  /** First row of the stored tensor. */
  readonly from: number;
  /** The column of the parameter that the first row becomes; of a parameter that is not transposed, the row. */
  readonly to: number;
  /** Rows. */
  readonly count: number;
}

/** A stored tensor, all of whose rows go somewhere. */
export interface StoredPart {
  /** Name in the checkpoint. */
  readonly name: string;
  /** Rows first. */
  readonly shape: readonly number[];
  readonly runs: readonly Run[];
}

/** The stored tensors of one parameter. */
export interface TensorMap {
  /** Name of the parameter: `layers.3.attn.w_qkv`. */
  readonly name: string;
  /** Shape of the parameter. */
  readonly shape: readonly number[];
  /** Whether stored rows become columns. */
  readonly transposed: boolean;
  readonly parts: readonly StoredPart[];
}

/** Consecutive rows of a stored tensor. */
export interface Rows {
  /** Number of the first row. */
  readonly row: number;
  /** Whole rows, row-major. */
  readonly values: Float32Array;
}

/** Numbers of a row: everything behind the first size. */
export function rowWidth(shape: readonly number[]): number {
  return shape.slice(1).reduce((product, n) => product * n, 1);
}

/** A parameter that is stored as it is. */
export function same(name: string, stored: string, shape: readonly number[]): TensorMap {
  const count = shape[0]!;
  return {
    name,
    shape,
    transposed: false,
    parts: [{ name: stored, shape, runs: [{ from: 0, to: 0, count }] }],
  };
}

/** Stored linear layers of one input, side by side: the weight, `[input, Σ outputs]`. */
export function linear(
  name: string,
  input: number,
  layers: readonly { readonly name: string; readonly output: number }[],
): TensorMap {
  const parts = sideBySide(layers, (output) => [output, input]);
  const width = layers.reduce((sum, { output }) => sum + output, 0);
  return { name, shape: [input, width], transposed: true, parts };
}

/** The biases of stored linear layers, one after another. */
export function biases(
  name: string,
  layers: readonly { readonly name: string; readonly output: number }[],
): TensorMap {
  const width = layers.reduce((sum, { output }) => sum + output, 0);
  return {
    name,
    shape: [width],
    transposed: false,
    parts: sideBySide(layers, (output) => [output]),
  };
}

function sideBySide(
  layers: readonly { readonly name: string; readonly output: number }[],
  shapeOf: (output: number) => readonly number[],
): StoredPart[] {
  let to = 0;
  return layers.map(({ name, output }) => {
    const part = { name, shape: shapeOf(output), runs: [{ from: 0, to, count: output }] };
    to += output;
    return part;
  });
}

/** Memory for a parameter's values, row-major, which {@linkcode place} fills. */
export function emptyParameter(map: TensorMap): Float32Array<ArrayBuffer> {
  return new Float32Array(map.shape.reduce((product, n) => product * n, 1));
}

/** Writes rows of a stored part where they belong in the parameter, transposed where they are stored so. */
export function place(
  map: TensorMap,
  part: StoredPart,
  { target, row, values }: Rows & { readonly target: Float32Array },
): void {
  const columns = map.shape.at(-1)!;
  const width = rowWidth(part.shape);
  const end = row + values.length / width;
  for (const { from, to, count } of part.runs) {
    const first = Math.max(row, from);
    const last = Math.min(end, from + count);
    if (first >= last) continue;
    const at = to + first - from;
    const rows = values.subarray((first - row) * width, (last - row) * width);
    if (map.transposed) transposeInto(target, rows, { width, columns, at });
    else target.set(rows, at * width);
  }
}

/** The stored part of a parameter's values, row-major: what {@linkcode place} puts there. */
export function take(
  map: TensorMap,
  part: StoredPart,
  values: Float32Array,
): Float32Array<ArrayBuffer> {
  const columns = map.shape.at(-1)!;
  const width = rowWidth(part.shape);
  const out = new Float32Array(part.shape[0]! * width);
  for (const { from, to, count } of part.runs) {
    for (let row = 0; row < count; row++) {
      const at = (from + row) * width;
      if (!map.transposed) {
        out.set(values.subarray((to + row) * width, (to + row + 1) * width), at);
        continue;
      }
      for (let j = 0; j < width; j++) out[at + j] = values[j * columns + to + row]!;
    }
  }
  return out;
}

/** Rows that are transposed together: what they write lies together. */
const TILE = 32;

/** Writes rows of `width` numbers as columns from `at` on. */
function transposeInto(
  target: Float32Array,
  rows: Float32Array,
  { width, columns, at }: { readonly width: number; readonly columns: number; readonly at: number },
): void {
  const count = rows.length / width;
  for (let top = 0; top < count; top += TILE) {
    const bottom = Math.min(count, top + TILE);
    for (let j = 0; j < width; j++) {
      const base = j * columns + at;
      for (let r = top; r < bottom; r++) target[base + r] = rows[r * width + j]!;
    }
  }
}
