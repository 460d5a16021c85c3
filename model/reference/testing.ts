/**
 * Shared by the tests of the reference: random numbers from a seed, and central differences.
 *
 * @module
 */

import { assert } from "@std/assert";
import { architectureOf } from "../config.ts";
import { size } from "../layer/parameter.ts";
import type { ModelConfig } from "../section.ts";
import type { ModelChanges } from "../testing.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import { dot } from "./matrix.ts";

/** Sizes of attention in {@linkcode smallModel}. */
export const smallAttention = {
  kind: "mla",
  num_heads: 3,
  q_lora_rank: 5,
  kv_lora_rank: 3,
  d_nope: 3,
  d_rope: 4,
  d_v: 5,
  rope_base: 10000,
} as const;

/** Sizes of the experts in {@linkcode smallModel}. */
export const smallEthos = {
  kind: "ethos",
  router: "product_key",
  num_experts: 25,
  routing_heads: 3,
  top_k: 3,
  d_query: 6,
  router_batch_norm: true,
  load_balance_coef: 0,
  d_latent: 4,
  d_hidden: 7,
  d_context: 0,
  execution: "auto",
} as const;

/** Sizes of stored experts in the same model. */
export const smallPeer = {
  kind: "peer",
  num_experts: 25,
  routing_heads: 3,
  top_k: 3,
  d_query: 6,
  router_batch_norm: true,
  load_balance_coef: 0.3,
  execution: "auto",
} as const;

/** Sizes of the experts behind beams, in changes of {@linkcode smallModel}. */
export const smallBeam = {
  kind: "ethos",
  router: "beam",
  routing_heads: 3,
  top_k: 3,
  axes: 3,
  axis_query: 6,
  axis_size: 5,
  axis_candidates: 4,
  beam_width: 5,
  d_latent: 4,
  d_hidden: 7,
  d_context: 0,
  execution: "auto",
} as const;

const smallConfig: ModelConfig = {
  vocab_size: 11,
  d_model: 6,
  num_layers: 2,
  leading_dense: { num_layers: 1, d_ffn: 5 },
  attention: smallAttention,
  ffn: smallEthos,
  trunk: {
    norm: "rms",
    epsilon: 1e-6,
    positions: "none",
    max_positions: 6,
    residual: "sequential",
    head: "tied",
    dropout: 0,
  },
};

/** A small model of odd counts, with changes of single keys; widths are as odd as the mathematics allows. */
export function smallModel(changes: ModelChanges = {}): Architecture {
  const { attention, ffn, leading_dense, trunk, ...sizes } = changes;
  return architectureOf({
    ...smallConfig,
    ...sizes,
    leading_dense: { ...smallConfig.leading_dense, ...leading_dense },
    attention: attention?.["kind"] === undefined ? { ...smallAttention, ...attention } : attention,
    ffn: ffn?.["kind"] === undefined ? { ...smallEthos, ...ffn } : ffn,
    trunk: { ...smallConfig.trunk, ...trunk },
  } as ModelConfig);
}

/** Normal numbers from a seed. */
export function normals(seed: number): (count: number, std?: number) => Float64Array {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (((z ^ (z >>> 15)) >>> 0) + 0.5) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return (count, std = 1) => Float64Array.from({ length: count }, () => std * normal());
}

/** Every parameter and running statistic, spread so that no term hides behind another. */
export function randomTensors(
  architecture: Architecture,
  seed: number,
): Map<string, Float64Array> {
  const random = normals(seed);
  const tensors = new Map<string, Float64Array>();
  for (const spec of [...parameterSpecs(architecture), ...statisticSpecs(architecture)]) {
    const fanIn = spec.shape.length === 2 ? spec.shape[0]! : 1;
    const values = random(size(spec), spec.shape.length === 2 ? 1 / Math.sqrt(fanIn) : 0.2);
    tensors.set(spec.name, spec.init.kind === "ones" ? values.map((v) => 1.2 + v / 2) : values);
  }
  return tensors;
}

const STEP = 2e-5;
const TOLERANCE = 2e-8;
const SINGLE_ENTRIES = 3;

/**
 * Compares gradients with central differences of `value`, which reads `tensors` anew each time: for every tensor along two
 * directions that move all of its entries, and along a few single entries.
 */
export function assertGradients(
  value: () => number,
  tensors: Readonly<Record<string, Float64Array>>,
  gradients: Readonly<Record<string, Float64Array | undefined>>,
): void {
  const random = normals(7);
  for (const [name, tensor] of Object.entries(tensors)) {
    const gradient = gradients[name];
    assert(gradient !== undefined, `${name} has no gradient`);
    assert(gradient.length === tensor.length, `${name} has a gradient of another size`);
    const single = Array.from({ length: SINGLE_ENTRIES }, (_, i) => {
      const direction = new Float64Array(tensor.length);
      direction[Math.floor((i + 0.5) * tensor.length / SINGLE_ENTRIES)] = 1;
      return direction;
    });
    for (const direction of [random(tensor.length), random(tensor.length), ...single]) {
      const norm = Math.sqrt(dot(direction, direction));
      const saved = tensor.slice();
      const at = (step: number) => {
        tensor.forEach((_, i) => tensor[i] = saved[i]! + step * direction[i]! / norm);
        return value();
      };
      const central = (step: number) => (at(step) - at(-step)) / (2 * step);
      // Two steps cancel the error that grows with the square of the step.
      const numeric = (4 * central(STEP) - central(2 * STEP)) / 3;
      tensor.set(saved);
      const analytic = dot(gradient, direction) / norm;
      const scale = Math.max(1, Math.sqrt(dot(gradient, gradient)));
      assert(
        Math.abs(numeric - analytic) <= TOLERANCE * scale,
        `Gradient of ${name}: ${analytic} computed, ${numeric} by differences`,
      );
    }
  }
}
