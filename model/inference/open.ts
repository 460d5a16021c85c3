/**
 * A trained model from its file.
 *
 * @module
 */

import { loadModel, readArchitecture, type WeightSink } from "../checkpoint/checkpoint.ts";
import type { Gpu } from "../gpu/device.ts";
import type { LoadOptions } from "../load.ts";
import { type FillOptions, InferenceModel } from "./model.ts";

interface OpenModelOptions extends LoadOptions, FillOptions {
  /** Keys of `model.ffn` to change in the configuration that the file holds: those that no tensor depends on. */
  readonly ffn?: Readonly<Record<string, unknown>>;
}

/**
 * Reads a `model.safetensors`, tensor by tensor.
 *
 * @throws {Error} Naming the file and what is wrong with it.
 */
export async function openInferenceModel(
  gpu: Gpu,
  path: string,
  options: OpenModelOptions = {},
): Promise<InferenceModel> {
  const stored = await readArchitecture(path, options);
  const architecture = options.ffn === undefined ? stored : stored.withFfn(options.ffn);
  const fill = (sink: WeightSink) => loadModel(path, sink);
  return await InferenceModel.filled(gpu, { architecture, fill }, options);
}
