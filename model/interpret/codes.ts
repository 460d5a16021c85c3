/**
 * The numbers that make an expert: its latent code in ETHOS, the weights of a stored expert. They can be read, and replaced by others.
 *
 * @module
 */

import { downloadParts } from "../gpu/transfer.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { InferenceModel } from "../inference/model.ts";
import { makeOperands } from "../trunk/initial_weights.ts";
import { type ExpertLayer, expertNumbers } from "./expert_layers.ts";

/** Tables that hold a row, or a matrix, of each expert, by kind. */
const TABLES: Readonly<Record<string, readonly string[]>> = {
  ethos: ["z"],
  peer: ["u", "v"],
  switch: ["w_gate", "w_up", "w_down"],
  topk_moe: ["w1", "b1", "w2", "b2"],
};

/** One table of a layer. */
interface CodeTable {
  readonly name: string;
  readonly parts: readonly Tensor[];
  /** Numbers of an expert in it. */
  readonly width: number;
}

function tablesOf(model: InferenceModel, { at, kind, axis_size, axes }: ExpertLayer): CodeTable[] {
  const names = model.weights.specs.map(({ name }) => name);
  return (TABLES[kind] ?? []).map((table) => `${at}.${table}`)
    // A mixture may have no biases.
    .filter((name) => names.includes(name))
    .map((name) => {
      const { parts } = model.weights.value(name);
      const numbers = parts.reduce((sum, { size }) => sum + size, 0);
      return { name, parts, width: numbers / (axes * axis_size) };
    });
}

/** Numbers of experts, row after row. */
export interface Codes {
  /** Experts. */
  readonly rows: number;
  /** Numbers of an expert: its tables one after another. */
  readonly width: number;
  /** `[rows, width]`. */
  readonly values: Float32Array;
}

/**
 * Reads the codes of experts. Behind beams a code is the sum of a row of each axis.
 *
 * @param names Names of the experts; those that there are where none are given, which beams have too many of.
 * @throws {RangeError} If the layer has no such expert.
 */
export async function readCodes(
  model: InferenceModel,
  layer: ExpertLayer,
  names?: readonly string[],
): Promise<Codes> {
  if (names === undefined && layer.axes > 1) {
    throw new RangeError(`Layer ${layer.layer} has too many experts to read all codes of`);
  }
  const numbers = names?.map((name) => expertNumbers(layer, name)) ??
    Array.from({ length: layer.experts }, (_, i) => [i]);
  const tables = tablesOf(model, layer);
  const width = tables.reduce((sum, table) => sum + table.width, 0);
  const values = new Float32Array(numbers.length * width);
  let start = 0;
  for (const table of tables) {
    const all = await downloadParts(model.gpu, table.parts);
    numbers.forEach((rows, i) => {
      const to = values.subarray(i * width + start, i * width + start + table.width);
      for (const row of rows) {
        for (let j = 0; j < to.length; j++) to[j]! += all[row * table.width + j]!;
      }
    });
    start += table.width;
  }
  return { rows: numbers.length, width, values };
}

/**
 * Replaces the code of an expert. Its place in the router stays: tokens are routed to it as before.
 *
 * @param code As many numbers as {@linkcode readCodes} gives.
 * @throws {RangeError} If the layer has no such expert, or another number of numbers; or behind beams, where experts share rows.
 */
export async function writeCode(
  model: InferenceModel,
  layer: ExpertLayer,
  options: { readonly expert: string; readonly code: ArrayLike<number> },
): Promise<void> {
  const { expert, code } = options;
  requireOwnCodes(layer);
  const [row] = expertNumbers(layer, expert);
  const tables = tablesOf(model, layer);
  const width = tables.reduce((sum, table) => sum + table.width, 0);
  if (code.length !== width) {
    throw new RangeError(
      `The code of an expert of layer ${layer.layer} has ${width} numbers, got ${code.length}`,
    );
  }
  let from = 0;
  for (const table of tables) {
    const numbers = Float32Array.from(code).subarray(from, from + table.width);
    writeRow(model, table, { row: row!, numbers });
    from += table.width;
  }
  await makeOperands(model.gpu, model.weights);
}

/** @throws {RangeError} Behind beams, where experts share the rows of their codes. */
export function requireOwnCodes({ layer, axes }: ExpertLayer): void {
  if (axes === 1) return;
  throw new RangeError(
    `Experts of layer ${layer} share the rows of their codes behind beams; expected a layer whose experts have codes of their own`,
  );
}

/** Writes one row of a table, whichever of its parts has it. */
function writeRow(
  { gpu }: InferenceModel,
  { name, parts, width }: CodeTable,
  { row, numbers }: { readonly row: number; readonly numbers: Float32Array<ArrayBuffer> },
): void {
  let first = row * width;
  for (const part of parts) {
    if (first < part.size) {
      const { buffer, offset } = part.memory;
      gpu.device.queue.writeBuffer(buffer, offset + 4 * first, numbers);
      return;
    }
    first -= part.size;
  }
  throw new RangeError(`${name} has no row ${row}`);
}
