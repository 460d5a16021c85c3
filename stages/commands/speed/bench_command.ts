/**
 * `bench` as a command of the command line.
 *
 * @module
 */

import type { Gpu } from "../../../model/gpu/device.ts";
import {
  type Arguments,
  type Command,
  listArgument,
  stringArgument,
} from "../../../pipeline/command.ts";
import { EXIT, UserError } from "../../../pipeline/errors.ts";
import { LARGEST_SEED, wholeArgument } from "../model/checkpoint_options.ts";
import { commandGpu, GPU_OPTION } from "../gpu_option.ts";
import type { BaseModel } from "./base_model.ts";
import type { Side } from "../../../model/bench/suites/model_suite.ts";
import type { ModelLoss } from "./model_table.ts";
import { MEASURE_OPTIONS } from "./profile_command.ts";
import { checkWritable, writeResult } from "./write_result.ts";

/** Measures kernels, layers, training and inference. */
export const benchCommand: Command = {
  name: "bench",
  summary: "Measure kernels, layers, training steps and inference at a configuration's sizes",
  examples: [
    ["bench --suite copy,gemm", "memory and matrix products"],
    ["bench --suite experts --save before.json", "keep the numbers"],
    ["bench --suite experts --against before.json", "ratios to what was kept"],
    ["bench --suite model --config configs/sparse_moe.yaml", "a model beside its dense equivalent"],
    ["bench --suite cost --only num_experts", "a step's time as the number of experts grows"],
    ["bench --suite step --only mixed --config configs/small.yaml", "some cases of a suite"],
  ],
  options: {
    suite: {
      type: "string",
      default: "copy,gemm,attention,layer,experts",
      requiresArg: true,
      describe:
        "Of copy, gemm, grouped, attention, layer, experts, step, scaling, cost, inference, model; or all",
    },
    only: {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      describe: "Only cases whose id holds this text; may be repeated",
    },
    list: { type: "boolean", describe: "Say what would be measured, and measure nothing" },
    ...MEASURE_OPTIONS,
    ...GPU_OPTION,
    config: {
      type: "string",
      requiresArg: true,
      describe: "Configuration file (default: configs/paper.yaml, on a software device tiny)",
    },
    warmup: {
      type: "number",
      default: 2,
      requiresArg: true,
      describe: "Runs before the clock starts",
    },
    repeats: {
      type: "number",
      requiresArg: true,
      describe: "Samples that a median is over (default: 7, on a software device 3)",
    },
    steps: {
      type: "number",
      requiresArg: true,
      describe: "Training steps that are timed (default: 20, on a software device 3)",
    },
    rounds: {
      type: "number",
      default: 1,
      requiresArg: true,
      describe:
        "Times that all cases are measured, one after the other, beside work that comes and goes; medians are over them",
    },
    memory: {
      type: "number",
      requiresArg: true,
      describe: "With the suite cost: GiB of device memory; steps that need more are left out",
    },
    seconds: {
      type: "number",
      requiresArg: true,
      describe: "Start no case after so many seconds; those that are left are listed",
    },
    checkpoint: {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      describe:
        "With the suite model: a trained model whose held-out loss is reported; may be repeated",
    },
    files: {
      type: "string",
      requiresArg: true,
      describe:
        "Text for these losses, as evaluate takes it (default: the node's validation split)",
    },
    tokens: {
      type: "number",
      requiresArg: true,
      describe: "Predictions at most for these losses (default: all)",
    },
    against: {
      type: "string",
      requiresArg: true,
      describe: "Compare with what an earlier run wrote with --save",
    },
  },
  async run(args, { program, storeDir, json, print, warn }) {
    const [{ bench, chooseCases, compareBench, parseSuites, readSavedBench, renderBench }, base] =
      await Promise.all([import("./bench.ts"), import("./base_model.ts")]);
    const { MOST_STEPS } = await import("../../../model/bench/measure/step_profile.ts");
    const suites = parseSuites(stringArgument(args, "suite") ?? "");
    const warmup = wholeArgument(args, "warmup", 1)!;
    const repeats = wholeArgument(args, "repeats", 1);
    const steps = wholeArgument(args, "steps", 1, MOST_STEPS);
    const rounds = wholeArgument(args, "rounds", 1)!;
    const memory = wholeArgument(args, "memory", 1);
    const seconds = wholeArgument(args, "seconds", 1);
    const seed = wholeArgument(args, "seed", 0, LARGEST_SEED) ?? 1;
    const save = stringArgument(args, "save");
    await checkWritable("save", save);
    const against = stringArgument(args, "against");
    const then = against === undefined ? undefined : await readSavedBench(against);
    // A configuration that was named is checked before the device is opened; the default depends on the device.
    const named = stringArgument(args, "config") === undefined
      ? undefined
      : await base.loadBaseModel(args, program);
    const gpu = await commandGpu(args);
    const { software } = gpu.capabilities;
    const model = named ?? await base.loadBaseModel(args, {
      root: program.root,
      defaultConfig: software ? "configs/tiny.yaml" : "configs/paper.yaml",
    });
    const losses = await lossesOf(args, { gpu, model, suites, storeDir, warn });
    const options = {
      gpu,
      model,
      root: program.root,
      suites,
      only: listArgument(args, "only"),
      warmup,
      repeats: repeats ?? (software ? 3 : 7),
      steps: steps ?? (software ? 3 : 20),
      memory: memory && memory * 2 ** 30,
      rounds,
      seconds,
      seed,
    };
    if (args["list"] === true) {
      const cases = chooseCases(options).map(({ id, suite, params }) => ({ id, suite, params }));
      return print(json ? JSON.stringify(cases) : cases.map(({ id }) => id).join("\n"));
    }
    const result = await bench({
      ...options,
      ...losses && { losses },
      async progress(line, sofar) {
        warn(line);
        // The measurements so far stay, should the rest be cut short.
        if (save !== undefined) await writeResult(save, sofar, { pretty: true });
      },
    });
    const comparison = then && compareBench(result, then);
    print(
      json
        ? JSON.stringify({ ...result, ...comparison && { against: comparison } })
        : renderBench(result, comparison),
    );
    return result.failures.length > 0 ? EXIT.failed : EXIT.ok;
  },
};

/** The losses that `--checkpoint` asks for, as a function that measures them; all is checked before. */
async function lossesOf(
  args: Arguments,
  options: {
    readonly gpu: Gpu;
    readonly model: BaseModel;
    readonly suites: readonly string[];
    readonly storeDir: string;
    readonly warn: (line: string) => void;
  },
): Promise<(() => Promise<ModelLoss[]>) | undefined> {
  const { gpu, model, suites, storeDir, warn } = options;
  const names = listArgument(args, "checkpoint");
  const files = stringArgument(args, "files");
  const tokens = wholeArgument(args, "tokens", 1);
  if (names.length === 0) {
    for (const [option, value] of Object.entries({ files, tokens })) {
      if (value === undefined) continue;
      throw new UserError(
        `--${option} is ${value}, but there is no --checkpoint whose loss it is for.`,
      );
    }
    return undefined;
  }
  if (!suites.includes("model")) {
    throw new UserError(
      `--checkpoint is ${
        names[0]
      }, but --suite has no model, which reports its loss; add model to it.`,
    );
  }
  const [{ denseBeside }, { sideOf }, { openCheckpoint }, { evaluateCheckpoint }] = await Promise
    .all([
      import("./bench.ts"),
      import("./model_table.ts"),
      import("../model/checkpoints.ts"),
      import("../model/evaluate.ts"),
    ]);
  const sides = { base: model.config, dense: denseBeside(model)?.config };
  const checkpoints: { checkpoint: string; model: Side }[] = [];
  for (const checkpoint of names) {
    const { architecture } = await openCheckpoint(checkpoint, { storeDir });
    checkpoints.push({ checkpoint, model: sideOf(checkpoint, architecture.config, sides) });
  }
  return async () => {
    const losses: ModelLoss[] = [];
    for (const { checkpoint, model: side } of checkpoints) {
      const { nats, bits_per_byte, ...scored } = await evaluateCheckpoint({
        checkpoint,
        storeDir,
        ...(files === undefined ? { split: "validation" } : { files }),
        ...(tokens !== undefined && { tokens }),
        micro_batch: model.train.micro_batch,
        precision: model.train.precision,
        gpu: () => Promise.resolve(gpu),
        warn,
      });
      losses.push({ model: side, checkpoint, tokens: scored.tokens, nats, bits_per_byte });
    }
    return losses;
  };
}
