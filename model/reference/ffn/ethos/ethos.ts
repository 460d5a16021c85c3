/**
 * The ETHOS feed-forward layer: the router chooses, the generated experts compute.
 *
 * @module
 */

import type { FfnSection } from "../../../section.ts";
import { type FeedForwardInput, type FeedForwardPass, need, under } from "../../layer.ts";
import { add, addScaled, matrix, row, type Weights } from "../../matrix.ts";
import { beamRoute, type BeamRouting } from "../beam.ts";
import { route, type Routing } from "../product_key.ts";
import { experts, type ExpertsPass } from "./experts.ts";

/** The section `model.ffn` of ETHOS. */
type EthosSection = Extract<FfnSection, { kind: "ethos" }>;

/** Its sections by router. */
type ProductKeySection = Extract<EthosSection, { router: "product_key" }>;
type BeamSection = Extract<EthosSection, { router: "beam" }>;

/** A forward pass behind the product-key router. */
export interface EthosPass extends FeedForwardPass {
  readonly auxiliary: number;
  readonly routing: Routing;
}

/** A forward pass behind the beam router. */
export interface BeamEthosPass extends FeedForwardPass {
  readonly routing: BeamRouting;
}

/** Values under the router's prefix. */
function ofRouter(values: Weights<string>): Weights<string> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [`router.${name}`, value]),
  );
}

/**
 * The layer over the rows of `x`.
 *
 * @throws {RangeError} In training with batch norm and a single token.
 */
export function ethos(
  section: ProductKeySection,
  weights: Weights<string>,
  input: FeedForwardInput,
): EthosPass;
export function ethos(
  section: EthosSection,
  weights: Weights<string>,
  input: FeedForwardInput,
): EthosPass | BeamEthosPass;
export function ethos(
  section: EthosSection,
  weights: Weights<string>,
  input: FeedForwardInput,
): EthosPass | BeamEthosPass {
  return section.router === "beam"
    ? behindBeams(section, weights, input)
    : behindProductKeys(section, weights, input);
}

/** The kept experts' codes are sums of rows of the factored table `z`, axes × axis_size × d_latent. */
function behindBeams(
  section: BeamSection,
  weights: Weights<string>,
  input: FeedForwardInput,
): BeamEthosPass {
  const { x } = input;
  const { axes, axis_size, d_latent } = section;
  const routing = beamRoute(section, under(Object.entries(weights), "router."), input);
  const z = matrix(axes * axis_size, d_latent, need(weights, ["z"]).z);
  const count = routing.score.length;
  const codes = matrix(count, d_latent);
  routing.index.forEach((at, i) => addScaled(row(codes, Math.floor(i / axes)), 1, row(z, at)));
  const computed: ExpertsPass = experts(
    { ...section, num_experts: count },
    { ...weights, z: codes.data },
    {
      x,
      kept: { index: Int32Array.from({ length: count }, (_, i) => i), score: routing.score },
      execution: section.execution === "naive" ? "naive" : "reordered",
    },
  );
  return {
    y: computed.y,
    routing,
    backward(gradient) {
      const inner = computed.backward(gradient);
      const gCodes = matrix(count, d_latent, inner.weights["z"]!);
      const gTable = matrix(z.rows, d_latent);
      routing.index.forEach((at, i) =>
        addScaled(row(gTable, at), 1, row(gCodes, Math.floor(i / axes)))
      );
      const router = routing.backward(inner.score);
      return {
        x: add(inner.x, router.x),
        weights: { ...inner.weights, z: gTable.data, ...ofRouter(router.weights) },
      };
    },
  };
}

function behindProductKeys(
  section: ProductKeySection,
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
  return {
    y: computed.y,
    auxiliary: load_balance_coef * routing.balance,
    routing,
    statistics: ofRouter(routing.statistics),
    backward(gradient) {
      const inner = computed.backward(gradient);
      const router = routing.backward({ score: inner.score, balance: load_balance_coef });
      return {
        x: add(inner.x, router.x),
        weights: { ...inner.weights, ...ofRouter(router.weights) },
      };
    },
  };
}
