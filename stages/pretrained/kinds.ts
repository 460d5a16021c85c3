/**
 * The kinds of layers that published models are made of. A file of its own, so that a stage that reads a model has no code of those that find one.
 *
 * @module
 */

import { kindModules } from "../../model/load.ts";

/** Modules of the kinds of a published model's layers, whichever family it is of. */
export function publishedModules(): string[] {
  return kindModules({
    attention: { kind: "mha" },
    ffn: { kind: "dense" },
    leading_dense: { num_layers: 0 },
  });
}
