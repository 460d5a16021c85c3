/**
 * A number of kept experts that differs from token to token: the best of a head's candidates by mass or by threshold.
 *
 * @module
 */

import keepSource from "../../../shaders/routing/routing_keep.wgsl" with { type: "text" };
import keptSource from "../../../shaders/routing/routing_kept.wgsl" with { type: "text" };
import {
  atomic,
  f32,
  grid,
  read,
  readScalar,
  updateScalar,
  write,
  writeScalar,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Which of a head's candidates, best first, a token keeps. */
export interface KeepRule {
  /** `mass`: the fewest whose scores come to `least`; `threshold`: those whose score is at least `least`. */
  readonly by: "mass" | "threshold";
  /** 0 to 1. */
  readonly least: number;
  /** Experts that a head keeps at least. */
  readonly min_k: number;
}

/** The kept ones among a router's candidates. */
export interface KeptNumber {
  /** Expert numbers, u32 `[T, H·k]`; N, which is no expert, in the place of a candidate that is not kept. */
  readonly used: Tensor;
  /** How many each head of each token keeps, u32 `[T, H]`. */
  readonly number: Tensor;
}

/**
 * Records the choice among candidates. Their scores become softmaxes over the kept ones, and 0 for the others.
 *
 * @param input `index` u32, `score` f32 `[T, H·k]`, best first; `counts`, for the load balance, u32 `[2·K + 1]`, cleared: how often each
 * sub-key of both axes is kept, and how many experts are in all.
 */
export function keepExperts(
  plan: Plan,
  label: string,
  input: {
    rule: KeepRule;
    heads: number;
    sub_keys: number;
    index: Tensor;
    score: Tensor;
    counts?: Tensor;
  },
): KeptNumber {
  const { rule, heads, sub_keys, index, score, counts } = input;
  const workgroup = 64;
  const rows = index.rows * heads;
  const used = plan.tensor(`${label}.used`, index.shape, { dtype: "u32" });
  const number = plan.tensor(`${label}.number`, [index.rows, heads], { dtype: "u32" });
  plan.dispatch({
    label: `${label}.keep`,
    name: "routing_keep",
    source: keepSource,
    constants: {
      WORKGROUP: workgroup,
      TOP: index.width / heads,
      MASS: rule.by === "mass",
      BALANCE: counts !== undefined,
    },
    params: {
      rows,
      min: rule.min_k,
      none: sub_keys ** 2,
      least: f32(rule.least),
      ...(counts && { keys: sub_keys }),
    },
    bindings: {
      index: readScalar(index),
      score: updateScalar(score),
      used: writeScalar(used),
      number: writeScalar(number),
      ...(counts && { counts: atomic(counts) }),
    },
    workgroups: grid(Math.ceil(rows / workgroup)),
  });
  return { used, number };
}

/**
 * Records mean, standard deviation (biased), least and most of the experts that a token keeps.
 *
 * @param input `number` u32 `[T, H]`; `first` f32 `[4]`, whose first two numbers go before them.
 * @returns f32 `[8]`, of which the first six.
 */
export function keptStatistics(
  plan: Plan,
  label: string,
  input: { number: Tensor; first: Tensor },
): Tensor {
  const { number, first } = input;
  const workgroup = 64;
  const { rows: tokens, width: heads } = number;
  const run = Math.max(16, Math.ceil(tokens / 4096));
  const runs = Math.ceil(tokens / run);
  const partial = plan.tensor(`${label}.partial`, [runs, 8]);
  const out = plan.tensor(`${label}.kept`, [8]);
  plan.dispatch({
    label: `${label}.numbers`,
    name: "routing_kept",
    source: keptSource,
    constants: { WORKGROUP: workgroup, MERGE: false },
    params: { tokens, heads, run, runs },
    bindings: { number: readScalar(number), partial: write(partial) },
    workgroups: grid(Math.ceil(runs / workgroup)),
  });
  plan.dispatch({
    label: `${label}.merge`,
    name: "routing_kept",
    source: keptSource,
    constants: { WORKGROUP: 1, MERGE: true },
    params: { runs },
    bindings: { partial: read(partial), first: read(first), out: write(out) },
    workgroups: [1, 1, 1],
  });
  return out;
}
