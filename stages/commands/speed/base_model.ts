/**
 * The base model of a configuration, for commands that need its sizes and no data.
 *
 * @module
 */

import { isAbsolute, relative, resolve } from "@std/path";
import { architectureOf } from "../../../model/config.ts";
import type { ModelConfig } from "../../../model/section.ts";
import type { Architecture } from "../../../model/trunk/architecture.ts";
import type { TrainSection } from "../../../model/training/config.ts";
import { type Arguments, listArgument, stringArgument } from "../../../pipeline/command.ts";
import { loadConfiguration } from "../../../pipeline/config/config.ts";
import { experimentSchema } from "../../experiment/config.ts";
import { PARTS } from "../../experiment/parts.ts";
import { tokenizerSchema, vocabularySize } from "../../tokenize/tokenize.ts";
import { wholeArgument } from "../model/checkpoint_options.ts";

/** The base of an experiment. */
export interface BaseModel {
  /** Name of the experiment. */
  readonly name: string;
  /** The file that was read; seen from the project's folder when it lies there. */
  readonly path: string;
  /** Sizes of the model, with the vocabulary that its tokenizer has. */
  readonly config: ModelConfig;
  /** Its layers. */
  readonly architecture: Architecture;
  /** How it is trained. */
  readonly train: TrainSection;
}

/**
 * Reads the base model of `--config` with `--set` and `--vocab-size`. No data is looked at, so none needs to be there.
 *
 * @param options `defaultConfig`: the file when `--config` names none, relative to `root`.
 * @throws {ConfigurationError} With every problem of the file.
 * @throws {UserError} If the size of the vocabulary is no whole number from 4.
 */
export async function loadBaseModel(
  args: Arguments,
  options: { root: string; defaultConfig: string },
): Promise<BaseModel> {
  const { root, defaultConfig } = options;
  const vocabulary = wholeArgument(args, "vocab-size", 4);
  const path = stringArgument(args, "config") ??
    (isAbsolute(defaultConfig) ? defaultConfig : resolve(root, defaultConfig));
  const { value } = await loadConfiguration(path, {
    schema: experimentSchema(PARTS),
    set: listArgument(args, "set"),
  });
  const vocab_size = vocabulary ?? vocabularySize(tokenizerSchema.parse(value.tokenizer));
  const config = { ...value.model, vocab_size };
  const place = relative(root, resolve(path));
  return {
    name: value.name,
    path: place.startsWith("..") ? path : place,
    config,
    architecture: architectureOf(config),
    train: value.train,
  };
}
