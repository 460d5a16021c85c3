/**
 * Mutual information of two labels from counts, and its bias.
 *
 * Estimates from counts are too high: rare pairs look as if they went together. Miller and Madow's correction (1955) takes the expected excess off to first
 * order; where pairs are many and rare it takes off too little, so an estimate belongs beside those of shuffled labels.
 *
 * @module
 */

/** Counts of pairs of labels: `n[i]` times `x[i]` with `y[i]`. Each pair stands there once. */
export interface PairCounts {
  readonly x: ArrayLike<number>;
  readonly y: ArrayLike<number>;
  readonly n: ArrayLike<number>;
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
export function mutualInformation({ x, y, n }: PairCounts): Information {
  const [ofX, ofY] = [new Map<number, number>(), new Map<number, number>()];
  const both = new Float64Array(n.length);
  let pairs = 0;
  for (let i = 0; i < n.length; i++) {
    const count = n[i]!;
    ofX.set(x[i]!, (ofX.get(x[i]!) ?? 0) + count);
    ofY.set(y[i]!, (ofY.get(y[i]!) ?? 0) + count);
    both[i] = count;
    pairs += count;
  }
  if (pairs === 0) throw new RangeError("Mutual information needs at least one pair, got none");
  const [a, b, c] = [ofX.values(), ofY.values(), both].map((counts) => entropy(counts, pairs));
  const rest = (found: Entropy) => (found.labels - 1) / (2 * pairs);
  return {
    pairs,
    entropy_x: a!.nats,
    entropy_y: b!.nats,
    plugin: a!.nats + b!.nats - c!.nats,
    corrected: a!.nats + rest(a!) + b!.nats + rest(b!) - c!.nats - rest(c!),
  };
}

interface Entropy {
  readonly nats: number;
  /** Labels that occur. */
  readonly labels: number;
}

function entropy(counts: Iterable<number>, total: number): Entropy {
  let [nats, labels] = [0, 0];
  for (const count of counts) {
    if (count === 0) continue;
    labels++;
    nats -= count / total * Math.log(count / total);
  }
  return { nats, labels };
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
