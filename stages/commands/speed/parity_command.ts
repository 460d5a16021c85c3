/**
 * `parity` as a command of the command line.
 *
 * @module
 */

import { type Command, stringArgument } from "../../../pipeline/command.ts";
import { EXIT, UserError } from "../../../pipeline/errors.ts";
import { LARGEST_SEED, wholeArgument } from "../model/checkpoint_options.ts";
import { MEASURE_OPTIONS } from "./profile_command.ts";
import { checkWritable, writeResult } from "./write_result.ts";

/** Shows that precisions and runtimes train alike, and that a way gives the same bits again. */
export const parityCommand: Command = {
  name: "parity",
  summary: "Whether precisions and runtimes train alike, and a way gives the same bits again",
  examples: [
    ["parity --steps 50", "the tiny configuration on its tokenised text, in every way there is"],
    ["parity --ways deno:f32 --twice --resume", "the same bits twice and after a resume"],
    [
      "parity --tokens c4.u32 --config configs/paper.yaml --ways dawn:f32,dawn:mixed --save a.json",
      "tokens of your own",
    ],
  ],
  options: {
    ...MEASURE_OPTIONS,
    ways: {
      type: "string",
      requiresArg: true,
      describe:
        "deno:f32, deno:mixed, dawn:f32, dawn:mixed; the first is what others are compared with (default: all that this machine has)",
    },
    steps: { type: "number", default: 200, requiresArg: true, describe: "Updates of each way" },
    tokens: {
      type: "string",
      requiresArg: true,
      describe: "Text: a file of little-endian token ids, or a shard of the tokeniser",
    },
    dataset: {
      type: "string",
      default: "tokenize",
      requiresArg: true,
      describe: "Text when there is no --tokens: a node of the store, or its key",
    },
    twice: { type: "boolean", describe: "Train each way a second time and compare bits" },
    resume: { type: "boolean", describe: "Stop at half, go on from a checkpoint, compare bits" },
  },
  async run(args, { program, storeDir, json, print, warn }) {
    const [
      { findFaults, parity, parseWays, renderParity, textOfDataset, textOfFile },
      { loadBaseModel },
      { NoDawnError, NoGpuError },
      { interruptible },
    ] = await Promise.all([
      import("./parity.ts"),
      import("./base_model.ts"),
      import("../../../model/gpu/open.ts"),
      import("../../../pipeline/run/interrupt.ts"),
    ]);
    const save = stringArgument(args, "save");
    await checkWritable("save", save);
    const named = stringArgument(args, "ways");
    const ways = named === undefined ? undefined : parseWays(named);
    const { MOST_UPDATES } = await import("../../../model/training/config.ts");
    const steps = wholeArgument(args, "steps", 1, MOST_UPDATES)!;
    const seed = wholeArgument(args, "seed", 0, LARGEST_SEED) ?? 1;
    const model = await loadBaseModel(args, program);
    const tokens = stringArgument(args, "tokens");
    const { vocab_size } = model.config;
    using text = tokens === undefined
      ? await textOfDataset(stringArgument(args, "dataset")!, storeDir)
      : textOfFile(tokens, { vocab_size });
    using interrupt = interruptible(warn);
    const { signal } = interrupt;
    try {
      const result = await parity({
        model,
        text,
        ...ways && { ways },
        steps,
        seed,
        twice: args["twice"] === true,
        resume: args["resume"] === true,
        progress: warn,
        signal,
      });
      if (save !== undefined) await writeResult(save, result, { pretty: true });
      print(json ? JSON.stringify(result) : renderParity(result));
      return findFaults(result).length > 0 ? EXIT.failed : EXIT.ok;
    } catch (error) {
      if (signal.aborted) return interrupt.exitCode;
      if (error instanceof NoGpuError || error instanceof NoDawnError) {
        throw new UserError(error.message, { exitCode: EXIT.failed, cause: error });
      }
      throw error;
    }
  },
};
