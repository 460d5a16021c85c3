/**
 * Published models in golden files: their configuration and their weights have the names and the layout of a checkpoint.
 *
 * @module
 */

import { NO_TARGET } from "../../ops/elementwise/cross_entropy.ts";
import { emptyParameter, place } from "../../pretrained/tensor_map.ts";
import type { GoldenTensor } from "../case.ts";
import { readWidened, type WidenedModel } from "./heads.ts";

/**
 * The `config.json` in a file's metadata, under a key of it.
 *
 * @throws {SyntaxError} Naming the file and the key that is wrong.
 */
export function publishedModelOf(
  model: Readonly<Record<string, unknown>>,
  { key, file }: { readonly key: string; readonly file: string },
): WidenedModel {
  try {
    return readWidened(model);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SyntaxError(`${file}: the metadata's config ${key}: ${why}`, { cause });
  }
}

/** Shapes of a file's `param.*`. */
export function storedShapes(
  { published, shapeOf }: WidenedModel,
): (readonly [string, readonly number[]])[] {
  return published.tensors.flatMap(({ parts }) =>
    parts.map(({ name, shape }) => [`param.${name}`, shapeOf(name, shape)] as const)
  );
}

/** Parameters by the project's names, from a file's `param.*`. */
export function storedParameters(
  { published, widen }: WidenedModel,
  stored: ReadonlyMap<string, GoldenTensor>,
): Map<string, Float32Array> {
  return new Map(published.tensors.map((map) => {
    const target = emptyParameter(map);
    for (const part of map.parts) {
      const { data } = widen(part.name, stored.get(`param.${part.name}`)!);
      place(map, part, { row: 0, values: Float32Array.from(data), target });
    }
    return [map.name, target];
  }));
}

/** The token after each token of its sequence; the last one of a sequence predicts nothing. */
export function nextTokens(tokens: ArrayLike<number>, length: number): number[] {
  return Array.from(
    { length: tokens.length },
    (_, i) => i % length === length - 1 ? NO_TARGET : tokens[i + 1]!,
  );
}
