/**
 * `check-golden` as a command of the command line.
 *
 * @module
 */

import { type Command, listArgument, stringArgument } from "../../pipeline/command.ts";

/** Compares every golden file of a folder with what the project computes. */
export const checkGoldenCommand: Command = {
  name: "check-golden <dir>",
  summary: "Compare a folder of golden vectors with what the project computes",
  examples: [
    ["check-golden model/testdata/golden", "the vectors in the project"],
    ["check-golden vectors --only router", "one file"],
  ],
  positionals: { dir: { type: "string", describe: "Folder of *.safetensors files" } },
  options: {
    only: {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      describe: "Only this file; may be repeated",
    },
  },
  async run(args, { json, print }) {
    const [{ checkGolden }, { referenceImplementation }] = await Promise.all([
      import("./check_golden.ts"),
      import("../../model/reference/golden.ts"),
    ]);
    const only = listArgument(args, "only");
    return await checkGolden({
      directory: stringArgument(args, "dir") ?? "",
      ...(only.length === 0 ? {} : { only }),
      implementations: [referenceImplementation],
      json,
      print,
    });
  },
};
