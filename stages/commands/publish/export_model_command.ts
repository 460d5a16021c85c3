/**
 * `export-model` as a command of the command line.
 *
 * @module
 */

import { type Command, stringArgument } from "../../../pipeline/command.ts";
import { CHECKPOINT_OPTIONS, checkpointArguments } from "../model/checkpoint_options.ts";

/** Writes a trained model in a form that other programs load. */
export const exportModelCommand: Command = {
  name: "export-model",
  summary: "Write a trained model for transformers and PyTorch, with a card",
  examples: [
    [
      "export-model --checkpoint 'train[base,seed=1]' --format transformers --out exported",
      "safetensors, Python files, tokenizer and card",
    ],
  ],
  options: {
    ...CHECKPOINT_OPTIONS,
    format: {
      choices: ["transformers"],
      default: "transformers",
      requiresArg: true,
      describe: "transformers: loads with trust_remote_code, and with PyTorch alone",
    },
    out: { type: "string", requiresArg: true, demandOption: true, describe: "Folder to make" },
    license: {
      type: "string",
      default: "agpl-3.0",
      requiresArg: true,
      describe: "Licence of the weights in the card, as the hub writes it",
    },
  },
  async run(args, { storeDir, json, print }) {
    const { exportModel } = await import("./export_model.ts");
    const result = await exportModel({
      ...checkpointArguments(args),
      out: stringArgument(args, "out") ?? "",
      license: stringArgument(args, "license") ?? "",
      storeDir,
    });
    if (json) return print(JSON.stringify(result));
    print(`${result.checkpoint}, the ${result.which} model → ${result.folder}`);
    for (const file of result.files) print(`  ${file}`);
  },
};
