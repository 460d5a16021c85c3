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
import { experiment, type ExperimentStages, startKey, trainingName } from "./experiment.ts";
import type { PlannedStart } from "./initial_models.ts";

/** The parts of an experiment. */
export interface LoadExperimentParts extends ExperimentParts {
  readonly stages: ExperimentStages;
  /**
   * Adds to the `data` section what only the disk knows, so that it becomes part of the key. Throws when the disk hasn't
   * what the section names.
   */
  prepareData?(data: JsonValue, request: ExperimentRequest): Promise<JsonValue>;
  /** Finds the model that a section `train.initial` names. Throws when there is none, or it does not fit the model that is to be trained. */
  planInitial?(
    initial: InitialSection,
    model: ModelConfig,
    request: ExperimentRequest,
  ): Promise<PlannedStart>;
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
  const starts = await planStarts(configuration, request, { ...parts, vocab_size });
  return {
    ...experiment(configuration, { stages: parts.stages, vocab_size, starts }),
    // Optional keys that are undefined are no JSON.
    configuration: JSON.parse(JSON.stringify(configuration)) as JsonValue,
    configPath: request.config,
    tensorboard: configuration.metrics.tensorboard,
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

/** The models that cells start from, by their sections. */
async function planStarts(
  configuration: ExperimentConfiguration,
  request: ExperimentRequest,
  parts: LoadExperimentParts & { readonly vocab_size: number },
): Promise<Map<string, PlannedStart>> {
  const starts = new Map<string, PlannedStart>();
  if (parts.planInitial === undefined) return starts;
  const { vocab_size } = parts;
  const { cells } = expandCells(configuration, { vocab_size });
  const own = new Set(
    cells.flatMap(({ name, seeds }) => seeds.map((seed) => trainingName(name, seed))),
  );
  for (const { model, train: { initial } } of cells) {
    if (initial === undefined) continue;
    try {
      const start = await parts.planInitial(initial, { ...model, vocab_size }, request);
      const { node } = start;
      if (node && node.name === initial.checkpoint && own.has(node.name)) {
        throw new Error(
          `${node.name} is the name of a training of this experiment too, which would start from itself the next time; ` +
            `expected the key, ${node.key.slice(0, 12)}`,
        );
      }
      starts.set(startKey(initial), start);
    } catch (error) {
      throw new ConfigurationError([{
        place: request.config,
        path: "train.initial.checkpoint",
        message: error instanceof Error ? error.message.replace(/\.$/, "") : String(error),
      }], { cause: error });
    }
  }
  return starts;
}
