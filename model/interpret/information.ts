/**
 * Mutual information of two labels from counts, and its bias.
 *
 * Estimates from counts are too high: rare pairs look as if they went together. Miller and Madow's correction (1955) takes the expected excess off to first
 * order; where pairs are many and rare it takes off too little, so an estimate belongs beside those of shuffled labels.
 *
 * @module
 */

/** Counts `n` of labels, as far as their entropy needs them. */
export interface CountSums {
  /** Labels that occur. */
  readonly labels: number;
  /** Σ n ln n. */
  readonly n_log_n: number;
}

/** Counts of x, of y, and of both together, of as many pairs. */
export interface PairSums {
  /** Pairs that were counted. */
  readonly pairs: number;
  readonly x: CountSums;
  readonly y: CountSums;
  readonly both: CountSums;
}

/** Mutual information, nats. */
export interface Information {
  /** Pairs that were counted. */
  readonly pairs: number;
  /** Entropy of x, and of y, from their counts. */
  readonly entropy_x: number;
  readonly entropy_y: number;
  /** From the counts as they are: `H(x) + H(y) − H(x, y)`. */
  readonly plugin: number;
  /** The same with Miller and Madow's correction of each entropy, `(m − 1) / 2n` for m labels that occur; may be below 0. */
  readonly corrected: number;
}

/**
 * Mutual information of two labels.
 *
 * @throws {RangeError} If nothing was counted.
 */
export function mutualInformation({ pairs, x, y, both }: PairSums): Information {
  if (!(pairs > 0)) throw new RangeError("Mutual information needs at least one pair, got none");
  // H = −Σ n/N ln n/N = ln N − Σ n ln n / N.
  const entropy = ({ n_log_n }: CountSums) => Math.log(pairs) - n_log_n / pairs;
  const [entropy_x, entropy_y] = [entropy(x), entropy(y)];
  const plugin = entropy_x + entropy_y - entropy(both);
  const excess = (both.labels - x.labels - y.labels + 1) / (2 * pairs);
  return { pairs, entropy_x, entropy_y, plugin, corrected: plugin - excess };
}

/** The sums of counts. */
export function sumCounts(counts: Iterable<number>): CountSums {
  let [labels, n_log_n] = [0, 0];
  for (const n of counts) {
    if (n === 0) continue;
    labels++;
    n_log_n += n * Math.log(n);
  }
  return { labels, n_log_n };
}

/** Mean and sample standard deviation of controls. */
export interface ControlSummary {
  readonly count: number;
  readonly mean: number;
  /** 0 for a single one. */
  readonly deviation: number;
}

/** Describes controls. @throws {RangeError} If there are none. */
export function summarise(values: readonly number[]): ControlSummary {
  if (values.length === 0) throw new RangeError("A summary needs at least one value, got none");
  const count = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / count;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { count, mean, deviation: count > 1 ? Math.sqrt(squares / (count - 1)) : 0 };
}
