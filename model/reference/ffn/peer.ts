/**
 * The PEER feed-forward layer: `y = Σ gelu(x · u_i) · s · v_i` over the experts that the product-key router keeps.
 *
 * @module
 */

import type { FfnSection } from "../../section.ts";
import { gelu, geluDerivative } from "../activation.ts";
import { type FeedForwardInput, type FeedForwardPass, need, under } from "../layer.ts";
import { add, addScaled, dot, matrix, row, type Weights } from "../matrix.ts";
import { route, type Routing } from "./product_key.ts";

/** A forward pass of {@linkcode peer}. */
export interface PeerPass extends FeedForwardPass {
  readonly auxiliary: number;
  readonly routing: Routing;
}

/**
 * The layer over the rows of `x`.
 *
 * @throws {RangeError} In training with batch norm and a single token.
 */
export function peer(
  section: Extract<FfnSection, { kind: "peer" }>,
  weights: Weights<string>,
  input: FeedForwardInput,
): PeerPass {
  const { x } = input;
  const { num_experts, load_balance_coef } = section;
  const named = need(weights, ["u", "v"]);
  const u = matrix(num_experts, x.columns, named.u);
  const v = matrix(num_experts, x.columns, named.v);
  const routing = route(section, under(Object.entries(weights), "router."), input);
  const { index, score } = routing;
  const tokenOf = (i: number) => Math.floor(i * x.rows / index.length);
  const y = matrix(x.rows, x.columns);
  const projection = Float64Array.from(index, (e, i) => dot(row(u, e), row(x, tokenOf(i))));
  index.forEach((expert, i) => {
    addScaled(row(y, tokenOf(i)), gelu(projection[i]!) * score[i]!, row(v, expert));
  });
  const prefixed = (values: Weights<string>) =>
    Object.fromEntries(Object.entries(values).map(([name, value]) => [`router.${name}`, value]));
  return {
    y,
    auxiliary: load_balance_coef * routing.balance,
    routing,
    statistics: prefixed(routing.statistics),
    backward(gradient) {
      const gX = matrix(x.rows, x.columns);
      const gU = matrix(num_experts, x.columns);
      const gV = matrix(num_experts, x.columns);
      const gScore = new Float64Array(index.length);
      index.forEach((expert, i) => {
        const token = tokenOf(i);
        const active = gelu(projection[i]!);
        const gA = dot(row(v, expert), row(gradient, token));
        const gProjection = gA * score[i]! * geluDerivative(projection[i]!);
        gScore[i] = gA * active;
        addScaled(row(gX, token), gProjection, row(u, expert));
        addScaled(row(gU, expert), gProjection, row(x, token));
        addScaled(row(gV, expert), active * score[i]!, row(gradient, token));
      });
      const router = routing.backward({ score: gScore, balance: load_balance_coef });
      return {
        x: add(gX, router.x),
        weights: { u: gU.data, v: gV.data, ...prefixed(router.weights) },
      };
    },
  };
}
