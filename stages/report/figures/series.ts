/**
 * Helpers on curves that figures share.
 *
 * @module
 */

import type { StepValue } from "../data.ts";

/**
 * At most `limit` points of a curve, each the mean of its bucket of equal width in ln(step), so that the beginning,
 * where a loss falls fastest, keeps its shape. Curves that are short enough are returned as they are.
 */
export function thin(points: readonly StepValue[], limit: number): readonly StepValue[] {
  const first = points[0];
  const last = points.at(-1);
  if (points.length <= limit || first === undefined || last === undefined) return points;
  const start = Math.log(Math.max(1, first.step));
  const width = (Math.log(Math.max(2, last.step)) - start) / limit || 1;
  const buckets = new Map<number, { steps: number; values: number; n: number }>();
  for (const { step, value } of points) {
    const index = Math.min(limit - 1, Math.floor((Math.log(Math.max(1, step)) - start) / width));
    const bucket = buckets.get(index) ?? { steps: 0, values: 0, n: 0 };
    bucket.steps += step;
    bucket.values += value;
    bucket.n++;
    buckets.set(index, bucket);
  }
  return [...buckets.values()].map((b) => ({ step: b.steps / b.n, value: b.values / b.n }));
}

/** Rounds for a label: three significant digits, with k, M, B. */
export function compact(value: number): string {
  const units: readonly [number, string][] = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];
  for (const [size, unit] of units) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))} ${unit}`;
  }
  return String(Number(value.toPrecision(3)));
}

/** Bytes for people, in binary units: `4 KiB`, `1.5 GiB`. */
export function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toPrecision(3))} ${units[unit]}`;
}
