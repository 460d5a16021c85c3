/**
 * How claims, rules and figures are written.
 *
 * @module
 */

import { fixed } from "../facts.ts";
import { compact } from "../figures/series.ts";
import type { Claim, Estimate, Unit } from "./claim.ts";

/** A value in its unit. */
export function amount(value: number, unit: Unit): string {
  switch (unit) {
    case "parameters":
      return value >= 1e9
        ? `${Number((value / 1e9).toPrecision(4))} B`
        : `${Number((value / 1e6).toPrecision(5))} M`;
    case "tokens/s":
      return `${Math.round(value).toLocaleString("en-US")} tokens/s`;
    case "times":
      return `${fixed(Number(value.toPrecision(3)), value < 10 ? 2 : 1)} ×`;
    case "share":
      return `${Number((100 * value).toPrecision(3))} %`;
    case "nats":
      return `${fixed(value, 3)} nats`;
    case "FLOP":
      return `${compact(value).replace(" B", " G")}FLOP`;
    case "bytes":
      return `${Number((value / 1e6).toPrecision(4))} MB`;
    case "number":
      return Math.abs(value) >= 1000
        ? Math.round(value).toLocaleString("en-US")
        : String(Number(value.toPrecision(3))).replace("-", "−");
    case "perplexity":
      return fixed(value, 2);
    case "milliseconds":
      return `${Number(value.toPrecision(4))} ms`;
  }
}

/** A figure, with its interval where it has one. */
export function estimateText({ value, low, high }: Estimate, unit: Unit): string {
  const text = amount(value, unit);
  return low === undefined || high === undefined
    ? text
    : `${text} (95 %: ${amount(low, unit)} to ${amount(high, unit)})`;
}

/** The claimed value and the rule that a figure is judged by. */
export function claimedText({ claimed, rule }: Pick<Claim, "claimed" | "rule">): string {
  const value = amount(claimed.value, claimed.unit);
  const judged = (() => {
    switch (rule.kind) {
      case "near":
        return rule.relative === 0
          ? `exactly ${value}`
          : `${value} within ${amount(rule.relative, "share")}`;
      case "at_least":
        return `at least ${value}`;
      case "at_most":
        return `at most ${value}`;
      case "between":
        return `${amount(rule.low, claimed.unit)} to ${amount(rule.high, claimed.unit)}`;
      case "above":
        return `more than ${value}`;
    }
  })();
  return claimed.ours ? `no number; judged: ${judged}` : judged;
}
