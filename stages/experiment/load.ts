/**
 * Makes the experiment's nodes from the command line.
 *
 * @module
 */

import type { Experiment, ExperimentRequest } from "../../pipeline/command.ts";
import { ConfigurationError, loadConfiguration } from "../../pipeline/config/config.ts";
import type { JsonValue } from "../../pipeline/stage.ts";
import { expandCells } from "./cells.ts";
import { type ExperimentConfiguration, type ExperimentParts, experimentSchema } from "./config.ts";
import type { ModelConfig } from "../../model/section.ts";
import type { InitialSection } from "../../model/training/config.ts";
import { experiment, type ExperimentStages } from "./experiment.ts";

/** The parts of an experiment. */
export interface LoadExperimentParts extends ExperimentParts {
  readonly stages: ExperimentStages;
  /**
   * Adds to the `data` section what only the disk knows, so that it becomes part of the key. Throws when the disk hasn't
   * what the section names.
   */
  prepareData?(data: JsonValue, request: ExperimentRequest): Promise<JsonValue>;
  /** SHA-256 of the trained model that a section `train.initial` names. Throws when there is none, or it does not fit the model that is to be trained. */
  initialDigest?(
    initial: InitialSection,
    model: ModelConfig,
    request: ExperimentRequest,
  ): Promise<string>;
  /** Keeps in the store what `prepareData` found out. */
  remember?(storeDir: string): Promise<void>;
}

/**
 * Loads the configuration and wires its nodes. `--seed N` is the key `seed`, said last.
 *
 * @throws {ConfigurationError} With every problem of the configuration; nothing has been started then.
 */
export async function loadExperiment(
  request: ExperimentRequest,
  parts: LoadExperimentParts,
): Promise<Experiment> {
  const { value } = await loadConfiguration(request.config, {
    schema: experimentSchema(parts),
    set: request.seed === undefined ? request.set : [...request.set, `seed=${request.seed}`],
  });
  const configuration = { ...value, data: await prepareData(value.data, request, parts) };
  const vocab_size = parts.vocabularySize(configuration.tokenizer);
  const initialDigests = await digestInitial(configuration, request, { ...parts, vocab_size });
  return {
    ...experiment(configuration, { stages: parts.stages, vocab_size, initialDigests }),
    // Optional keys that are undefined are no JSON.
    configuration: JSON.parse(JSON.stringify(configuration)) as JsonValue,
    configPath: request.config,
    ...parts.remember === undefined ? {} : { remember: parts.remember },
  };
}

/** Data that isn't there is a mistake of the configuration, found before anything starts. */
async function prepareData(
  data: JsonValue,
  request: ExperimentRequest,
  parts: LoadExperimentParts,
): Promise<JsonValue> {
  if (parts.prepareData === undefined) return data;
  try {
    return await parts.prepareData(data, request);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new ConfigurationError([{ place: request.config, path: "data", message }], {
      cause: error,
    });
  }
}

/** Digests of the models that cells start from, by the path that the configuration has. */
async function digestInitial(
  configuration: ExperimentConfiguration,
  request: ExperimentRequest,
  parts: LoadExperimentParts & { readonly vocab_size: number },
): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  if (parts.initialDigest === undefined) return digests;
  const { vocab_size } = parts;
  for (const { model, train: { initial } } of expandCells(configuration, { vocab_size }).cells) {
    if (initial === undefined) continue;
    try {
      const digest = await parts.initialDigest(initial, { ...model, vocab_size }, request);
      digests.set(initial.checkpoint, digest);
    } catch (error) {
      throw new ConfigurationError([{
        place: request.config,
        path: "train.initial.checkpoint",
        message: error instanceof Error ? error.message : String(error),
      }], { cause: error });
    }
  }
  return digests;
}
