/**
 * Time and memory of one ETHOS layer under each way to run its experts.
 *
 * @module
 */

import type { ModelConfig, ModelSection } from "./config.ts";
import { buildPlans } from "./gpu/build.ts";
import type { Gpu } from "./gpu/device.ts";
import { Arena } from "./gpu/memory.ts";
import { Plan } from "./gpu/plan.ts";
import { Tensor } from "./gpu/tensor.ts";
import { LayerContext } from "./layers/context.ts";
import { ethosBackward, ethosForward } from "./layers/ethos.ts";
import { initializeNormal } from "./ops/initialize.ts";
import { parameterSpecs, statisticSpecs } from "./parameters.ts";
import { Weights } from "./weights.ts";

/** What is timed. */
export interface ExecutionBenchmarkOptions {
  readonly config: ModelConfig;
  readonly execution: Exclude<ModelSection["execution"], "auto">;
  /** Tokens of a step. */
  readonly tokens: number;
  readonly precision: "f32" | "mixed";
  readonly warmup: number;
  readonly repetitions: number;
  readonly signal?: AbortSignal;
}

/** Medians over the repetitions; the layer's router is part of each. */
export interface ExecutionTiming {
  readonly forward_seconds: number;
  readonly forward_backward_seconds: number;
  /** Bytes that forward and backward take beside weights, gradients and the layer's input. */
  readonly peak_bytes: number;
}

const LAYER = "layers.0.ffn";
/** Shortest stretch that is timed. */
const MINIMUM_SECONDS = 0.1;

/** Times one layer with random weights and inputs. */
export async function timeExecution(
  gpu: Gpu,
  options: ExecutionBenchmarkOptions,
): Promise<ExecutionTiming> {
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
  const weights = new Weights(gpu, specs, { train: true, precision: options.precision });
  const shape = [options.tokens, config.d_model];
  const inputs = ["x", "residual", "dy"].map((name) =>
    new Tensor(name, shape, {
      dtype: name === "x" && options.precision === "mixed" ? "f16" : "f32",
    })
  );
  const arenas = inputs.map((tensor) => new Arena(gpu, tensor.name, [tensor]));
  const [x, residual, dy] = inputs as [Tensor, Tensor, Tensor];

  const setUp = new Plan(gpu, "set-up");
  for (const { name, init, trained } of specs) {
    const deviation = init.kind === "normal" ? init.std : 1;
    // Running statistics have no copy for products to read.
    const tables = trained ? [weights.value(name), weights.operand(name)] : [weights.value(name)];
    for (const table of tables) {
      initializeNormal(setUp, name, table.parts, { seed: 1, deviation });
    }
  }
  for (const tensor of inputs) {
    initializeNormal(setUp, tensor.name, [tensor], { seed: 2, deviation: 1 });
  }

  const record = (backward: boolean) => {
    const plan = new Plan(gpu, backward ? "forward and backward" : "forward");
    const context = new LayerContext(plan, config, weights, {
      batch: 1,
      length: options.tokens,
      mode: "train",
    });
    const { y, saved } = ethosForward(context, LAYER, x, residual);
    if (backward) ethosBackward(context, LAYER, dy, saved);
    plan.keep(y);
    return plan;
  };
  try {
    const once = await buildPlans(gpu, [setUp]);
    once.plans[0]!.run();
    await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
    once.destroy();
    const time = async (plan: Plan) => {
      const built = await buildPlans(gpu, [plan]);
      const run = async (times: number) => {
        options.signal?.throwIfAborted();
        const start = performance.now();
        for (let i = 0; i < times; i++) built.plans[0]!.run();
        await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
        return (performance.now() - start) / 1000 / times;
      };
      let once = Infinity;
      for (let i = 0; i < options.warmup; i++) once = Math.min(once, await run(1));
      // Waiting for the device has a grain of some milliseconds: enough runs at a time that it does not matter.
      const times = Math.min(64, Math.ceil(MINIMUM_SECONDS / once));
      const seconds: number[] = [];
      for (let i = 0; i < options.repetitions; i++) seconds.push(await run(times));
      const { bytes } = built.pool;
      built.destroy();
      return { seconds: median(seconds), bytes };
    };
    const forward = await time(record(false));
    const both = await time(record(true));
    return {
      forward_seconds: forward.seconds,
      forward_backward_seconds: both.seconds,
      peak_bytes: both.bytes,
    };
  } finally {
    weights.destroy();
    for (const arena of arenas) arena.destroy();
  }
}

/** Median of a list that is not empty. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
