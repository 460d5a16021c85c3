/**
 * Numbers by step, and what of them a screen can show.
 *
 * @module
 */

/** One curve: steps ascending, each once. A number that is not finite is NaN. */
export class Series {
  #steps = new Float64Array(64);
  #values = new Float64Array(64);
  #length = 0;

  /** Steps. */
  get steps(): Float64Array {
    return this.#steps.subarray(0, this.#length);
  }

  /** Values. */
  get values(): Float64Array {
    return this.#values.subarray(0, this.#length);
  }

  /** Adds a number; the last one said of a step wins. */
  push(step: number, value: number): void {
    const n = this.#length;
    let at = n;
    if (n > 0 && step <= this.#steps[n - 1]!) {
      at = lowerBound(this.steps, step);
      if (this.#steps[at] === step) {
        this.#values[at] = value;
        return;
      }
    }
    if (n === this.#steps.length) {
      this.#steps = grown(this.#steps);
      this.#values = grown(this.#values);
    }
    this.#steps.copyWithin(at + 1, at, n);
    this.#values.copyWithin(at + 1, at, n);
    this.#steps[at] = step;
    this.#values[at] = value;
    this.#length++;
  }
}

function grown(array: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const twice = new Float64Array(2 * array.length);
  twice.set(array);
  return twice;
}

/** The first position whose number is at least `x`. */
function lowerBound(sorted: Float64Array, x: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Numbers of `by` at other steps: linear in between, and beyond its ends with the rate that it has there. */
export function interpolate(by: Series, steps: Float64Array): Float64Array {
  const { steps: xs, values: ys } = by;
  const out = new Float64Array(steps.length).fill(NaN);
  if (xs.length === 0) return out;
  let at = 0;
  for (let i = 0; i < steps.length; i++) {
    const step = steps[i]!;
    while (at < xs.length - 2 && xs[at + 1]! < step) at++;
    // One number alone counts up from zero.
    const [x0, y0] = xs.length === 1 ? [0, 0] : [xs[at]!, ys[at]!];
    const [x1, y1] = xs.length === 1 ? [xs[0]!, ys[0]!] : [xs[at + 1]!, ys[at + 1]!];
    out[i] = x1 === x0 ? y1 : y0 + (y1 - y0) * ((step - x0) / (x1 - x0));
  }
  return out;
}

/** Sums a number that holds for each step since the last one: seconds a step become the time of a step. */
export function accumulate(each: Series): Series {
  const sum = new Series();
  let [last, total] = [0, 0];
  const { steps, values } = each;
  for (let i = 0; i < steps.length; i++) {
    if (Number.isNaN(values[i]!)) continue;
    total += values[i]! * (steps[i]! - last);
    last = steps[i]!;
    sum.push(last, total);
  }
  return sum;
}

/** Exponential moving average that forgets its start of zero: `weight` of 0 changes nothing. */
export function smooth(values: Float64Array, weight: number): Float64Array {
  if (weight === 0) return values;
  const out = new Float64Array(values.length);
  let [sum, left] = [0, 1];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isNaN(value)) {
      sum = weight * sum + (1 - weight) * value;
      left *= weight;
    }
    out[i] = Number.isNaN(value) ? NaN : sum / (1 - left);
  }
  return out;
}

/** The part of a curve that is looked at, and by how many columns of pixels. */
export interface Window {
  /** Lower end of the horizontal axis; the first number's unless given. */
  readonly from?: number;
  /** Upper end; the last number's unless given. */
  readonly to?: number;
  /** Columns of pixels, at least 1. */
  readonly columns: number;
  /** Whether the horizontal axis is logarithmic; numbers of at most 0 are not on it. */
  readonly log?: boolean;
}

/**
 * The points that a screen can tell apart: the first and the last, the least and the greatest of each column, in
 * their order, and those beside the window, to which lines go. `x` ascends.
 */
export function downsample(
  x: Float64Array,
  y: Float64Array,
  { from, to, columns, log = false }: Window,
): { x: number[]; y: number[] } {
  const least = log ? lowerBound(x, Number.MIN_VALUE) : 0;
  const start = Math.max(least, lowerBound(x, from ?? -Infinity) - 1);
  const end = Math.min(x.length, lowerBound(x, to ?? Infinity) + 2);
  const place = log ? Math.log : (n: number) => n;
  const low = place(Math.max(from ?? -Infinity, x[start] ?? 0));
  const high = place(Math.min(to ?? Infinity, x[end - 1] ?? 0));
  const scale = high > low ? columns / (high - low) : 0;
  const few = end - start <= 2 * columns;
  const kept: { x: number[]; y: number[] } = { x: [], y: [] };
  const keep = (i: number) => {
    kept.x.push(x[i]!);
    kept.y.push(y[i]!);
  };
  let [column, min, max, first, last] = [-Infinity, -1, -1, -1, -1];
  const close = () => {
    if (min < 0) return;
    const [earlier, later] = [Math.min(min, max), Math.max(min, max)];
    if (earlier !== first) keep(earlier);
    if (earlier !== later) keep(later);
  };
  for (let i = start; i < end; i++) {
    const value = y[i]!;
    if (Number.isNaN(value) || Number.isNaN(x[i]!)) continue;
    if (few) {
      keep(i);
      continue;
    }
    if (first < 0) keep(first = i);
    last = i;
    const here = Math.floor((place(x[i]!) - low) * scale);
    if (here !== column) {
      close();
      [column, min, max] = [here, i, i];
      continue;
    }
    if (value < y[min]!) min = i;
    if (value > y[max]!) max = i;
  }
  close();
  if (last > Math.max(min, max)) keep(last);
  return kept;
}
