/**
 * The keys that the kinds with a mixture of stored experts share.
 *
 * @module
 */

import { z } from "zod";
import { count, width } from "../../layer/fields.ts";

/** Fields of every mixture, to be spread into a kind's object. */
export const mixtureFields = {
  num_experts: count("experts in a layer, E", 4096).default(16),
  d_expert: width("width of an expert's hidden layer, F").default(4096),
};

/** The field `load_balance_coef` with a kind's own default. */
export function loadBalanceField(coefficient: number) {
  return z.number().min(0).max(1000).default(coefficient)
    .describe("coefficient of the load-balancing loss; 0 turns it off");
}

/** Sizes of a mixture of stored experts. */
export interface MixtureSection {
  /** Experts in a layer, E. */
  readonly num_experts: number;
  /** Width of an expert's hidden layer, F. */
  readonly d_expert: number;
  /** Coefficient of the load-balancing loss; 0 turns it off. */
  readonly load_balance_coef: number;
}
