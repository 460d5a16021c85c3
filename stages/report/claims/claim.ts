/**
 * A claim of a source, the rule that decides it, and the verdict on a figure.
 *
 * @module
 */

import type { CountKey } from "./count_keys.ts";

/** The sources whose claims are judged. */
export type Source = "ethos" | "peer" | "sparse_moe";

/** Unit of a claimed value, which is also how figures are written. */
export type Unit =
  | "parameters"
  | "tokens/s"
  | "times"
  | "share"
  | "nats"
  | "FLOP"
  | "bytes"
  | "number"
  | "perplexity"
  | "milliseconds";

/** How a figure decides a claim. */
export type Rule =
  /** It differs from the claimed value by at most this fraction of it. */
  | { readonly kind: "near"; readonly relative: number }
  /** It reaches the claimed value. */
  | { readonly kind: "at_least" }
  /** It does not exceed the claimed value. */
  | { readonly kind: "at_most" }
  /** It lies between two values. */
  | { readonly kind: "between"; readonly low: number; readonly high: number }
  /** Its interval lies above the claimed value; undecided where the interval holds it. */
  | { readonly kind: "above" };

/** A path into JSON: a key, or the fields that pick one element of a list. */
export type JsonPath = readonly (string | Readonly<Record<string, string | number>>)[];

/** Rows of a CSV file. */
export interface Rows {
  /** Path under `results/`. */
  readonly csv: string;
  /** Columns and the values that a row has to have. */
  readonly where: Readonly<Record<string, string>>;
}

/** One number of a committed file. */
export type FileValue =
  | {
    readonly json: string;
    readonly at: JsonPath;
    /** Factor to the claim's unit. */
    readonly scale?: number;
  }
  | Rows & {
    readonly column: string;
    /** Of the rows those with the largest value in this column; several are averaged. */
    readonly latest?: string;
    /** Factor to the claim's unit. */
    readonly scale?: number;
    /** Whether columns `COLUMN_low` and `COLUMN_high` hold an interval. */
    readonly interval?: true;
  };

/** A figure that can decide a claim, and what it is a figure of. */
export type Evidence =
  & {
    /** The quantity that was measured or counted, and where. */
    readonly label: string;
  }
  & (
    | { readonly count: CountKey }
    | { readonly value: FileValue }
    | { readonly ratio: readonly [FileValue, FileValue] }
    /** A coefficient of `y = a − b ln x` fitted to rows. */
    | {
      readonly fit: Rows & { readonly x: string; readonly y: string };
      readonly take: "a" | "b" | "r2";
    }
  );

/** Quantities that a report has of its own run. */
export type RunQuantity =
  | "stored"
  | "active"
  | "theoretical"
  | "tokens_per_second"
  | "fit_r2"
  | "fit_b"
  | "perplexity"
  | "nats"
  | "expert_usage"
  | "expert_variation"
  | "execution_speed"
  | "execution_memory"
  | "batch_norm"
  | "dense"
  | "latent_exponent";

/** Why no figure decides a claim. */
export interface Open {
  readonly verdict: "not measured yet" | "not testable here";
  readonly reason: string;
  /** A figure that is near the claim and does not decide it. */
  readonly beside?: Evidence;
}

/** A claimed value. */
export interface Claimed {
  readonly value: number;
  readonly unit: Unit;
  /** Whether the source gives no number, so that this one is ours. */
  readonly ours?: true;
}

/** One claim. */
export interface Claim {
  readonly source: Source;
  /** Where the source states it. */
  readonly place: string;
  /** The claim, as a sentence. */
  readonly statement: string;
  readonly claimed: Claimed;
  readonly rule: Rule;
  /** Figures from committed files and from counts; with none of them `open` says why. */
  readonly figures: readonly Evidence[];
  /** A part of the claim that no figure decides, or the whole of it. */
  readonly open?: Open;
  /** The quantity of a report's own run that the claim is about. */
  readonly run?: RunQuantity;
}

/** A value with its interval, where it has one. */
export interface Estimate {
  readonly value: number;
  readonly low?: number | undefined;
  readonly high?: number | undefined;
}

/** The verdict on one figure. */
export type Verdict =
  | "holds"
  | "does not hold"
  | "undecided"
  | "not measured yet"
  | "not testable here";

/**
 * Decides a claim by a figure.
 *
 * @example
 * ```ts
 * import { judge } from "./claim.ts";
 * const claim = { claimed: { value: 8, unit: "times" }, rule: { kind: "at_least" } } as const;
 * console.assert(judge(claim, { value: 8.1 }) === "holds");
 * ```
 */
export function judge(
  { claimed, rule }: Pick<Claim, "claimed" | "rule">,
  { value, low = value, high = value }: Estimate,
): Verdict {
  const decided = (holds: boolean): Verdict => holds ? "holds" : "does not hold";
  switch (rule.kind) {
    case "near":
      return decided(Math.abs(value - claimed.value) <= rule.relative * Math.abs(claimed.value));
    case "at_least":
      return decided(value >= claimed.value);
    case "at_most":
      return decided(value <= claimed.value);
    case "between":
      return decided(value >= rule.low && value <= rule.high);
    case "above":
      return low > claimed.value ? "holds" : high < claimed.value ? "does not hold" : "undecided";
  }
}
