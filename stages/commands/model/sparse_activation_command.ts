/**
 * `sparse-activation` as a command of the command line.
 *
 * @module
 */

import { type Command, stringArgument } from "../../../pipeline/command.ts";
import { EXIT } from "../../../pipeline/errors.ts";
import { commandGpu, GPU_OPTION } from "../gpu_option.ts";
import {
  CHECKPOINT_OPTIONS,
  checkpointArguments,
  PRECISION_OPTION,
  wholeArgument,
} from "./checkpoint_options.ts";

/** Checks what a trained mixture of experts computes. */
export const sparseActivationCommand: Command = {
  name: "sparse-activation",
  summary:
    "Which experts of a trained mixture run, how evenly, in what memory, with what gradients",
  examples: [
    [
      "sparse-activation --checkpoint 'train[base,seed=1]' --out activation",
      "on held-out text, untrained beside trained",
    ],
    [
      "sparse-activation --checkpoint exported --files 'books/*.txt' --out activation",
      "on files of your own",
    ],
  ],
  options: {
    ...CHECKPOINT_OPTIONS,
    out: { type: "string", requiresArg: true, demandOption: true, describe: "Folder to make" },
    files: {
      type: "string",
      requiresArg: true,
      describe: "Text, as evaluate takes it (default: the validation split of the node's dataset)",
    },
    tokens: {
      type: "number",
      default: 65536,
      requiresArg: true,
      describe: "Tokens at most",
    },
    "micro-batch": {
      type: "number",
      default: 8,
      requiresArg: true,
      describe: "Sequences computed at once",
    },
    ...PRECISION_OPTION,
    ...GPU_OPTION,
  },
  async run(args, { storeDir, json, print, warn }) {
    const { renderSparseActivation, sparseActivation } = await import("./sparse_activation.ts");
    const files = stringArgument(args, "files");
    const { folder, ...result } = await sparseActivation({
      ...checkpointArguments(args),
      storeDir,
      ...(files !== undefined && { files }),
      tokens: wholeArgument(args, "tokens", 1, 2 ** 28)!,
      micro_batch: wholeArgument(args, "micro-batch", 1, 65536)!,
      precision: stringArgument(args, "precision") as "f32" | "mixed",
      out: stringArgument(args, "out") ?? "",
      gpu: () => commandGpu(args),
      progress: (line) => !json && Deno.stderr.isTerminal() && warn(line),
      warn,
    });
    print(json ? JSON.stringify(result) : `${renderSparseActivation(result)}\n\n${folder}`);
    return result.checks.every(({ passed }) => passed) ? EXIT.ok : EXIT.failed;
  },
};
