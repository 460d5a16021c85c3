/**
 * The options that the commands that read a checkpoint share.
 *
 * @module
 */

import { type Arguments, type OptionSpec, stringArgument } from "../../../pipeline/command.ts";
import { UserError } from "../../../pipeline/errors.ts";
import type { CheckpointKind } from "./checkpoints.ts";

/** Options that name a checkpoint. */
export const CHECKPOINT_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  checkpoint: {
    type: "string",
    requiresArg: true,
    demandOption: true,
    describe: "Node of the store ('train[base,seed=1]'), key, folder or .safetensors file",
  },
  which: {
    choices: ["last", "best"],
    requiresArg: true,
    describe: "Which model of a training: the last, or the best on held-out text (default: last)",
  },
};

/** Option of the commands that compute. */
export const PRECISION_OPTION: Readonly<Record<string, OptionSpec>> = {
  precision: {
    choices: ["f32", "mixed"],
    default: "f32",
    requiresArg: true,
    describe: "mixed computes with 16-bit copies of the weights",
  },
};

/** The values of {@linkcode CHECKPOINT_OPTIONS}. */
export function checkpointArguments(
  args: Arguments,
): { checkpoint: string; which?: CheckpointKind } {
  const which = stringArgument(args, "which") as CheckpointKind | undefined;
  const checkpoint = stringArgument(args, "checkpoint") ?? "";
  return which === undefined ? { checkpoint } : { checkpoint, which };
}

/** The largest seed: generators take 32 bits, and would take a larger one for another. */
export const LARGEST_SEED = 2 ** 32 - 1;

/**
 * The value of a numeric option, if given.
 *
 * @throws {UserError} If it is no whole number, or is not from `minimum` to `maximum`.
 */
export function wholeArgument(
  args: Arguments,
  name: string,
  minimum: number,
  maximum: number = Number.MAX_SAFE_INTEGER,
): number | undefined {
  const value = args[name];
  if (value === undefined) return undefined;
  const whole = typeof value === "number" && Number.isSafeInteger(value);
  if (whole && value >= minimum && value <= maximum) return value;
  const end = maximum === Number.MAX_SAFE_INTEGER ? "" : ` to ${maximum}`;
  throw new UserError(`--${name} is ${value}; expected a whole number from ${minimum}${end}.`);
}
