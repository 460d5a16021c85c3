/**
 * `tune` as a command of the command line.
 *
 * @module
 */

import { type Command, listArgument, stringArgument } from "../../../pipeline/command.ts";
import { EXIT } from "../../../pipeline/errors.ts";
import { wholeArgument } from "../model/checkpoint_options.ts";
import { commandGpu, GPU_OPTION } from "../gpu_option.ts";
import { MEASURE_OPTIONS } from "./profile_command.ts";
import { checkWritable, writeResult } from "./write_result.ts";

const { save: _, seed: __, ...MODEL_OPTIONS } = MEASURE_OPTIONS;

/** Measures which way of computing is the fastest on this device. */
export const tuneCommand: Command = {
  name: "tune",
  summary: "Measure the ways in which this GPU can compute a training's products, for train.tuning",
  examples: [
    ["tune --config configs/paper.yaml --out tuned.json", "every question of a training"],
    [
      "reproduce --config configs/paper.yaml --set train.tuning=tuned.json",
      "train with the answers",
    ],
    ["tune --only product.tn --force", "some questions, measured again"],
    ["tune --list", "what would be measured"],
  ],
  options: {
    only: {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      describe: "Only questions whose id holds this text; may be repeated",
    },
    list: { type: "boolean", describe: "Say what would be measured, and measure nothing" },
    force: { type: "boolean", describe: "Measure again what this device was measured for before" },
    ...MODEL_OPTIONS,
    ...GPU_OPTION,
    config: {
      type: "string",
      requiresArg: true,
      describe: "Configuration file (default: configs/paper.yaml)",
    },
    warmup: {
      type: "number",
      default: 2,
      requiresArg: true,
      describe: "Runs of each way before the clock starts",
    },
    repeats: {
      type: "number",
      default: 5,
      requiresArg: true,
      describe: "Samples of each way that a median is over",
    },
    out: {
      type: "string",
      requiresArg: true,
      describe: "Write the answers to this file, for train.tuning",
    },
  },
  async run(args, { program, json, print, warn, withStore }) {
    const [{ chooseQuestions, renderTune, tune, tuningOf }, { loadBaseModel }] = await Promise.all([
      import("./tune.ts"),
      import("./base_model.ts"),
    ]);
    const warmup = wholeArgument(args, "warmup", 1)!;
    const repeats = wholeArgument(args, "repeats", 1)!;
    const out = stringArgument(args, "out");
    await checkWritable("out", out);
    const model = await loadBaseModel(args, {
      root: program.root,
      defaultConfig: "configs/paper.yaml",
    });
    const gpu = await commandGpu(args);
    const subject = { gpu, model, only: listArgument(args, "only") };
    // Refused before there is a store.
    const questions = chooseQuestions(subject);
    if (args["list"] === true) {
      const list = questions.map(({ question: { id, candidates }, times }) => ({
        id,
        times,
        candidates,
      }));
      return print(
        json
          ? JSON.stringify(list)
          : list.map(({ id, times, candidates }) => `${id} × ${times}: ${candidates.join(" ")}`)
            .join("\n"),
      );
    }
    const result = await withStore({ create: true }, (store) =>
      tune({
        ...subject,
        root: program.root,
        store,
        force: args["force"] === true,
        timing: { warmup, repeats, minimum: 0.02, settle: 0.25 },
        progress: warn,
      }));
    if (out !== undefined) await writeResult(out, tuningOf(result), { pretty: true });
    print(json ? JSON.stringify(result) : renderTune(result));
    return result.failures.length > 0 ? EXIT.failed : EXIT.ok;
  },
};
