/**
 * The gate of a mixture of experts: which experts a token keeps, with what weights, and the load-balance term.
 *
 * @module
 */

import backwardSource from "../../../shaders/mixture/mixture_gate_backward.wgsl" with {
  type: "text",
};
import balanceSource from "../../../shaders/mixture/mixture_balance.wgsl" with { type: "text" };
import source from "../../../shaders/mixture/mixture_gate.wgsl" with { type: "text" };
import { f32, grid, readFields, readScalar, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { CONTROL } from "../control.ts";
import { sumBalance } from "../routing/balance_sum.ts";

/** How a gate chooses and weighs. */
export interface GateSizes {
  /** Experts, E. */
  readonly experts: number;
  /** Experts that a token keeps, at most; k. */
  readonly top_k: number;
  /** `softmax`: weights are the softmax over the kept logits; `probability`: that over all logits, of one expert. */
  readonly weight: "softmax" | "probability";
  /** Keeps only as many of the k best, at least one, as come to this sum of probabilities. */
  readonly top_p?: number | undefined;
}

/** The experts that tokens keep. */
export interface Gated {
  /** The k best experts, best first, u32 `[T, k]`. */
  readonly index: Tensor;
  /** The kept experts, u32 `[T, k]`: `index`, with E in the place of those that `top_p` leaves out. */
  readonly keys: Tensor;
  /** Their weights, f32 `[T, k]`; 0 of those left out. */
  readonly weight: Tensor;
}

/** Invocations of a workgroup. */
const WORKGROUP = 64;

/**
 * Records the choice.
 *
 * @param input `logits` f32 `[T, E padded to 4]`. `given` u32 `[T, k]` are kept instead of choosing, in the form of `keys`.
 */
export function gate(
  plan: Plan,
  label: string,
  input: { sizes: GateSizes; logits: Tensor; given?: Tensor | undefined },
): Gated {
  const { sizes, logits, given } = input;
  const { experts, top_k, weight: kind, top_p } = sizes;
  if (kind === "probability" && top_k !== 1) {
    throw new RangeError(`${label}: a weight that is a probability is of 1 expert, not ${top_k}`);
  }
  const tokens = logits.rows;
  const u32 = (name: string) => plan.tensor(`${label}.${name}`, [tokens, top_k], { dtype: "u32" });
  const weight = plan.tensor(`${label}.weight`, [tokens, top_k]);
  const drops = top_p !== undefined;
  const index = given ?? u32("index");
  const keys = given ?? (drops ? u32("kept") : index);
  plan.dispatch({
    label: `${label}.choose`,
    name: "mixture_gate",
    source,
    constants: {
      WORKGROUP,
      TOP: top_k,
      WEIGHT: kind,
      TOP_P: drops,
      GIVEN: given !== undefined,
    },
    params: {
      tokens,
      experts,
      stride: logits.width,
      ...(drops && { top_p: f32(top_p) }),
    },
    bindings: {
      logits: readScalar(logits),
      ...(given ? { keys: readScalar(given) } : {
        index: writeScalar(index),
        ...(drops && { keys: writeScalar(keys) }),
      }),
      weight: writeScalar(weight),
    },
    workgroups: grid(Math.ceil(tokens / WORKGROUP)),
  });
  return { index, keys, weight };
}

/**
 * Records the load-balance term `coefficient · E · Σ_e f_e P_e`: `f_e` is the share of the kept slots that are e's, `P_e` the mean over tokens of the softmax over all experts.
 *
 * @param input `begin` u32 `[E + 1 or more]`: where each expert's slots begin among the sorted ones.
 * @returns f32 `[1]`.
 */
export function gateBalance(
  plan: Plan,
  label: string,
  input: { experts: number; logits: Tensor; begin: Tensor; coefficient: number },
): Tensor {
  const { experts, logits, begin, coefficient } = input;
  const tokens = logits.rows;
  const rows = plan.tensor(`${label}.balance.rows`, [tokens, 4]);
  const value = plan.tensor(`${label}.balance.value`, [1]);
  plan.dispatch({
    label: `${label}.balance`,
    name: "mixture_balance",
    source: balanceSource,
    constants: { WORKGROUP },
    params: {
      tokens,
      experts,
      stride: logits.width,
      weight: f32(coefficient * experts / tokens),
    },
    bindings: { logits: readScalar(logits), begin: readScalar(begin), out: write(rows) },
    workgroups: grid(Math.ceil(tokens / WORKGROUP)),
  });
  sumBalance(plan, `${label}.balance`, { rows, value });
  return value;
}

/**
 * Records the gradient of the logits.
 *
 * @param input `balance` is the factor of the load-balance term's gradient: the coefficient over the micro-batches of an update; `loss_scale`, the {@linkcode CONTROL} tensor, multiplies it.
 * @returns f32 `[T, E padded to 4]`, zero beyond the experts.
 */
export function gateBackward(plan: Plan, label: string, input: {
  sizes: GateSizes;
  logits: Tensor;
  gated: Gated;
  /** Gradient of the weights, f32 `[T, k]`. */
  dweight: Tensor;
  balance?: { factor: number; begin: Tensor; loss_scale?: Tensor | undefined } | undefined;
}): Tensor {
  const { sizes, logits, gated, dweight, balance } = input;
  const { experts, top_k, weight } = sizes;
  const tokens = logits.rows;
  const dlogits = plan.tensor(`${label}.dlogits`, logits.shape);
  const loss_scale = balance?.loss_scale;
  plan.dispatch({
    label: `${label}.dlogits`,
    name: "mixture_gate_backward",
    source: backwardSource,
    constants: {
      WORKGROUP,
      TOP: top_k,
      WEIGHT: weight,
      BALANCE: balance !== undefined,
      SCALED: loss_scale !== undefined,
    },
    params: {
      tokens,
      experts,
      stride: logits.width,
      ...(balance && { balance: f32(balance.factor * experts / tokens) }),
    },
    bindings: {
      logits: readScalar(logits),
      keys: readScalar(gated.keys),
      weight: readScalar(gated.weight),
      dweight: readScalar(dweight),
      ...(balance && { begin: readScalar(balance.begin) }),
      ...(loss_scale && { control: readFields(loss_scale, CONTROL) }),
      dlogits: write(dlogits),
    },
    workgroups: grid(Math.ceil(tokens / WORKGROUP)),
  });
  return dlogits;
}
