/**
 * The tensors of a model in its file.
 *
 * @module
 */

import type { Architecture } from "../trunk/architecture.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import type { SafetensorsFile } from "./safetensors.ts";

/** A tensor that a model has and its file holds, f32. */
export interface ModelTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Its size in the file. */
  readonly byteLength: number;
}

/**
 * Finds weights and running statistics in an open file, in the order of the specification.
 *
 * @param from The file's path, for messages.
 * @throws {Error} If one is missing, or has another type or shape.
 */
export function modelTensors(
  from: string,
  { file, architecture }: { readonly file: SafetensorsFile; readonly architecture: Architecture },
): ModelTensor[] {
  return [...parameterSpecs(architecture), ...statisticSpecs(architecture)].map(
    ({ name, shape }) => {
      const found = file.tensors.get(name);
      if (found === undefined) throw new Error(`${from} has no tensor ${name}`);
      if (found.dtype !== "F32" || found.shape.join() !== shape.join()) {
        throw new Error(
          `${from}: tensor ${name} is ${found.dtype} [${found.shape.join(", ")}], expected F32 [${
            shape.join(", ")
          }]`,
        );
      }
      return { name, shape, byteLength: found.byteLength };
    },
  );
}
