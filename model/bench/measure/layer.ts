/**
 * Time and memory of one layer with experts, in each of its executions, whole or without its router.
 *
 * @module
 */

import { runPlan } from "../../gpu/build.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Arena } from "../../gpu/memory.ts";
import { Plan } from "../../gpu/plan.ts";
import { type DType, Tensor } from "../../gpu/tensor.ts";
import { LayerContext } from "../../layer/context.ts";
import { Weights } from "../../layer/weights.ts";
import { CONTROL } from "../../ops/control.ts";
import { DROPOUT_KEY } from "../../ops/dropout/dropout.ts";
import { initializeNormal } from "../../ops/optimizer/initialize.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { parameterSpecs, statisticSpecs, weightSpecs } from "../../trunk/parameters.ts";
import { timePlan, type Timing } from "./timing.ts";

/** The part of a layer that is timed: all of it, the layer behind its router, or its router alone. */
export type LayerPart = "layer" | "experts" | "router";

interface ExecutionOptions {
  /** The model, whose feed-forward layer has experts. */
  readonly architecture: Architecture;
  /** One of the layer's executions. */
  readonly execution: string;
  /** Tokens of a step. */
  readonly tokens: number;
  readonly precision: "f32" | "mixed";
  readonly warmup: number;
  readonly repetitions: number;
  readonly signal?: AbortSignal | undefined;
}

interface LayerTimingOptions extends ExecutionOptions {
  readonly part: LayerPart;
  /** Shortest sample in seconds; a tenth unless given. */
  readonly minimum?: number;
}

/** Medians over the repetitions; the layer's router is part of each. */
interface ExecutionTiming {
  readonly forward_seconds: number;
  readonly forward_backward_seconds: number;
  /** Bytes that forward and backward take beside weights, gradients and the layer's input. */
  readonly peak_bytes: number;
}

/** One pass, and the bytes that it takes beside weights, gradients and the layer's input. */
type PassTiming = Timing & { readonly bytes: number };

/** Both passes of a layer, or of a part of one. */
export interface LayerTiming {
  readonly forward: PassTiming;
  readonly forward_backward: PassTiming;
}

const LAYER = "layers.0.ffn";

/** Times one layer with random weights and inputs. */
export async function timeExecution(
  gpu: Gpu,
  options: ExecutionOptions,
): Promise<ExecutionTiming> {
  const { forward, forward_backward } = await timeLayer(gpu, { ...options, part: "layer" });
  return {
    forward_seconds: forward.median,
    forward_backward_seconds: forward_backward.median,
    peak_bytes: forward_backward.bytes,
  };
}

/** Times both passes of one layer, or of a part of it, with random weights and inputs. */
export async function timeLayer(gpu: Gpu, options: LayerTimingOptions): Promise<LayerTiming> {
  const { part, tokens, precision, execution } = options;
  const architecture = options.architecture
    .resized({ num_layers: 1, leading_dense: { num_layers: 0, d_ffn: 4 } })
    .withFfn({ execution });
  const layer = architecture.feedForward(0);
  const { bench } = layer;
  if (bench === undefined) {
    throw new RangeError("A layer without experts has no executions to time");
  }
  const { d_model } = architecture.config;
  const specs = weightSpecs(architecture).filter((spec) => spec.name.startsWith(LAYER));
  const weights = new Weights(gpu, specs, { train: true, precision });
  const arenas: Arena[] = [];
  const persistent = (name: string, width: number, dtype: DType = "f32") => {
    const tensor = new Tensor(name, [tokens, width], { dtype });
    arenas.push(new Arena(gpu, name, [tensor]));
    return tensor;
  };
  const x = persistent("x", d_model, precision === "mixed" ? "f16" : "f32");
  const [residual, dy] = [persistent("residual", d_model), persistent("dy", d_model)];
  const score = persistent("score", bench.kept);
  const [dscore, dx] = [persistent("dscore", bench.kept), persistent("dx", d_model)];

  const state = (name: string, size: number, dtype: DType) => {
    const tensor = new Tensor(name, [size], { dtype });
    arenas.push(new Arena(gpu, name, [tensor]));
    return tensor;
  };
  const dropout = {
    seed: 1,
    control: state("control", CONTROL.length, "f32"),
    key: state("dropout_key", DROPOUT_KEY, "u32"),
  };
  const context = (plan: Plan) =>
    new LayerContext(plan, weights, { batch: 1, length: tokens, mode: "train", dropout });
  const setUp = new Plan(gpu, "set-up");
  const inits = [...parameterSpecs(architecture), ...statisticSpecs(architecture)];
  for (const { name, trained } of specs) {
    const init = inits.find((spec) => spec.name === name)!.init;
    // A measurement needs weights of the right size, not of the right distribution.
    const deviation = init.kind === "normal"
      ? init.std
      : init.kind === "uniform"
      ? init.bound / Math.sqrt(3)
      : 1;
    // Running statistics have no copy for products to read.
    const tables = trained ? [weights.value(name), weights.operand(name)] : [weights.value(name)];
    for (const { parts } of tables) initializeNormal(setUp, name, parts, { seed: 1, deviation });
  }
  for (const tensor of [x, residual, dy, dscore]) {
    initializeNormal(setUp, tensor.name, [tensor], { seed: 2, deviation: 1 });
  }
  // The experts alone run for the tokens that the router gives them.
  const routed = bench.route(context(setUp), LAYER, x);
  const index = persistent("index", routed.index.width, "u32");
  setUp.copy(routed.index, index);
  setUp.copy(routed.score, score);
  const record = (backward: boolean) => {
    const plan = new Plan(gpu, backward ? "forward and backward" : "forward");
    if (part === "router") {
      const routed = bench.route(context(plan), LAYER, x);
      plan.keep(routed.score);
      if (backward) routed.backward({ dscore, dx });
      return plan;
    }
    const pass = part === "experts"
      ? bench.experts(context(plan), LAYER, { x, residual, index, score })
      : layer.forward(context(plan), LAYER, { x, residual });
    if (backward) pass.backward(dy);
    plan.keep(pass.y);
    return plan;
  };
  try {
    await runPlan(setUp);
    const timing = {
      warmup: options.warmup,
      repeats: options.repetitions,
      minimum: options.minimum ?? 0.1,
      signal: options.signal,
    };
    return {
      forward: await timePlan(gpu, record(false), timing),
      forward_backward: await timePlan(gpu, record(true), timing),
    };
  } finally {
    weights.destroy();
    for (const arena of arenas) arena.destroy();
  }
}
