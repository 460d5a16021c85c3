/**
 * `bench` as a command of the command line.
 *
 * @module
 */

import { type Command, listArgument, stringArgument } from "../../../pipeline/command.ts";
import { EXIT } from "../../../pipeline/errors.ts";
import { LARGEST_SEED, wholeArgument } from "../model/checkpoint_options.ts";
import { commandGpu, GPU_OPTION } from "../gpu_option.ts";
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
    ["bench --suite step --only mixed --config configs/small.yaml", "some cases of a suite"],
  ],
  options: {
    suite: {
      type: "string",
      default: "copy,gemm,attention,layer,experts",
      requiresArg: true,
      describe:
        "Of copy, gemm, grouped, attention, layer, experts, step, scaling, inference; or all",
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
    against: {
      type: "string",
      requiresArg: true,
      describe: "Compare with what an earlier run wrote with --save",
    },
  },
  async run(args, { program, json, print, warn }) {
    const [{ bench, chooseCases, compareBench, parseSuites, readSavedBench, renderBench }, base] =
      await Promise.all([import("./bench.ts"), import("./base_model.ts")]);
    const { MOST_STEPS } = await import("../../../model/bench/step_profile.ts");
    const suites = parseSuites(stringArgument(args, "suite") ?? "");
    const warmup = wholeArgument(args, "warmup", 1)!;
    const repeats = wholeArgument(args, "repeats", 1);
    const steps = wholeArgument(args, "steps", 1, MOST_STEPS);
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
    const options = {
      gpu,
      model,
      root: program.root,
      suites,
      only: listArgument(args, "only"),
      warmup,
      repeats: repeats ?? (software ? 3 : 7),
      steps: steps ?? (software ? 3 : 20),
      seed,
    };
    if (args["list"] === true) {
      const cases = chooseCases(options).map(({ id, suite, params }) => ({ id, suite, params }));
      return print(json ? JSON.stringify(cases) : cases.map(({ id }) => id).join("\n"));
    }
    const result = await bench({
      ...options,
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
