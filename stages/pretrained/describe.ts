/**
 * The output `model`: sizes of a published model, from its configuration.
 *
 * @module
 */

import type { PretrainedCheckpoint } from "../../model/pretrained/checkpoint.ts";
import { readJson } from "../../model/pretrained/files.ts";
import { CONFIG_FILE } from "../../model/pretrained/json.ts";
import { parameterSpecs } from "../../model/trunk/parameters.ts";
import type { DenseModelResult } from "./result.ts";

/** Sizes of an opened checkpoint. */
export async function describeModel(
  checkpoint: PretrainedCheckpoint,
): Promise<Omit<DenseModelResult, "name" | "commit" | "files">> {
  const { architecture, positions, folder } = checkpoint;
  const { num_layers, d_model, vocab_size, leading_dense } = architecture.config;
  const count = (only: (name: string) => boolean) =>
    parameterSpecs(architecture).filter(({ name }) => only(name))
      .reduce((sum, { shape }) => sum + shape.reduce((product, n) => product * n, 1), 0);
  return {
    family: String(Object(await readJson(folder, CONFIG_FILE))["model_type"]),
    blocks: num_layers,
    d_model,
    d_ffn: leading_dense.d_ffn,
    vocab_size,
    positions: positions ?? null,
    parameters: count(() => true),
    mlp_parameters: count((name) => /\.ffn\.w_/.test(name)),
  };
}
