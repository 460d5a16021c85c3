/**
 * Memory of one layer's forward pass as the batch grows.
 *
 * @module
 */

import { buildPlans } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Plan } from "../../gpu/plan.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { Arena } from "../../gpu/memory.ts";
import { LayerContext } from "../../layer/context.ts";
import { Weights } from "../../layer/weights.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { weightSpecs } from "../../trunk/parameters.ts";

/** Memory at one size of the batch. */
export interface MemoryPoint {
  /** Sequences in the batch, B. */
  readonly sequences: number;
  /** Bytes of weights, input, output and everything between, without copies in textures: software adapters make them where they save time, not in proportion. */
  readonly bytes: number;
}

/** Memory of a layer's forward pass over sequences of one length. */
export interface LayerMemory {
  /** Tokens of a sequence. */
  readonly length: number;
  /** Bytes of the layer's weights. */
  readonly weights: number;
  readonly points: readonly MemoryPoint[];
  /** Bytes that do not depend on the batch, and bytes that each sequence adds: least squares of `a + b·B`. */
  readonly fit: { readonly a: number; readonly b: number };
  /** Bytes a sequence between one point and the next. They may not grow. */
  readonly slopes: readonly number[];
}

/** Allocates the forward pass of the last layer's feed-forward for batches of these sizes, and frees it. */
export async function layerMemory(
  gpu: Gpu,
  options: {
    readonly architecture: Architecture;
    readonly length: number;
    readonly sequences: readonly number[];
    readonly precision: "f32" | "mixed";
  },
): Promise<LayerMemory> {
  const { architecture, length, sequences, precision } = options;
  const { d_model, num_layers } = architecture.config;
  const i = num_layers - 1;
  const at = `layers.${i}.ffn`;
  const specs = weightSpecs(architecture).filter(({ name }) => name.startsWith(`${at}.`));
  const weights = new Weights(gpu, specs, { train: false, precision });
  const held = weights.memory.reduce((sum, { bytes }) => sum + bytes, 0);
  const points: MemoryPoint[] = [];
  try {
    for (const batch of sequences) {
      const plan = new Plan(gpu, "layer");
      const context = new LayerContext(plan, weights, { batch, length, mode: "evaluate" });
      const x = new Tensor("x", [batch * length, d_model], { dtype: context.operandType });
      const residual = new Tensor("residual", [batch * length, d_model], {});
      const arenas = [x, residual].map((tensor) => new Arena(gpu, tensor.name, [tensor]));
      try {
        const { y } = architecture.feedForward(i).forward(context, at, { x, residual });
        plan.keep(y);
        const built = await buildPlans(gpu, [plan]);
        const inputs = arenas.reduce((sum, { bytes }) => sum + bytes, 0);
        const between = built.pool.bytes - built.pool.copies;
        points.push({ sequences: batch, bytes: held + inputs + between });
        built.destroy();
      } finally {
        for (const arena of arenas) arena.destroy();
      }
    }
  } finally {
    weights.destroy();
  }
  return { length, weights: held, points, ...fitLine(points) };
}

/** Fits `a + b·B`, and the slopes between one point and the next. */
export function fitLine(points: readonly MemoryPoint[]): Pick<LayerMemory, "fit" | "slopes"> {
  const mean = (of: (point: MemoryPoint) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [x, y] = [mean(({ sequences }) => sequences), mean(({ bytes }) => bytes)];
  const b = mean((point) => (point.sequences - x) * (point.bytes - y)) /
    mean((point) => (point.sequences - x) ** 2);
  return {
    fit: { a: y - b * x, b },
    slopes: points.slice(1).map((point, i) =>
      (point.bytes - points[i]!.bytes) / (point.sequences - points[i]!.sequences)
    ),
  };
}
