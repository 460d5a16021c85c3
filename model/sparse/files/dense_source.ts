/**
 * The dense weights of a published checkpoint on a device, a part of them at a time.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import { uploadParts } from "../../gpu/transfer.ts";
import { Weights } from "../../layer/weights.ts";
import type { PretrainedCheckpoint } from "../../pretrained/checkpoint.ts";
import { weightSpecs } from "../../trunk/parameters.ts";
import type { DensePart, DenseSource } from "../blocks.ts";
import type { MlpBiases } from "../mlp.ts";
import { isExpanded } from "./layout.ts";

/** Whether a parameter belongs to a part. */
function isOf(part: DensePart, parameter: string): boolean {
  if (part.kind === "embedding") return /^(embed|position)\./.test(parameter);
  if (!parameter.startsWith(`layers.${part.block}.`)) return false;
  return part.mlp || !isExpanded(parameter);
}

/** The weights of a checkpoint, which stay in its files until a part is used. */
export function denseSource(gpu: Gpu, checkpoint: PretrainedCheckpoint): DenseSource {
  const { architecture } = checkpoint;
  const specs = weightSpecs(architecture);
  return {
    architecture,
    async use(part, work) {
      const own = specs.filter(({ name }) => isOf(part, name));
      const weights = new Weights(gpu, own, { train: false, precision: "f32" });
      try {
        const names = new Set(own.map(({ name }) => name));
        await checkpoint.fill({
          architecture,
          writeState: (_kind, name, values) => {
            uploadParts(gpu, weights.value(name).parts, values);
            // The queue holds copies of all that was written until something is submitted.
            gpu.device.queue.submit([]);
            return Promise.resolve();
          },
        }, (name) => names.has(name));
        return await work(weights);
      } finally {
        weights.destroy();
      }
    },
  };
}

/** The biases of a block's MLP, which its experts share; undefined where it has none. */
export async function readBiases(
  checkpoint: PretrainedCheckpoint,
  { block, biased }: { readonly block: number; readonly biased: boolean },
): Promise<MlpBiases | undefined> {
  if (!biased) return undefined;
  const at = `layers.${block}.ffn.b_`;
  const found: Record<string, Float32Array> = {};
  await checkpoint.fill({
    architecture: checkpoint.architecture,
    writeState: (_kind, name, values) => {
      found[name.slice(at.length)] = new Float32Array(values);
      return Promise.resolve();
    },
  }, (name) => name.startsWith(at));
  return { up: found["up"]!, down: found["down"]! };
}
