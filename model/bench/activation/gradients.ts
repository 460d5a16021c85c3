/**
 * Gradients of one layer with experts, at its own weights: which of them are zero, and whether finite differences agree.
 *
 * @module
 */

import { buildPlans } from "../../gpu/build.ts";
import { Arena } from "../../gpu/memory.ts";
import { Plan } from "../../gpu/plan.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { download, downloadParts, upload, uploadParts } from "../../gpu/transfer.ts";
import type { InferenceModel } from "../../inference/model.ts";
import { LayerContext } from "../../layer/context.ts";
import { Weights } from "../../layer/weights.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { weightSpecs } from "../../trunk/parameters.ts";
import { normalNumbers } from "../measure/synthetic_tokens.ts";

/** A finite difference along a parameter's own gradient. */
export interface Difference {
  /** Name within the layer: `w1`. */
  readonly name: string;
  /** Length of the gradient, by which the loss rises a unit of the step. */
  readonly gradient: number;
  /** The same from the losses on both sides of the weights. */
  readonly difference: number;
  /** How far the second is from the first, as a fraction of it. */
  readonly relative: number;
}

/** Gradients of a layer, with the load-balance term or without. */
export interface LayerGradients {
  /** Number of the layer. */
  readonly layer: number;
  /** Whether the load-balance term is on. */
  readonly balanced: boolean;
  readonly tokens: number;
  /** Experts that no token keeps. */
  readonly unused: number;
  /** Whether the weights of unused experts have a gradient of exactly zero. */
  readonly unused_are_zero: boolean;
  /** Whether the weights of every used expert have one that is not. */
  readonly used_are_not: boolean;
  /**
   * The gradients of the gate's columns of unused experts: `zero` where only kept logits count, `nonzero` where all do, as with the balance
   * term; `none` without unused experts.
   */
  readonly unused_columns: "zero" | "nonzero" | "some" | "none";
  readonly finite: boolean;
  readonly differences: readonly Difference[];
}

/** Coefficient of the load-balance term where it is on. */
const COEFFICIENT = 0.01;
/** Step of a difference, as a fraction of the weights' length. */
const STEP = 1 / 256;
/** Times that a step is quartered until both sides keep the experts that the weights themselves keep. */
const SHORTENINGS = 8;

/**
 * Checks a layer. So few random tokens pass that some experts get none, where a layer has more of them than a token keeps.
 *
 * @param model Its weights are read, and stay.
 * @throws {RangeError} If the layer has no experts.
 */
export async function layerGradients(
  model: InferenceModel,
  options: { readonly layer: number; readonly balanced: boolean; readonly seed: number },
): Promise<LayerGradients> {
  const { gpu } = model;
  const { layer, balanced, seed } = options;
  const { d_model } = model.config;
  const architecture = checked(model.architecture, balanced);
  const { num_experts, top_k } = sizesOf(architecture);
  const tokens = Math.max(1, Math.floor((num_experts - 1) / top_k));
  const at = `layers.${layer}.ffn`;
  const specs = weightSpecs(architecture).filter(({ name }) => name.startsWith(`${at}.`));
  const weights = new Weights(gpu, specs, { train: true, precision: "f32" });
  const inputs = ["x", "residual", "dy"].map((name) => new Tensor(name, [tokens, d_model], {}));
  const arenas = inputs.map((tensor) => new Arena(gpu, tensor.name, [tensor]));
  const [x, residual, dy] = inputs as [Tensor, Tensor, Tensor];
  try {
    const start = new Map<string, Float32Array>();
    for (const { name } of specs) {
      const values = await downloadParts(gpu, model.weights.value(name).parts);
      start.set(name, values);
      uploadParts(gpu, weights.value(name).parts, values);
    }
    const random = normalNumbers(seed);
    upload(gpu, x, random(x.size));
    const direction = random(dy.size);
    upload(gpu, dy, direction);
    const plan = new Plan(gpu, "layer");
    const context = new LayerContext(plan, weights, { batch: 1, length: tokens, mode: "train" });
    const pass = architecture.feedForward(layer).forward(context, at, { x, residual });
    const use = pass.use!;
    for (const tensor of [use.index, pass.y, pass.auxiliary, pass.backward(dy)]) {
      if (tensor) plan.keep(tensor);
    }
    const built = await buildPlans(gpu, [plan]);
    const run = async () => {
      built.plans[0]!.run();
      const y = await download(gpu, pass.y);
      const auxiliary = pass.auxiliary ? (await download(gpu, pass.auxiliary))[0]! : 0;
      let loss = auxiliary;
      for (let i = 0; i < y.length; i++) loss += direction[i]! * y[i]!;
      return { loss, kept: (await download(gpu, use.index)).join() };
    };
    try {
      const { kept } = await run();
      const gradients = new Map<string, Float32Array>();
      for (const { name } of specs) {
        gradients.set(name, await downloadParts(gpu, weights.gradient(name).parts));
      }
      const used = new Set(kept.split(",").map(Number));
      const differences: Difference[] = [];
      for (const { name } of specs) {
        const parts = weights.value(name).parts;
        const values = start.get(name)!;
        const g = gradients.get(name)!;
        const [length, slope] = [norm(values), norm(g)];
        if (slope === 0) continue;
        const side = async (step: number) => {
          const factor = step / slope;
          uploadParts(gpu, parts, values.map((value, i) => value + factor * g[i]!));
          return await run();
        };
        // A bias may be zero.
        let step = STEP * (length > 0 ? length : 1);
        for (let left = SHORTENINGS;; left--, step /= 4) {
          const [above, below] = [await side(step), await side(-step)];
          if (left > 0 && (above.kept !== kept || below.kept !== kept)) continue;
          const difference = (above.loss - below.loss) / (2 * step);
          const relative = Math.abs(difference / slope - 1);
          differences.push({
            name: name.slice(at.length + 1),
            gradient: slope,
            difference,
            relative,
          });
          break;
        }
        uploadParts(gpu, parts, values);
      }
      return {
        layer,
        balanced,
        tokens,
        unused: num_experts - used.size,
        ...zeros(gradients, { at, experts: num_experts, used }),
        finite: [...gradients.values()].every((g) => g.every(Number.isFinite)),
        differences,
      };
    } finally {
      built.destroy();
    }
  } finally {
    weights.destroy();
    for (const arena of arenas) arena.destroy();
  }
}

/** The layers with the balance term on or off, and without dropout, which differences would not see. */
function checked(architecture: Architecture, balanced: boolean): Architecture {
  return architecture.withFfn({
    load_balance_coef: balanced ? COEFFICIENT : 0,
    ...("expert_dropout" in architecture.config.ffn && { expert_dropout: 0 }),
  });
}

/** Experts of a layer and those of a token. */
function sizesOf({ config }: Architecture): { num_experts: number; top_k: number } {
  const { ffn } = config;
  if (!("d_expert" in ffn)) throw new RangeError(`Layers of ${ffn.kind} have no whole experts`);
  return { num_experts: ffn.num_experts, top_k: "top_k" in ffn ? ffn.top_k : 1 };
}

/** Which experts' gradients are zero. */
function zeros(
  gradients: ReadonlyMap<string, Float32Array>,
  { at, experts, used }: {
    readonly at: string;
    readonly experts: number;
    readonly used: ReadonlySet<number>;
  },
): Pick<LayerGradients, "unused_are_zero" | "used_are_not" | "unused_columns"> {
  let [unused_are_zero, used_are_not] = [true, true];
  const columns = new Set<boolean>();
  for (const [name, gradient] of gradients) {
    const ofGate = name === `${at}.w_g`;
    const size = gradient.length / experts;
    for (let e = 0; e < experts; e++) {
      const some = ofGate
        ? gradient.some((value, i) => i % experts === e && value !== 0)
        : gradient.subarray(e * size, (e + 1) * size).some((value) => value !== 0);
      if (ofGate) {
        if (!used.has(e)) columns.add(some);
      } else if (used.has(e)) used_are_not &&= some;
      else unused_are_zero &&= !some;
    }
  }
  const [only] = columns;
  const unused_columns = columns.size === 2 ? "some" : only ? "nonzero" : "zero";
  return {
    unused_are_zero,
    used_are_not,
    unused_columns: columns.size === 0 ? "none" : unused_columns,
  };
}

function norm(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum);
}
