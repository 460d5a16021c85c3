/**
 * Dropout's masks: functions of (seed, update, micro-batch, place, row, column), from integer arithmetic.
 *
 * @module
 */

import { type Matrix, matrix, row } from "./matrix.ts";

/** The factor of a number at a row and a column of a place: 0, or `1 / (1 − rate)`. */
export type DropoutFactor = (row: number, column: number) => number;

/** Factors at a place, such as `output`, where a share of the numbers is dropped. */
export type DropoutMasks = (place: string, rate: number) => DropoutFactor;

/** A micro-batch of training. */
export interface MicroBatch {
  readonly seed: number;
  /** Number of the update, the first being 0. */
  readonly update: number;
  /** Number of the micro-batch in the update. */
  readonly microBatch: number;
}

/** Keeps every number. */
export const noDropout: DropoutMasks = () => () => 1;

/** The masks of a micro-batch. */
export function dropoutMasks(of: MicroBatch): DropoutMasks {
  const key = hash(of.microBatch + hash(of.update + hash(of.seed ^ 0x9e3779b9)));
  return (place, rate) => {
    const base = hash(key ^ nameHash(place));
    const threshold = Math.round(rate * 2 ** 32);
    return (i, j) => {
      const start = hash(Math.imul(i, 0x9e3779b9) + base);
      return hash(start ^ j) < threshold ? 0 : 1 / (1 - rate);
    };
  };
}

/** Masks of places under a further prefix. */
export function placesUnder(masks: DropoutMasks, prefix: string): DropoutMasks {
  return (place, rate) => masks(prefix + place, rate);
}

/** A matrix times a place's factors, which is also how the gradient goes back. */
export function drop(x: Matrix, factor: DropoutFactor): Matrix {
  const out = matrix(x.rows, x.columns);
  for (let i = 0; i < x.rows; i++) {
    row(out, i).set(row(x, i).map((value, j) => value * factor(i, j)));
  }
  return out;
}

/** 32 bits of which every one depends on every bit of the number, which counts modulo 2³². */
function hash(number: number): number {
  let v = number >>> 0;
  v ^= v >>> 16;
  v = Math.imul(v, 0x21f0aaad);
  v ^= v >>> 15;
  v = Math.imul(v, 0xd35a2d97);
  return (v ^ (v >>> 15)) >>> 0;
}

/** FNV-1a of a name. */
function nameHash(name: string): number {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) value = Math.imul(value ^ byte, 0x01000193);
  return value >>> 0;
}
