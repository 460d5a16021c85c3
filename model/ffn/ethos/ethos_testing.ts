/**
 * Helpers for tests of the ETHOS layer: its weights, one run of it on the GPU, and the same in float64.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import { buildPlans } from "../../gpu/build.ts";
import { Plan } from "../../gpu/plan.ts";
import { type DType, Tensor } from "../../gpu/tensor.ts";
import { download, downloadParts, packFields, uploadParts } from "../../gpu/transfer.ts";
import { CONTROL } from "../../ops/control.ts";
import { Inputs, noise } from "../../ops/testing.ts";
import { ethos as referenceLayer } from "../../reference/ffn/ethos/ethos.ts";
import { matrix } from "../../reference/matrix.ts";
import { type Table, Weights, type WeightSpec } from "../../layer/weights.ts";
import { LayerContext } from "../../layer/context.ts";
import { subKeys } from "../product_key/schema.ts";
import { ethosBackward, ethosForward } from "./ethos.ts";
import { productKeyEthosSchema, type ProductKeyEthosSection } from "./schema.ts";

/** Sizes of a layer. */
export interface EthosSizes extends ProductKeyEthosSection {
  readonly d_model: number;
}

/** Sizes of a layer, checked; the paper's where they are not given. */
export function ethosSizes({ d_model, ...section }: Partial<EthosSizes> = {}): EthosSizes {
  return {
    ...productKeyEthosSchema.parse({ kind: "ethos", ...section }),
    d_model: d_model ?? 1024,
  };
}

/** Values by name, as in the specification without a prefix. */
export type Values = Readonly<Record<string, Float64Array>>;

/** The layer's parameters and running statistics, without a prefix. */
export function ethosSpecs(config: EthosSizes): WeightSpec[] {
  const width = config.routing_heads * config.d_query;
  const keys = subKeys(config);
  const { d_model, d_latent, d_hidden, d_context } = config;
  const matrix = (name: string, ...shape: number[]): WeightSpec => ({
    name,
    shape,
    decay: true,
    trained: true,
  });
  const vector = (name: string, trained = true): WeightSpec => ({
    name: `router.${name}`,
    shape: [width],
    decay: false,
    trained,
  });
  return [
    matrix("router.w_q", d_model, width),
    matrix("router.k1", keys, config.d_query / 2),
    matrix("router.k2", keys, config.d_query / 2),
    matrix("z", config.num_experts, d_latent),
    matrix("w1", d_latent + d_context, d_hidden),
    matrix("w_u", d_model, d_hidden),
    matrix("w_v", d_hidden, d_model),
    ...(d_context > 0 ? [matrix("w_c", d_model, d_context)] : []),
    vector("b_q"),
    vector("bn.gamma"),
    vector("bn.beta"),
    vector("bn.mean", false),
    vector("bn.var", false),
  ];
}

/** Random weights, input and upstream gradient for `tokens` tokens, of f32 values. */
export function randomCase(config: EthosSizes, tokens: number, seed: number): Values {
  const values: Record<string, Float64Array> = {};
  for (const [i, { name, shape }] of ethosSpecs(config).entries()) {
    const numbers = noise(shape.reduce((a, b) => a * b, 1), seed + i);
    const centre = /gamma|var/.test(name) ? 1 : 0;
    const scale = /gamma|var|beta|mean|b_q/.test(name) ? 0.5 : 1.7 / Math.sqrt(shape.at(-2) ?? 1);
    values[name] = numbers.map((v) => Math.fround(centre + scale * v));
  }
  // Latent codes do not shrink with their number.
  values["z"] = noise(config.num_experts * config.d_latent, seed + 77).map((v) =>
    Math.fround(1.7 * v)
  );
  values["x"] = noise(tokens * config.d_model, seed + 78);
  values["g"] = noise(tokens * config.d_model, seed + 79);
  return values;
}

/** The results of a run: `y`, `index`, `score`, `grad.*`, `bn.mean`, `bn.var`, perhaps `balance`. */
export type Results = Readonly<Record<string, Float32Array | Uint32Array | Float64Array>>;

/** How {@linkcode runEthos} runs. */
export interface RunOptions {
  /** Bytes that the fused and the naive execution may take for what they form at a time. */
  readonly workspace_bytes?: number;
  readonly precision?: "f32" | "mixed";
  readonly isolate?: boolean;
  readonly mode?: "train" | "evaluate";
  /** Multiplies the upstream gradient and, as the loss scale, the load-balance gradient. */
  readonly loss_scale?: number;
  /** Micro-batches in the update, of which this is one. */
  readonly microBatches?: number;
  /** The residual stream, to which the layer adds its output; zero by default. */
  readonly residual?: Float64Array;
  /** Runs of the backward pass, each adding to the gradients of the one before. */
  readonly passes?: number;
}

/** Runs the layer once, forward and (in training) backward. `memory` in the result: bytes of the transient tensors. */
export async function runEthos(
  gpu: Gpu,
  config: EthosSizes,
  values: Values,
  options: RunOptions = {},
): Promise<{ results: Results; memory: number; parts: number }> {
  const { precision = "f32", mode = "train", loss_scale = 1, isolate = false, passes = 1 } =
    options;
  const specs = ethosSpecs(config);
  const named = (name: string) => `layer.${name}`;
  const weights = new Weights(gpu, specs.map((spec) => ({ ...spec, name: named(spec.name) })), {
    train: true,
    precision,
  });
  for (const { name, trained } of specs) {
    const tables = [weights.value(named(name))];
    if (precision === "mixed" && trained) tables.push(weights.operand(named(name)));
    for (const { parts } of tables) uploadParts(gpu, parts, values[name]!);
  }
  using inputs = new Inputs(gpu);
  const shape = [values["x"]!.length / config.d_model, config.d_model];
  const dtype = precision === "mixed" ? "f16" : "f32";
  const x = inputs.tensor("x", shape, { values: values["x"]!, dtype });
  const residual = inputs.tensor(
    "residual",
    shape,
    options.residual ? { values: options.residual } : {},
  );
  const dy = inputs.tensor("dy", shape, { values: values["g"]!.map((v) => v * loss_scale) });
  const scale = inputs.tensor("control", [CONTROL.length], {
    values: packFields(CONTROL, { loss_scale }),
  });
  const limits = options.workspace_bytes ? { workspace_bytes: options.workspace_bytes } : {};
  const plan = new Plan(gpu, "ethos");
  const kept: Record<string, Tensor> = {};
  for (let pass = 0; pass < passes; pass++) {
    const context = new LayerContext(plan, weights, {
      batch: 1,
      length: shape[0]!,
      mode,
      accumulate: pass > 0,
      ...(options.microBatches !== undefined && { microBatches: options.microBatches }),
    });
    const { y, saved, index, balance } = ethosForward(context, "layer", {
      x,
      residual,
      ethos: config,
      ...limits,
    });
    Object.assign(kept, {
      y,
      index,
      score: saved.kept.score,
      ...(balance && { balance }),
    });
    if (mode === "train") {
      kept["grad.x"] = ethosBackward(context, "layer", {
        ethos: config,
        dy,
        saved,
        ...limits,
        loss_scale: scale,
      });
    }
  }
  for (const tensor of Object.values(kept)) plan.keep(tensor);
  const built = await buildPlans(gpu, [plan], { isolate });
  built.plans[0]!.run();
  const results: Record<string, Float32Array | Uint32Array> = {};
  for (const [name, tensor] of Object.entries(kept)) results[name] = await download(gpu, tensor);
  for (const { name, trained } of specs) {
    const { parts } = trained ? weights.gradient(named(name)) : weights.value(named(name));
    results[trained ? `grad.${name}` : name] = await downloadParts(gpu, parts);
  }
  gpu.check();
  const memory = built.pool.bytes;
  const parts = weights.value(named("z")).parts.length;
  built.destroy();
  weights.destroy();
  return { results, memory, parts };
}

/** The same in float64, keeping the experts that the GPU kept, so that a near tie is not a difference. */
export function referenceEthos(
  config: EthosSizes,
  values: Values,
  options: { selection?: ArrayLike<number>; training?: boolean } = {},
): Results {
  const tokens = values["x"]!.length / config.d_model;
  const x = matrix(tokens, config.d_model, values["x"]!);
  const forward = referenceLayer(config, values, {
    x,
    training: options.training ?? true,
    ...(options.selection && { selection: Int32Array.from(options.selection) }),
  });
  const backward = forward.backward(matrix(tokens, config.d_model, values["g"]!));
  return {
    y: forward.y.data,
    score: forward.routing.score,
    index: Float64Array.from(forward.routing.index),
    lag: Float64Array.of(forward.routing.lag),
    balance: Float64Array.of(forward.auxiliary),
    "grad.x": backward.x.data,
    ...Object.fromEntries(
      Object.entries(backward.weights).map(([name, value]) => [`grad.${name}`, value]),
    ),
  };
}

/** Weights that exist by name only, for plans that are recorded and never run; the latent codes in two parts. */
function namedWeights(config: EthosSizes, precision: "f32" | "mixed"): Weights {
  const table = (name: string, dtype: DType): Table => {
    const spec = ethosSpecs(config).find((spec) => name.endsWith(`.${spec.name}`));
    if (!spec) throw new Error(`No ${name}`);
    const { shape } = spec;
    const [rows, ...rest] = shape as [number, ...number[]];
    const counts = spec.name === "z" ? [rows - 4, 4] : [rows];
    return {
      name,
      shape,
      parts: counts.map((n, i) => new Tensor(`${name}.${i}`, [n, ...rest], { dtype })),
    };
  };
  const weights = {
    precision,
    value: (name: string) => table(name, "f32"),
    operand: (name: string) => table(name, precision === "mixed" ? "f16" : "f32"),
    gradient: (name: string) => table(name, "f32"),
  };
  return weights as unknown as Weights;
}

/** Records every variant of the layer for a device: executions, precisions, context, batch norm, load balance. */
export function recordEthosVariants(gpu: Gpu, config: EthosSizes): Plan[] {
  const plans: Plan[] = [];
  for (const execution of ["materialized", "fused", "naive"] as const) {
    for (const precision of ["f32", "mixed"] as const) {
      for (
        const [extra, choice] of [[false], [true], [false, { choice: "mass", mass: 0.8 }]] as const
      ) {
        const plan = new Plan(gpu, `ethos ${execution} ${precision} ${extra}`);
        const sizes = {
          ...config,
          ...choice,
          execution,
          d_context: extra ? 8 : 0,
          load_balance_coef: extra ? 0.1 : 0,
          router_batch_norm: !extra,
        };
        for (const mode of ["train", "evaluate"] as const) {
          const context = new LayerContext(plan, namedWeights(sizes, precision), {
            batch: 2,
            length: 8,
            mode,
          });
          const x = new Tensor("x", [16, config.d_model], { dtype: context.operandType });
          const residual = new Tensor("residual", [16, config.d_model]);
          const { saved } = ethosForward(context, "layer", { x, residual, ethos: sizes });
          saved.router!.use.statistics!();
          if (mode === "evaluate") continue;
          const dy = new Tensor("dy", [16, config.d_model]);
          for (const scale of [undefined, new Tensor("control", [CONTROL.length])]) {
            ethosBackward(context, "layer", {
              ethos: sizes,
              dy,
              saved,
              ...(scale && { loss_scale: scale }),
            });
          }
        }
        plans.push(plan);
      }
    }
  }
  return plans;
}
