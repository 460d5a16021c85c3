/**
 * Fields that the kinds' sections of the configuration are made of.
 *
 * @module
 */

import { z } from "zod";

/** Tensors are bound to the GPU as `vec4`s. */
const VECTOR = 4;

/** A positive whole number, at most `maximum`. */
export function count(about: string, maximum = 2 ** 24) {
  return z.int(`${about} must be a whole number`).min(1).max(maximum).describe(about);
}

/** A width of a matrix: a positive multiple of 4. */
export function width(about: string, maximum = 65536) {
  return z.int(`${about} must be a whole number`).min(VECTOR).max(maximum)
    .refine((n) => n % VECTOR === 0, {
      error: (issue) => {
        const n = Number(issue.input);
        const below = Math.floor(n / VECTOR) * VECTOR;
        return `${n} is not a multiple of ${VECTOR}; ${below > 0 ? `${below} and ` : ""}${
          below + VECTOR
        } are`;
      },
    })
    .describe(about);
}
