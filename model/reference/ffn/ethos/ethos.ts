/**
 * The ETHOS feed-forward layer: the router chooses, the generated experts compute.
 *
 * @module
 */

import type { FfnSection } from "../../../section.ts";
import { type FeedForwardInput, type FeedForwardPass, under } from "../../layer.ts";
import { add, type Weights } from "../../matrix.ts";
import { route, type Routing } from "../product_key.ts";
import { experts } from "./experts.ts";

/** The section `model.ffn` of ETHOS. */
type EthosSection = Extract<FfnSection, { kind: "ethos" }>;

/** A forward pass of {@linkcode ethos}. */
export interface EthosPass extends FeedForwardPass {
  readonly auxiliary: number;
  readonly routing: Routing;
}

/**
 * The layer over the rows of `x`.
 *
 * @throws {RangeError} In training with batch norm and a single token.
 */
export function ethos(
  section: EthosSection,
  weights: Weights<string>,
  input: FeedForwardInput,
): EthosPass {
  const { x } = input;
  const { execution, load_balance_coef } = section;
  const routing = route(section, under(Object.entries(weights), "router."), input);
  const computed = experts(section, weights, {
    x,
    kept: routing,
    execution: execution === "naive" ? "naive" : "reordered",
  });
  const named = (values: Weights<string>) =>
    Object.fromEntries(
      Object.entries(values).map(([name, value]) => [`router.${name}`, value]),
    );
  return {
    y: computed.y,
    auxiliary: load_balance_coef * routing.balance,
    routing,
    statistics: named(routing.statistics),
    backward(gradient) {
      const inner = computed.backward(gradient);
      const router = routing.backward({ score: inner.score, balance: load_balance_coef });
      return {
        x: add(inner.x, router.x),
        weights: { ...inner.weights, ...named(router.weights) },
      };
    },
  };
}
