/**
 * The ETHOS layer, as a kind of feed-forward layer: a router to experts that a hypernetwork generates.
 *
 * @module
 */

import type {
  FeedForward,
  FeedForwardFlopOptions,
  Flops,
  Kind,
  TrunkSizes,
} from "../../layer/kind.ts";
import { type ParameterSpec, residualStd, size, weight } from "../../layer/parameter.ts";
import { ethosBench } from "./bench.ts";
import { chooseExecution, ethosBackward, ethosForward } from "./ethos.ts";
import { routerOf } from "./router.ts";
import { ethosSchema, type EthosSection, expertsOf } from "./schema.ts";

function parameters(ethos: EthosSection, trunk: TrunkSizes, at: string): ParameterSpec[] {
  const { d_latent, d_hidden, d_context } = ethos;
  const { d_model } = trunk;
  const router = routerOf(ethos);
  const role = "generator";
  return [
    ...router.parameters(trunk, `${at}.router`),
    weight(`${at}.z`, router.table, { role: "latent", std: router.std }),
    weight(`${at}.w1`, [d_latent + d_context, d_hidden], { role, std: 1 / Math.sqrt(d_latent) }),
    weight(`${at}.w_u`, [d_model, d_hidden], { role }),
    weight(`${at}.w_v`, [d_hidden, d_model], { role, std: residualStd(trunk) }),
    ...(d_context > 0 ? [weight(`${at}.w_c`, [d_model, d_context], { role })] : []),
  ];
}

/** Active: everything but the codes that a token did not keep. Theoretical: `u` and `v` stored for every expert. */
function counts(ethos: EthosSection, trunk: TrunkSizes): FeedForward["counts"] {
  const byRole = { router: 0, latent: 0, generator: 0 };
  for (const spec of parameters(ethos, trunk, "ffn")) {
    byRole[spec.role as keyof typeof byRole] += size(spec);
  }
  const { rows } = routerOf(ethos);
  return {
    active: byRole.router + byRole.generator + rows * ethos.d_latent,
    theoretical: byRole.router + expertsOf(ethos) * 2 * trunk.d_model,
  };
}

function flops(ethos: EthosSection, trunk: TrunkSizes, options: FeedForwardFlopOptions): Flops {
  const { tokensPerStep } = options;
  const { d_latent, d_hidden, d_context } = ethos;
  const { d_model } = trunk;
  const product = (inputs: number, outputs: number) => 2 * inputs * outputs;
  const kept = ethos.routing_heads * ethos.top_k;
  const needTokens = () => {
    if (tokensPerStep !== undefined && tokensPerStep > 0) return tokensPerStep;
    throw new RangeError(
      `Counting ${options.generation} generation needs the tokens of a step, got ${tokensPerStep}`,
    );
  };
  const generation = options.generation === "as_run"
    ? chooseExecution(ethos, needTokens(), options)
    : options.generation;
  let generated = kept * product(d_latent, d_hidden);
  // Behind beams there are too many experts to generate every one.
  if (ethos.router === "product_key" && generation === "materialized") {
    generated = ethos.num_experts * product(d_latent, d_hidden) / needTokens();
  }
  if (d_context > 0) generated += product(d_model, d_context) + product(d_context, d_hidden);
  const applied = generation === "naive"
    ? kept * (2 * product(d_hidden, d_model) + 2 * product(d_model, 1))
    : 2 * product(d_model, d_hidden) + kept * 2 * product(d_hidden, 1);
  return { router: routerOf(ethos).flops(trunk), generation: generated, experts: applied };
}

/** The ETHOS layer. */
export const kind: Kind<EthosSection, FeedForward> = {
  schema: ethosSchema,
  runtime: { execution: "auto" },
  create: (ethos, trunk) => ({
    parameters: (at) => parameters(ethos, trunk, at),
    statistics: (at) => routerOf(ethos).statistics(`${at}.router`),
    counts: counts(ethos, trunk),
    flops: (options) => flops(ethos, trunk, options),
    problems: (tokens) => routerOf(ethos).problems(tokens),
    upcycled:
      "its experts are generated from latent codes by matrices that all share, so none can be a copy of a dense layer",
    bench: ethosBench(ethos),
    forward(context, at, input) {
      const { y, saved, balance } = ethosForward(context, at, { ...input, ethos });
      return {
        y,
        backward: (dy, options) => ethosBackward(context, at, { ethos, dy, saved, ...options }),
        ...(balance && { auxiliary: balance }),
        use: saved.router!.use,
      };
    },
  }),
};
