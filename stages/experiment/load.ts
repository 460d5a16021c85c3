/**
 * Makes the experiment's nodes from the command line.
 *
 * @module
 */

import type { Experiment, ExperimentRequest } from "../../pipeline/command.ts";
import { ConfigurationError, loadConfiguration } from "../../pipeline/config/config.ts";
import type { JsonValue } from "../../pipeline/stage.ts";
import { type ExperimentParts, experimentSchema } from "./config.ts";
import { experiment, type ExperimentStages } from "./experiment.ts";

/** The parts of an experiment. */
export interface LoadExperimentParts extends ExperimentParts {
  readonly stages: ExperimentStages;
  /**
   * Adds to the `data` section what only the disk knows, so that it becomes part of the key. Throws when the disk hasn't
   * what the section names.
   */
  prepareData?(data: JsonValue, request: ExperimentRequest): Promise<JsonValue>;
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
  return {
    ...experiment(configuration, {
      stages: parts.stages,
      vocab_size: parts.vocabularySize(configuration.tokenizer),
    }),
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
