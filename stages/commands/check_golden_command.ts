/**
 * `check-golden` as a command of the command line.
 *
 * @module
 */

import { join } from "@std/path";
import type { GoldenImplementation } from "../../model/golden/golden.ts";
import type { Gpu } from "../../model/gpu/device.ts";
import {
  type Arguments,
  type Command,
  listArgument,
  stringArgument,
} from "../../pipeline/command.ts";
import { UserError } from "../../pipeline/errors.ts";
import { GPU_OPTION, useGpu } from "./gpu_option.ts";

/** Compares every golden file of a folder with the project's results. */
export const checkGoldenCommand: Command = {
  name: "check-golden [dir]",
  summary: "Compare a folder of golden vectors with what the project computes",
  examples: [
    ["check-golden", "the vectors in the project"],
    ["check-golden vectors --only router", "one file of another folder"],
    ["check-golden --on reference", "without a GPU"],
  ],
  positionals: {
    dir: {
      type: "string",
      describe: "Folder of *.safetensors files; the project's own unless given",
    },
  },
  options: {
    only: {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      describe: "Only this file; may be repeated",
    },
    on: {
      type: "string",
      choices: ["reference", "gpu", "both"],
      default: "both",
      requiresArg: true,
      describe: "Computes: the float64 reference, the GPU in every execution, or both",
    },
    ...GPU_OPTION,
  },
  async run(args, { program, json, print }) {
    const [{ checkGolden }, implementations] = await Promise.all([
      import("./check_golden.ts"),
      goldenImplementations(args),
    ]);
    const only = listArgument(args, "only");
    try {
      return await checkGolden({
        directory: stringArgument(args, "dir") ?? join(program.root, "model/golden/testdata"),
        ...(only.length === 0 ? {} : { only }),
        implementations: implementations.list,
        json,
        print,
      });
    } finally {
      implementations.close();
    }
  },
};

/** The implementations that `--on` names. */
async function goldenImplementations(
  args: Arguments,
): Promise<{ list: readonly GoldenImplementation[]; close(): void }> {
  const on = stringArgument(args, "on") ?? "both";
  const list: GoldenImplementation[] = [];
  if (on !== "gpu") {
    list.push((await import("../../model/golden/reference.ts")).referenceImplementation);
  }
  if (on === "reference") return { list, close() {} };
  await useGpu(args);
  const [{ gpuImplementations }, { sharedGpu }] = await Promise.all([
    import("../../model/golden/gpu.ts"),
    import("../shared_gpu.ts"),
  ]);
  let gpu: Gpu;
  try {
    gpu = await sharedGpu();
  } catch (error) {
    if (!(error instanceof Error && error.name === "NoGpuError")) throw error;
    throw new UserError(`${error.message} With --on reference the command needs none.`);
  }
  list.push(...gpuImplementations(gpu));
  return { list, close: () => gpu.close() };
}
