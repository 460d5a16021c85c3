/**
 * `parity` as a command of the command line.
 *
 * @module
 */

import {
  type Arguments,
  type Command,
  listArgument,
  stringArgument,
} from "../../../pipeline/command.ts";
import { EXIT, UserError } from "../../../pipeline/errors.ts";
import { wholeArgument } from "../model/checkpoint_options.ts";
import { MEASURE_OPTIONS } from "./profile_command.ts";
import { checkWritable, writeResult } from "./write_result.ts";

/** Shows that precisions and runtimes train alike. */
export const parityCommand: Command = {
  name: "parity",
  summary: "Whether precisions and runtimes train alike: curves, gradients, the same bits again",
  examples: [
    ["parity --steps 50", "the tiny configuration on its tokenised text, in every way there is"],
    [
      "parity --tokens c4.u32 --config configs/paper.yaml --ways dawn:f32,dawn:mixed --save a.json",
      "tokens of your own",
    ],
    ["parity --twice --resume --gradients", "the same bits again; gradients by parameter"],
    ["parity --save a.json --continue", "go on where the same line was interrupted"],
    ["parity --figure-from a.json --figure-from b.json --out figures", "draw what was saved"],
  ],
  options: {
    ...MEASURE_OPTIONS,
    ways: {
      type: "string",
      requiresArg: true,
      describe:
        "deno:f32, deno:mixed, dawn:f32, dawn:mixed (default: what this machine has); deno:f32:rounded and dawn:f32:rounded start from weights rounded to halves",
    },
    steps: { type: "number", default: 200, requiresArg: true, describe: "Updates of each way" },
    tokens: {
      type: "string",
      requiresArg: true,
      describe: "Text: a file of little-endian token ids, or a shard of the tokeniser",
    },
    "token-bits": {
      choices: ["16", "32"],
      requiresArg: true,
      describe: "Bits of an id in --tokens (default: 16 for at most 65,536 ids, else 32)",
    },
    dataset: {
      type: "string",
      default: "tokenize",
      requiresArg: true,
      describe: "Text when there is no --tokens: a node of the store, or its key",
    },
    twice: { type: "boolean", describe: "Train each way a second time and compare bits" },
    resume: { type: "boolean", describe: "Stop at half, go on from a checkpoint, compare bits" },
    "identity-steps": {
      type: "number",
      requiresArg: true,
      describe: "Updates of --twice and --resume (default: as many as --steps)",
    },
    gradients: {
      type: "boolean",
      describe: "Compare each parameter's gradient of the first micro-batch with that in f32",
    },
    scratch: {
      type: "string",
      requiresArg: true,
      describe:
        "Folder for checkpoint and gradient, 16 bytes a parameter (default: a temporary one)",
    },
    "dawn-icd": {
      type: "string",
      requiresArg: true,
      describe: "Manifest of the Vulkan driver that Dawn is to use, such as SwiftShader's",
    },
    continue: {
      type: "boolean",
      describe: "Measure only what the file of --save does not have to the end",
    },
    out: { type: "string", requiresArg: true, describe: "Draw the curves into this folder" },
    "figure-from": {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      describe: "Measure nothing: show and draw what --save wrote; may be repeated",
    },
  },
  async run(args, { program, storeDir, json, print, warn }) {
    const [{ drawParity, findFaults, readSavedParity, renderParity }, { interruptible }] =
      await Promise.all([import("./parity.ts"), import("../../../pipeline/run/interrupt.ts")]);
    const [out, save] = [stringArgument(args, "out"), stringArgument(args, "save")];
    const from = listArgument(args, "figure-from");
    await checkWritable("save", save);
    using interrupt = interruptible(warn);
    const { signal } = interrupt;
    let result;
    try {
      result = from.length > 0
        ? await readSavedParity(from)
        : await measure(args, { program, storeDir, save, warn, signal });
    } catch (error) {
      if (signal.aborted) return interrupt.exitCode;
      throw error;
    }
    if (from.length > 0 && save !== undefined) await writeResult(save, result, { pretty: true });
    print(json ? JSON.stringify(result) : renderParity(result));
    if (out !== undefined) { for (const file of await drawParity(result, out)) warn(file); }
    return findFaults(result).length > 0 ? EXIT.failed : EXIT.ok;
  },
};

/** Checks what was asked for, then measures it. */
async function measure(
  args: Arguments,
  { program, storeDir, save, warn, signal }: {
    program: { root: string; defaultConfig: string };
    storeDir: string;
    save: string | undefined;
    warn(line: string): void;
    signal: AbortSignal;
  },
) {
  const [
    {
      availableWays,
      deviceOpener,
      parity,
      parseWays,
      readKnownParity,
      textOfDataset,
      textOfFile,
    },
    { loadBaseModel },
    { NoDawnError, NoGpuError },
  ] = await Promise.all([
    import("./parity.ts"),
    import("./base_model.ts"),
    import("../../../model/gpu/device.ts"),
  ]);
  const named = stringArgument(args, "ways");
  const ways = named === undefined ? undefined : parseWays(named);
  const steps = wholeArgument(args, "steps", 1)!;
  const identitySteps = wholeArgument(args, "identity-steps", 2);
  const identity = {
    twice: args["twice"] === true,
    resume: args["resume"] === true,
    ...identitySteps !== undefined && { steps: identitySteps },
  };
  if (identitySteps !== undefined && !identity.twice && !identity.resume) {
    throw new UserError("--identity-steps is for --twice and --resume, and neither is given.");
  }
  if (identitySteps !== undefined && identitySteps > steps) {
    throw new UserError(
      `--identity-steps is ${identitySteps}; expected at most --steps, ${steps}.`,
    );
  }
  const seed = wholeArgument(args, "seed", 0) ?? 1;
  if (args["continue"] === true && save === undefined) {
    throw new UserError("--continue goes on with the file of --save, which is not given.");
  }
  const before = args["continue"] === true ? await readKnownParity(save!) : undefined;
  const icd = stringArgument(args, "dawn-icd");
  if (icd !== undefined) await checkFile("dawn-icd", icd);
  const model = await loadBaseModel(args, program);
  const tokens = stringArgument(args, "tokens");
  const bits = stringArgument(args, "token-bits");
  using text = tokens === undefined
    ? await textOfDataset(stringArgument(args, "dataset")!, storeDir)
    : textOfFile(tokens, {
      vocab_size: model.config.vocab_size,
      ...bits !== undefined && { width: bits === "16" ? 2 : 4 },
    });
  const open = deviceOpener(icd);
  const scratch = stringArgument(args, "scratch");
  const folder = scratch ?? await Deno.makeTempDir({ prefix: "parity-" });
  try {
    return await parity({
      model,
      text,
      root: program.root,
      ways: ways ?? await availableWays(open),
      steps,
      seed,
      identity,
      gradients: args["gradients"] === true,
      known: before && { name: save!, result: before },
      folder,
      open,
      progress: warn,
      signal,
      async measured(sofar) {
        // What was measured stays, should the rest be cut short.
        if (save !== undefined) await writeResult(save, sofar, { pretty: true });
      },
    });
  } catch (error) {
    if (error instanceof NoGpuError || error instanceof NoDawnError) {
      throw new UserError(error.message, { exitCode: EXIT.failed, cause: error });
    }
    throw error;
  } finally {
    if (scratch === undefined) await Deno.remove(folder, { recursive: true });
  }
}

async function checkFile(option: string, path: string): Promise<void> {
  try {
    if ((await Deno.stat(path)).isFile) return;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  throw new UserError(`--${option} is ${path}, which is no file.`);
}
