/**
 * Cross-entropy in nats, averaged over the predictions.
 *
 * @module
 */

import { type Matrix, matrix, row, softmax } from "./matrix.ts";

/** A target that is not predicted. */
const NO_TARGET = 0xffffffff;

/**
 * Mean of `−log softmax(logits)[target]` over the rows that are predicted, and its gradient. A row with the target 0xffffffff is not.
 *
 * @param logits predictions × vocabulary.
 * @param targets One token a row.
 * @throws {RangeError} If a target is not in the vocabulary.
 */
export function crossEntropy(
  logits: Matrix,
  targets: ArrayLike<number>,
): { loss: number; gradient: Matrix } {
  const { rows, columns } = logits;
  if (targets.length !== rows) {
    throw new RangeError(`Expected ${rows} targets, got ${targets.length}`);
  }
  const gradient = matrix(rows, columns);
  const count = Array.from(targets).filter((target) => target !== NO_TARGET).length;
  let loss = 0;
  for (let t = 0; t < rows; t++) {
    const target = targets[t]!;
    if (target === NO_TARGET) continue;
    if (!(Number.isInteger(target) && target >= 0 && target < columns)) {
      throw new RangeError(`Target ${target} is not in the vocabulary of ${columns} tokens`);
    }
    const v = row(logits, t);
    const largest = v.reduce((a, b) => Math.max(a, b), -Infinity);
    const logSum = largest + Math.log(v.reduce((sum, x) => sum + Math.exp(x - largest), 0));
    loss += (logSum - v[target]!) / count;
    const p = softmax(v);
    p[target]! -= 1;
    row(gradient, t).set(p.map((value) => value / count));
  }
  return { loss, gradient };
}
