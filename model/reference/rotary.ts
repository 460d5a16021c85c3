/**
 * Rotary position embedding: pairs of columns turn with the position, each pair at a frequency of its own.
 *
 * @module
 */

import { type Matrix, matrix, row } from "./matrix.ts";

/** Where frequencies differ from the plain `θ^(−2i/n)`. */
export type RotaryScaling =
  | {
    /** Every frequency is divided by the factor. */
    readonly type: "linear";
    /** How many times longer the texts are. */
    readonly factor: number;
  }
  | {
    /** Low frequencies are divided by the factor, high ones stay, between them it is a mean of both (Llama 3.1). */
    readonly type: "llama3";
    /** How many times longer the texts are. */
    readonly factor: number;
    /** Turns over the original length below which a frequency is divided. */
    readonly low_freq_factor: number;
    /** Turns over the original length above which a frequency stays. */
    readonly high_freq_factor: number;
    /** The original length. */
    readonly original_max_position_embeddings: number;
  };

/** How the columns of a head turn. */
export interface Rotary {
  /** Base θ of the frequencies; defaults to 10000. */
  readonly base?: number;
  /** Defaults to none. */
  readonly scaling?: RotaryScaling;
  /** How much of a head turns: its first `⌊columns · fraction⌋` columns, the others pass. Defaults to all. */
  readonly fraction?: number;
}

/** Radians a position of each of `columns / 2` pairs. */
export function rotaryFrequencies(columns: number, { base = 10000, scaling }: Rotary): number[] {
  return Array.from({ length: columns / 2 }, (_, i) => {
    const frequency = base ** (-2 * i / columns);
    if (scaling === undefined) return frequency;
    const divided = frequency / scaling.factor;
    if (scaling.type === "linear") return divided;
    const turns = scaling.original_max_position_embeddings * frequency / (2 * Math.PI);
    const { low_freq_factor: low, high_freq_factor: high } = scaling;
    if (turns > high) return frequency;
    if (turns < low) return divided;
    const s = (turns - low) / (high - low);
    return (1 - s) * divided + s * frequency;
  });
}

/**
 * Turns the rows of one head in the half-split form: of `n` columns, `i` and `i + n/2` turn by `p · frequencyᵢ` at position `p`, the row's
 * number. `direction` −1 turns back, which is also the gradient.
 *
 * @throws {RangeError} If an odd number of columns would turn.
 */
export function rotate(u: Matrix, direction: 1 | -1, rotary: Rotary = {}): Matrix {
  const columns = Math.floor(u.columns * (rotary.fraction ?? 1));
  if (columns % 2 !== 0) {
    throw new RangeError(`Rotary embedding turns pairs of columns, and ${columns} is odd`);
  }
  const half = columns / 2;
  const frequencies = rotaryFrequencies(columns, rotary);
  const out = matrix(u.rows, u.columns, u.data.slice());
  for (let position = 0; position < u.rows; position++) {
    const from = row(u, position);
    const to = row(out, position);
    for (let i = 0; i < half; i++) {
      const angle = direction * position * frequencies[i]!;
      const cos = Math.cos(angle);
      const sin = Math.sin(angle);
      to[i] = from[i]! * cos - from[i + half]! * sin;
      to[i + half] = from[i + half]! * cos + from[i]! * sin;
    }
  }
  return out;
}
