/**
 * `export-checkpoint` as a command of the command line.
 *
 * @module
 */

import { type Command, stringArgument } from "../../../pipeline/command.ts";

/** Copies a node's checkpoint to a plain folder. */
export const exportCheckpointCommand: Command = {
  name: "export-checkpoint",
  summary: "Copy a node's checkpoint (safetensors, vocabulary) to a folder",
  examples: [[
    "export-checkpoint --checkpoint 'train[base,seed=1]' --out exported",
    "to exported/",
  ]],
  options: {
    checkpoint: {
      type: "string",
      requiresArg: true,
      demandOption: true,
      describe: "Node of the store ('train[base,seed=1]') or key",
    },
    out: { type: "string", requiresArg: true, demandOption: true, describe: "Folder to make" },
  },
  async run(args, { storeDir, json, print }) {
    const { exportCheckpoint } = await import("./export_checkpoint.ts");
    const result = await exportCheckpoint({
      checkpoint: stringArgument(args, "checkpoint") ?? "",
      out: stringArgument(args, "out") ?? "",
      storeDir,
    });
    if (json) return print(JSON.stringify(result));
    print(`${result.checkpoint} → ${result.folder}`);
    for (const file of result.files) print(`  ${file}`);
  },
};
