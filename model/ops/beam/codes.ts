/**
 * Codes of ids: the fixed sinusoids that a beam router's queries are compared with.
 *
 * @module
 */

/**
 * The codes of the ids 0 to `ids − 1`, row after row: `[cos(angle) ; sin(angle)]` with `angle = (id · f_j) · 2π` and frequencies
 * `f_j = 10^(−j / (width/2 − 1))` from 1 down to a tenth; 1 alone when there is one.
 *
 * Angles are formed in float32, in this order, so codes are those of a program that computes in float32. They reach 3,200, where a
 * GPU's `sin` is unreliable, which is why the host makes the table.
 *
 * @example
 * ```ts
 * import { idCodes } from "./codes.ts";
 * // The first frequency is 1: whole turns, a cosine of 1 for every id.
 * const codes = idCodes(3, 4);
 * console.assert([0, 4, 8].every((i) => Math.abs(codes[i]! - 1) < 1e-6));
 * ```
 *
 * @throws {RangeError} If `width` is odd, naming it and the even widths beside it.
 */
export function idCodes(ids: number, width: number): Float32Array<ArrayBuffer> {
  if (!Number.isInteger(width) || width < 2 || width % 2 !== 0) {
    throw new RangeError(`The width of an id's code is ${width}; it must be even and at least 2`);
  }
  const half = width / 2;
  const frequencies = Float32Array.from(
    { length: half },
    (_, j) => 10 ** (-j / Math.max(1, half - 1)),
  );
  const turn = Math.fround(2 * Math.PI);
  const codes = new Float32Array(ids * width);
  for (let id = 0; id < ids; id++) {
    for (let j = 0; j < half; j++) {
      const angle = Math.fround(Math.fround(id * frequencies[j]!) * turn);
      codes[id * width + j] = Math.cos(angle);
      codes[id * width + half + j] = Math.sin(angle);
    }
  }
  return codes;
}
