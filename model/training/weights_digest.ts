/**
 * Weights as one hash: whether two trainings ended in the same bits.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import type { Trainer } from "./trainer.ts";

/**
 * SHA-256, hexadecimal, over all parameters and running statistics in the order of the forward pass. They are read back one by one, so
 * the host never holds more than the largest.
 */
export async function weightsDigest(trainer: Trainer): Promise<string> {
  const hash = createHash("sha256");
  for (
    const { name } of [
      ...parameterSpecs(trainer.architecture),
      ...statisticSpecs(trainer.architecture),
    ]
  ) {
    const values = await trainer.readState("value", name);
    hash.update(name);
    hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest("hex");
}
