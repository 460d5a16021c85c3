/**
 * Time and memory of one ETHOS layer under each way to run its experts, whole or without its router.
 *
 * @module
 */

import type { ModelConfig, ModelSection } from "../config.ts";
import { timePlan, type Timing } from "./timing.ts";
import { runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Arena } from "../gpu/memory.ts";
import { Plan } from "../gpu/plan.ts";
import { type DType, Tensor } from "../gpu/tensor.ts";
import { LayerContext } from "../layer/context.ts";
import { ethosBackward, ethosForward } from "../ffn/ethos/ethos.ts";
import { routerBackward, routerForward } from "../ffn/router/router.ts";
import { initializeNormal } from "../ops/optimizer/initialize.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import { Weights } from "../layer/weights.ts";

/** What of a layer is timed: all of it, its experts alone (with `W_u` and `W_v`), or its router alone. */
export type LayerPart = "layer" | "experts" | "router";

/** What is timed. */
interface ExecutionBenchmarkOptions {
  readonly config: ModelConfig;
  readonly execution: Exclude<ModelSection["execution"], "auto">;
  /** Tokens of a step. */
  readonly tokens: number;
  readonly precision: "f32" | "mixed";
  readonly warmup: number;
  readonly repetitions: number;
  readonly signal?: AbortSignal | undefined;
}

interface LayerTimingOptions extends ExecutionBenchmarkOptions {
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
  options: ExecutionBenchmarkOptions,
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
  const { part, tokens, precision } = options;
  const config = {
    ...options.config,
    execution: options.execution,
    num_layers: 1,
    num_dense_layers: 0,
  };
  const specs = [
    ...parameterSpecs(config).map((spec) => ({ ...spec, trained: true })),
    ...statisticSpecs(config).map((spec) => ({ ...spec, decay: false, trained: false })),
  ].filter((spec) => spec.name.startsWith(LAYER));
  const weights = new Weights(gpu, specs, { train: true, precision });
  const arenas: Arena[] = [];
  const persistent = (name: string, width: number, dtype: DType = "f32") => {
    const tensor = new Tensor(name, [tokens, width], { dtype });
    arenas.push(new Arena(gpu, name, [tensor]));
    return tensor;
  };
  const x = persistent("x", config.d_model, precision === "mixed" ? "f16" : "f32");
  const [residual, dy] = [persistent("residual", config.d_model), persistent("dy", config.d_model)];
  const per = config.routing_heads * config.top_k;
  const [index, score] = [persistent("index", per, "u32"), persistent("score", per)];
  const [dscore, dx] = [persistent("dscore", per), persistent("dx", config.d_model)];

  const context = (plan: Plan) =>
    new LayerContext(plan, config, weights, { batch: 1, length: tokens, mode: "train" });
  const recordSetUp = () => {
    const plan = new Plan(gpu, "set-up");
    for (const { name, init, trained } of specs) {
      const deviation = init.kind === "normal" ? init.std : 1;
      // Running statistics have no copy for products to read.
      const tables = trained ? [weights.value(name), weights.operand(name)] : [weights.value(name)];
      for (const table of tables) {
        initializeNormal(plan, name, table.parts, { seed: 1, deviation });
      }
    }
    for (const tensor of [x, residual, dy, dscore]) {
      initializeNormal(plan, tensor.name, [tensor], { seed: 2, deviation: 1 });
    }
    // What the router would keep: for the experts alone.
    const router = routerForward(context(plan), `${LAYER}.router`, x);
    plan.copy(router.routed.index, index);
    plan.copy(router.routed.score, score);
    return { plan, router: { ...router, routed: { ...router.routed, index, score } } };
  };
  const setUp = recordSetUp();
  const record = (backward: boolean) => {
    const plan = new Plan(gpu, backward ? "forward and backward" : "forward");
    const layer = context(plan);
    if (part === "router") {
      const saved = routerForward(layer, `${LAYER}.router`, x);
      plan.keep(saved.routed.score);
      if (backward) routerBackward(layer, `${LAYER}.router`, saved, { dscore, dx });
      return plan;
    }
    const { y, saved } = ethosForward(
      layer,
      LAYER,
      x,
      residual,
      part === "experts" ? { router: setUp.router } : {},
    );
    if (backward) ethosBackward(layer, LAYER, dy, saved);
    plan.keep(y);
    return plan;
  };
  try {
    await runPlan(setUp.plan);
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
