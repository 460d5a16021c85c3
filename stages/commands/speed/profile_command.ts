/**
 * `profile` as a command of the command line.
 *
 * @module
 */

import { type Command, EXPERIMENT_OPTIONS, stringArgument } from "../../../pipeline/command.ts";
import { LARGEST_SEED, wholeArgument } from "../model/checkpoint_options.ts";
import { commandGpu, GPU_OPTION } from "../gpu_option.ts";
import { checkWritable, writeResult } from "./write_result.ts";

/** Options of the commands that measure a configuration's base model. */
export const MEASURE_OPTIONS: NonNullable<Command["options"]> = {
  ...EXPERIMENT_OPTIONS,
  "vocab-size": {
    type: "number",
    requiresArg: true,
    describe: "Tokens of the vocabulary (default: what the tokenizer section says)",
  },
  save: { type: "string", requiresArg: true, describe: "Write the numbers to this file, as JSON" },
};

/** Shows where the time of a training step goes. */
export const profileCommand: Command = {
  name: "profile",
  summary: "Where the time of one training step goes, on random tokens",
  examples: [
    ["profile", "the tiny configuration"],
    ["profile --config configs/paper.yaml --trace step.json", "a trace for ui.perfetto.dev, too"],
    ["profile --set train.recompute=none --save profile.json", "keep the numbers"],
  ],
  options: {
    ...MEASURE_OPTIONS,
    ...GPU_OPTION,
    warmup: {
      type: "number",
      default: 3,
      requiresArg: true,
      describe: "Steps before the clock starts",
    },
    steps: {
      type: "number",
      default: 10,
      requiresArg: true,
      describe: "Steps that are timed before one is profiled",
    },
    rows: { type: "number", default: 40, requiresArg: true, describe: "Lines of a table at most" },
    trace: {
      type: "string",
      requiresArg: true,
      describe: "Write the step's timeline to this file, for Perfetto or chrome://tracing",
    },
  },
  async run(args, { program, json, print, warn }) {
    const [{ profile, renderProfile }, { loadBaseModel }, { MOST_STEPS }] = await Promise.all([
      import("./profile.ts"),
      import("./base_model.ts"),
      import("../../../model/bench/measure/step_profile.ts"),
    ]);
    const steps = wholeArgument(args, "steps", 1, MOST_STEPS)!;
    const warmup = wholeArgument(args, "warmup", 1)!;
    const rows = wholeArgument(args, "rows", 1)!;
    const seed = wholeArgument(args, "seed", 0, LARGEST_SEED) ?? 1;
    const files = { trace: stringArgument(args, "trace"), save: stringArgument(args, "save") };
    await checkWritable("trace", files.trace);
    await checkWritable("save", files.save);
    const model = await loadBaseModel(args, program);
    const { result, trace } = await profile({
      model,
      root: program.root,
      seed,
      warmup,
      steps,
      gpu: () => commandGpu(args),
      progress: (line) => Deno.stderr.isTerminal() && warn(line),
    });
    if (files.trace !== undefined) {
      if (trace) await writeResult(files.trace, trace);
      else warn(`No trace was written: ${result.measured_on.adapter} has no timestamp queries.`);
    }
    if (files.save !== undefined) await writeResult(files.save, result, { pretty: true });
    print(json ? JSON.stringify(result) : renderProfile(result, rows));
  },
};
