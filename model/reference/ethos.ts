/**
 * The ETHOS feed-forward layer: the router chooses, the generated experts compute.
 *
 * @module
 */

import type { ModelConfig } from "../config.ts";
import {
  type ExpertExecution,
  type ExpertName,
  type Experts,
  expertsBackward,
  expertsForward,
  type ExpertSizes,
  type ExpertWeights,
} from "./experts.ts";
import { add, type Matrix, type Weights } from "./matrix.ts";
import {
  routerBackward,
  routerForward,
  type RouterName,
  type RouterOptions,
  type RouterSizes,
  type RouterWeights,
  type Routing,
} from "./router.ts";

/** Sizes that the layer reads. */
export type EthosSizes = RouterSizes & ExpertSizes & Pick<ModelConfig, "load_balance_coef">;

/** Names of the layer's weights and running statistics, after `layers.N.ffn.`. */
export type EthosName = ExpertName | `router.${RouterName}`;

/** Weights by name; those that the configuration turns off are absent. */
export type EthosWeights = Partial<Weights<EthosName>>;

/** What {@linkcode ethosForward} returns; the input of {@linkcode ethosBackward}. */
export interface Ethos {
  /** Output, tokens × d_model. */
  readonly y: Matrix;
  /** The load-balance term with its coefficient: part of what is minimised. */
  readonly auxiliary: number;
  /** What the router decided. */
  readonly routing: Routing;
  /** What the experts computed. */
  readonly experts: Experts;
  /** Sizes of the layer. */
  readonly sizes: EthosSizes;
}

/** The weights whose names start with `prefix`, without it. */
function strip<Name extends string>(weights: EthosWeights, prefix: string): Partial<Weights<Name>> {
  return Object.fromEntries(
    Object.entries(weights)
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => [name.slice(prefix.length), value]),
  ) as Partial<Weights<Name>>;
}

/** Checks that `weights` has every name. @throws {Error} Naming one that is missing. */
function need<Name extends string>(
  weights: Partial<Weights<string>>,
  names: readonly Name[],
): Weights<Name> {
  for (const name of names) {
    if (weights[name] === undefined) throw new Error(`ETHOS layer needs the weight ${name}`);
  }
  return weights as Weights<Name>;
}

/**
 * The layer's output for `x`, tokens × d_model (normalised by the caller).
 *
 * @throws {RangeError} In training with batch norm and a single token.
 */
export function ethosForward(
  sizes: EthosSizes,
  weights: EthosWeights,
  input: { x: Matrix; execution?: ExpertExecution } & RouterOptions,
): Ethos {
  const { x, execution = "reordered" } = input;
  const router: RouterWeights = need(strip<RouterName>(weights, "router."), [
    "w_q",
    "b_q",
    "k1",
    "k2",
  ]);
  const routing = routerForward(sizes, router, input);
  const generator: ExpertWeights = need(weights, ["z", "w1", "w_u", "w_v"]);
  const experts = expertsForward(sizes, generator, { x, kept: routing, execution });
  const auxiliary = sizes.load_balance_coef * routing.balance;
  return { y: experts.y, auxiliary, routing, experts, sizes };
}

/** Gradients of the input and of every weight, of what `gradient` is upstream of plus the auxiliary loss. */
export function ethosBackward(
  saved: Ethos,
  gradient: Matrix,
): { x: Matrix; weights: EthosWeights } {
  const experts = expertsBackward(saved.experts, gradient);
  const router = routerBackward(saved.routing, {
    score: experts.score,
    balance: saved.sizes.load_balance_coef,
  });
  const named = Object.entries(router.weights).map(([name, value]) => [`router.${name}`, value]);
  return {
    x: add(experts.x, router.x),
    weights: { ...experts.weights, ...Object.fromEntries(named) },
  };
}
