/**
 * Published models in golden files: their configuration and their weights have the names and the layout of a checkpoint.
 *
 * @module
 */

import { readPretrainedConfig } from "../pretrained/config.ts";
import type { PretrainedConfig } from "../pretrained/family.ts";
import { emptyParameter, place } from "../pretrained/tensor_map.ts";
import type { GoldenTensor } from "./golden.ts";

/** The `config.json` in a file's metadata. @throws {SyntaxError} Naming the file and the key that is wrong. */
export function pretrainedConfigOf(model: unknown, file: string): PretrainedConfig {
  try {
    return readPretrainedConfig(model);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SyntaxError(`${file}: the metadata's config model: ${why}`, { cause });
  }
}

/** Parameters by the project's names, from a file's `param.*`. */
export function storedParameters(
  { tensors }: PretrainedConfig,
  stored: ReadonlyMap<string, GoldenTensor>,
): Map<string, Float32Array> {
  return new Map(tensors.map((map) => {
    const target = emptyParameter(map);
    for (const part of map.parts) {
      const values = Float32Array.from(stored.get(`param.${part.name}`)!.data);
      place(map, part, { row: 0, values, target });
    }
    return [map.name, target];
  }));
}
