/**
 * The options that the commands that read a checkpoint share.
 *
 * @module
 */

import { type Arguments, type OptionSpec, stringArgument } from "../../../pipeline/command.ts";
import { UserError } from "../../../pipeline/errors.ts";
import type { CheckpointKind } from "./checkpoints.ts";
import type { ModelChoice } from "./models.ts";

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

/** Options that name a model: a checkpoint, or a published one. */
export const MODEL_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  checkpoint: { ...CHECKPOINT_OPTIONS["checkpoint"]!, demandOption: false },
  which: CHECKPOINT_OPTIONS["which"]!,
  model: {
    type: "string",
    requiresArg: true,
    describe: "Published GPT-NeoX or Llama instead: a folder of its files, or ORG/NAME on the hub",
  },
  revision: {
    type: "string",
    requiresArg: true,
    describe: "Branch, tag or commit on the hub (default: main)",
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

/** The values of {@linkcode MODEL_OPTIONS}. */
export function modelArguments(args: Arguments): Omit<ModelChoice, "storeDir" | "warn"> {
  const given = (name: string) => {
    const value = stringArgument(args, name);
    return value === undefined ? {} : { [name]: value };
  };
  return { ...given("checkpoint"), ...given("which"), ...given("model"), ...given("revision") };
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
