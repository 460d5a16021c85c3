/**
 * `lm-eval` as a command of the command line.
 *
 * @module
 */

import { type Command, listArgument, stringArgument } from "../../../pipeline/command.ts";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import { columnsOf } from "../../../pipeline/terminal/wrap.ts";
import { commandGpu, GPU_OPTION } from "../gpu_option.ts";
import {
  LARGEST_SEED,
  MODEL_OPTIONS,
  modelArguments,
  PRECISION_OPTION,
  wholeArgument,
} from "../model/checkpoint_options.ts";

/** Scores a model on tasks of the harness. */
export const lmEvalCommand: Command = {
  name: "lm-eval",
  summary: "Score a model on log-likelihood tasks of lm-evaluation-harness",
  examples: [
    [
      "lm-eval --checkpoint 'train[base,seed=1]' --tasks lambada_openai.yaml --data lambada",
      "files as the hub has them in a folder",
    ],
    [
      "lm-eval --model ./pythia --tasks arc_easy.yaml --tasks mine.json --num-fewshot 5 --out results.json",
      "two tasks, five examples before each question",
    ],
  ],
  options: {
    ...MODEL_OPTIONS,
    tasks: {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      demandOption: true,
      describe: "File of a task, YAML or JSON; may be repeated",
    },
    data: {
      type: "string",
      requiresArg: true,
      describe: "Folder of the documents, files named by split (default: those a task names)",
    },
    "num-fewshot": {
      type: "number",
      requiresArg: true,
      describe: "Examples before each document (default: the task's number, or none)",
    },
    seed: { type: "number", default: 1234, requiresArg: true, describe: "Of the examples" },
    limit: { type: "number", requiresArg: true, describe: "Documents of a task at most" },
    "add-begin": {
      type: "boolean",
      describe: "Put the token that a text begins with before each context",
    },
    context: {
      type: "number",
      default: 2048,
      requiresArg: true,
      describe: "Tokens that the model sees; longer contexts lose their beginning",
    },
    "batch-tokens": {
      type: "number",
      default: 2048,
      requiresArg: true,
      describe: "Tokens scored at once",
    },
    "bootstrap-iters": {
      type: "number",
      default: 100_000,
      requiresArg: true,
      describe: "Resamples of a perplexity's standard error; 0 for none",
    },
    out: { type: "string", requiresArg: true, describe: "File for the results as JSON" },
    ...PRECISION_OPTION,
    ...GPU_OPTION,
  },
  async run(args, { storeDir, json, print, warn }) {
    const [{ evaluateTasks }, { resultJson, resultTable }] = await Promise.all([
      import("./lm_eval.ts"),
      import("./results.ts"),
    ]);
    const settings = {
      seed: wholeArgument(args, "seed", 0, LARGEST_SEED)!,
      limit: wholeArgument(args, "limit", 1),
      batch_tokens: wholeArgument(args, "batch-tokens", 1, 2 ** 20)!,
      bootstrap_iterations: wholeArgument(args, "bootstrap-iters", 0, 10_000_000)!,
      precision: stringArgument(args, "precision") as "f32" | "mixed",
    };
    const out = stringArgument(args, "out");
    const evaluation = await evaluateTasks({
      ...modelArguments(args),
      ...settings,
      storeDir,
      tasks: listArgument(args, "tasks"),
      data: stringArgument(args, "data"),
      num_fewshot: wholeArgument(args, "num-fewshot", 0, 1000),
      begin: args["add-begin"] === true,
      context: wholeArgument(args, "context", 2, 131_072)!,
      gpu: () => commandGpu(args),
      warn,
    });
    const result = resultJson(evaluation, { ...settings, date: Date.now() / 1000 });
    if (out !== undefined) {
      try {
        await Deno.writeTextFile(out, `${JSON.stringify(result, null, 2)}\n`);
      } catch (error) {
        throw new UserError(`--out ${out} can't be written: ${messageOf(error)}.`, {
          exitCode: 1,
          cause: error,
        });
      }
    }
    print(json ? JSON.stringify(result) : resultTable(evaluation, columnsOf(Deno.stdout)));
  },
};
