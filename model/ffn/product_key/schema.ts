/**
 * The fields of a product-key router in a kind's section. Defaults are the paper's values.
 *
 * @module
 */

import { z } from "zod";
import { count, width } from "../../layer/fields.ts";

/** Fields of the router, to be spread into a kind's object. */
export const productKeyFields = {
  num_experts: z.int("num_experts must be a whole number").min(4).max(2 ** 24)
    .refine((n) => Number.isInteger(Math.sqrt(n)), {
      error: (issue) => {
        const root = Math.floor(Math.sqrt(Number(issue.input)));
        return `${issue.input} is not a perfect square; ${root ** 2} and ${(root + 1) ** 2} are`;
      },
    })
    .default(262144)
    .describe("experts in a layer, N = K²: an expert is a pair of K sub-keys"),
  routing_heads: count("routing heads, H", 256).default(8),
  top_k: count("experts kept per head, k", 64).default(16),
  d_query: width("query width per routing head, both halves together").default(512),
  router_batch_norm: z.boolean().default(true)
    .describe("normalise the router's queries over the micro-batch"),
  load_balance_coef: z.number().min(0).max(1000).default(0)
    .describe("coefficient of the load-balancing loss; 0 turns it off"),
  choice: z.enum(["top_k", "mass", "threshold"]).optional().describe(
    "how many of a head's top_k experts a token keeps: all, the best that come to a mass of the softmax over them, or those above a threshold of it; top_k unless given",
  ),
  mass: z.number().gt(0).max(1).optional()
    .describe("with choice mass: the part of the softmax that a head's kept experts come to"),
  threshold: z.number().gt(0).max(1).optional()
    .describe("with choice threshold: the least score of the softmax that an expert is kept for"),
  min_k: count(
    "with choice mass or threshold: experts that a head keeps at least, 1 unless given",
    64,
  )
    .optional(),
};

/** Sizes of a product-key router. */
export interface ProductKeySection {
  /** Experts in a layer, `N = K²`. */
  readonly num_experts: number;
  /** Routing heads, H. */
  readonly routing_heads: number;
  /** Experts kept per routing head, k; at most K. */
  readonly top_k: number;
  /** Query width per routing head, both halves together; a multiple of 8. */
  readonly d_query: number;
  /** Whether queries are normalised over the micro-batch. */
  readonly router_batch_norm: boolean;
  /** Coefficient of the load-balancing loss; 0 turns it off. */
  readonly load_balance_coef: number;
  /** How many of the `top_k` a token keeps; all unless given. */
  readonly choice?: "top_k" | "mass" | "threshold" | undefined;
  /** The part of the softmax that a head's kept experts come to, with that choice. */
  readonly mass?: number | undefined;
  /** The least score that an expert is kept for, with that choice. */
  readonly threshold?: number | undefined;
  /** Experts that a head keeps at least, with either choice; 1 unless given. */
  readonly min_k?: number | undefined;
}

/** Sub-keys on an axis, `K = √N`. */
export function subKeys({ num_experts }: Pick<ProductKeySection, "num_experts">): number {
  return Math.round(Math.sqrt(num_experts));
}

/** Rules between the fields, for `superRefine`. */
export function checkProductKey(
  section: ProductKeySection,
  context: z.core.$RefinementCtx<ProductKeySection>,
): void {
  const { num_experts, top_k, d_query } = section;
  const { choice = "top_k", min_k } = section;
  type Key = "top_k" | "d_query" | "mass" | "threshold" | "min_k";
  const issue = (key: Key, message: string) =>
    context.addIssue({ code: "custom", path: [key], message, input: section[key] });
  const keys = subKeys(section);
  if (top_k > keys) {
    issue(
      "top_k",
      `${top_k} is more than the ${keys} sub-keys of an axis (the square root of num_experts ${num_experts}); at most ${keys}`,
    );
  }
  for (const key of ["mass", "threshold"] as const) {
    if (choice === key && section[key] === undefined) {
      issue(key, `choice ${choice} needs it, a number above 0 and at most 1`);
    }
    if (choice !== key && section[key] !== undefined) {
      issue(key, `${section[key]} has no effect with choice ${choice}; it goes with choice ${key}`);
    }
  }
  if (min_k !== undefined && choice === "top_k") {
    issue("min_k", `${min_k} has no effect with choice top_k; it goes with mass and threshold`);
  }
  if (min_k !== undefined && min_k > top_k) {
    issue("min_k", `${min_k} is more than top_k ${top_k}`);
  }
  if (d_query % 8 !== 0) {
    const below = Math.floor(d_query / 8) * 8;
    issue(
      "d_query",
      `${d_query} is not a multiple of 8; each half must be a multiple of 4, so ${below || 8} or ${
        below + 8
      }`,
    );
  }
}

/** Which of a head's `top_k` experts a token keeps, as numbers; undefined where it keeps all. */
export function keepRule(
  { choice = "top_k", mass, threshold, min_k = 1 }: ProductKeySection,
):
  | { readonly by: "mass" | "threshold"; readonly least: number; readonly min_k: number }
  | undefined {
  const least = choice === "mass" ? mass : threshold;
  if (choice === "top_k" || least === undefined) return undefined;
  return { by: choice, least, min_k };
}
