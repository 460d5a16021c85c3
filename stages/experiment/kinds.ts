/**
 * The kinds of experiments: a configuration's key `experiment` says which one it is. Without the key it trains models.
 *
 * @module
 */

import { z } from "zod";
import type { Experiment, ExperimentRequest } from "../../pipeline/command.ts";
import { loadConfiguration } from "../../pipeline/config/config.ts";

/** The part of a configuration that says its kind. */
const kindSchema = z.looseObject({
  experiment: z.enum(["sparse_expansion"]).optional().describe(
    "the kind of experiment; without it, models are trained",
  ),
});

/**
 * Loads the experiment that a configuration describes, whichever kind it is of. Modules of the other kinds are not loaded.
 *
 * @throws {ConfigurationError} With every problem of the configuration; nothing has been started then.
 */
export async function loadAnyExperiment(request: ExperimentRequest): Promise<Experiment> {
  const { config, set } = request;
  const { value } = await loadConfiguration(config, { schema: kindSchema, set });
  if (value.experiment === "sparse_expansion") {
    const { loadSparseExpansion } = await import("../sparse_expansion/load.ts");
    return await loadSparseExpansion(request);
  }
  const [{ loadExperiment }, { PARTS }] = await Promise.all([
    import("./load.ts"),
    import("./parts.ts"),
  ]);
  return await loadExperiment(request, PARTS);
}
