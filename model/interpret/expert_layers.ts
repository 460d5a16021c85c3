/**
 * The layers of a model that have experts, and the names of those.
 *
 * An expert is one number in a layer's router, or behind beams an id on each axis, of which its name is made: `17`, `3.0.6`.
 *
 * @module
 */

import type { Architecture } from "../trunk/architecture.ts";

/** A layer with experts. */
export interface ExpertLayer {
  /** Number of the layer, from 0. */
  readonly layer: number;
  /** Prefix of its weights' names: `layers.3.ffn`. */
  readonly at: string;
  /** Kind of the layer: `ethos`, `peer`, `switch`, `topk_moe`. */
  readonly kind: string;
  /** Experts, N; behind beams `axis_size` to the power of `axes`, rounded to float64. */
  readonly experts: number;
  /** Experts that a token keeps at most, M. */
  readonly kept: number;
  /** Numbers that the router gives for an expert: 1, or the axes of beams, A. */
  readonly axes: number;
  /** Ids on an axis; N where there is one axis. */
  readonly axis_size: number;
}

/** The layers with experts of a model; none in a dense one, or where layers were replaced by others. */
export function expertLayers({ config }: Pick<Architecture, "config">): ExpertLayer[] {
  const { ffn, leading_dense, num_layers } = config;
  const sizes = sizesOf(ffn);
  if (!sizes) return [];
  const layers: ExpertLayer[] = [];
  for (let layer = leading_dense.num_layers; layer < num_layers; layer++) {
    layers.push({ layer, at: `layers.${layer}.ffn`, kind: ffn.kind, ...sizes });
  }
  return layers;
}

function sizesOf(
  ffn: Architecture["config"]["ffn"],
): Pick<ExpertLayer, "experts" | "kept" | "axes" | "axis_size"> | undefined {
  switch (ffn.kind) {
    case "dense":
      return undefined;
    case "switch":
    case "topk_moe": {
      const { num_experts: experts } = ffn;
      const kept = ffn.kind === "switch" ? 1 : ffn.top_k;
      return { experts, kept, axes: 1, axis_size: experts };
    }
    default: {
      const kept = ffn.routing_heads * ffn.top_k;
      if ("axes" in ffn) {
        const { axes, axis_size } = ffn;
        return { experts: axis_size ** axes, kept, axes, axis_size };
      }
      const { num_experts: experts } = ffn;
      return { experts, kept, axes: 1, axis_size: experts };
    }
  }
}

/**
 * The layer of a number.
 *
 * @throws {RangeError} If it has no experts, naming those that have.
 */
export function expertLayer(layers: readonly ExpertLayer[], layer: number): ExpertLayer {
  const found = layers.find((each) => each.layer === layer);
  if (found) return found;
  if (layers.length === 0) throw new RangeError("The model has no layer with experts");
  const all = layers.map((each) => each.layer).join(", ");
  throw new RangeError(`Layer ${layer} has no experts; expected one of ${all}`);
}

/** Name of the expert whose numbers begin at `from` of a router's index. */
export function expertName(
  { axes, axis_size }: Pick<ExpertLayer, "axes" | "axis_size">,
  index: ArrayLike<number>,
  from = 0,
): string {
  if (axes === 1) return String(index[from]);
  const ids: number[] = [];
  // Ids are rows of a table that has those of one axis after those of another.
  for (let axis = 0; axis < axes; axis++) ids.push(index[from + axis]! - axis * axis_size);
  return ids.join(".");
}

/**
 * The router's numbers of an expert.
 *
 * @throws {RangeError} If the layer has no such expert.
 */
export function expertNumbers(layer: ExpertLayer, name: string): number[] {
  const { axes, axis_size } = layer;
  const parts = name.split(".");
  const valid = parts.length === axes &&
    parts.every((part) => /^\d+$/.test(part) && Number(part) < axis_size);
  if (!valid) {
    const expected = axes === 1
      ? `a number from 0 to ${axis_size - 1}`
      : `${axes} numbers from 0 to ${axis_size - 1} with dots between them`;
    throw new RangeError(`Layer ${layer.layer} has no expert ${name}; expected ${expected}`);
  }
  return parts.map((part, axis) => axis * axis_size + Number(part));
}
