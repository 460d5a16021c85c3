/**
 * The parameters of a model. Everything that allocates, initialises, optimises, saves or counts them walks this one list.
 *
 * @module
 */

import {
  ones,
  type ParameterSpec,
  type StatisticSpec,
  vector,
  weight,
  zeros,
} from "../layer/parameter.ts";
import type { WeightSpec } from "../layer/weights.ts";
import type { Architecture } from "./architecture.ts";

/** Gain and, of a layer norm, bias under the prefix `at`. */
function norm({ config }: Architecture, at: string): ParameterSpec[] {
  const role = "norm";
  const gain = vector(`${at}.weight`, config.d_model, { role, init: ones });
  if (config.trunk.norm === "rms") return [gain];
  return [gain, vector(`${at}.bias`, config.d_model, { role, init: zeros })];
}

/** The trained parameters of a model, in the order of the forward pass. */
export function parameterSpecs(architecture: Architecture): ParameterSpec[] {
  const { config, attention } = architecture;
  const { d_model, vocab_size, num_layers, trunk } = config;
  const specs = [weight("embed.weight", [vocab_size, d_model], { role: "embedding" })];
  if (trunk.positions === "learned") {
    specs.push(weight("position.weight", [trunk.max_positions, d_model], { role: "embedding" }));
  }
  for (let i = 0; i < num_layers; i++) {
    const at = `layers.${i}`;
    specs.push(
      ...norm(architecture, `${at}.attn_norm`),
      ...attention.parameters(`${at}.attn`),
      ...norm(architecture, `${at}.ffn_norm`),
      ...architecture.feedForward(i).parameters(`${at}.ffn`),
    );
  }
  specs.push(...norm(architecture, "final_norm"));
  if (trunk.head === "own") {
    specs.push(weight("head.weight", [vocab_size, d_model], { role: "head" }));
  }
  return specs;
}

/** The running statistics of a model, in the order of the forward pass. */
export function statisticSpecs(architecture: Architecture): StatisticSpec[] {
  return Array.from({ length: architecture.config.num_layers }, (_, i) => i)
    .flatMap((i) => architecture.feedForward(i).statistics(`layers.${i}.ffn`));
}

/** Everything that a model allocates: parameters, then running statistics. */
export function weightSpecs(architecture: Architecture): WeightSpec[] {
  return [
    ...parameterSpecs(architecture).map((spec) => ({ ...spec, trained: true })),
    ...statisticSpecs(architecture).map((spec) => ({ ...spec, decay: false, trained: false })),
  ];
}
