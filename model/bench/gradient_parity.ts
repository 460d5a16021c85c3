/**
 * Whether two ways of computing agree on the gradient: the cosine of every parameter's, on one micro-batch and the initial weights.
 *
 * The first gradient is kept in a file and the second is read back parameter by parameter, so that a model that fills the device is
 * compared with itself: never is more than one trainer there, nor more of a gradient on the host than two tensors.
 *
 * @module
 */

import type { ModelConfig } from "../config.ts";
import type { Gpu } from "../gpu/device.ts";
import { parameterSpecs } from "../trunk/parameters.ts";
import { SafetensorsFile, writeSafetensors } from "../checkpoint/safetensors.ts";
import type { TokenBatch } from "../training/sampler.ts";
import type { TrainSection } from "../training/config.ts";
import type { Trainer } from "../training/trainer.ts";
import { roundWeights } from "./round_weights.ts";
import { withTrainer } from "./with_trainer.ts";

/** What acceptance asks of each parameter. */
export const COSINE_LIMIT = 0.999;

/** Tries at a loss scale before it is given up: from 2⁴⁰ down to 2⁻⁸. */
const MOST_TRIES = 48;

/** How far one parameter's gradient is from the reference's. */
export interface ParameterCosine {
  /** Name of the parameter. */
  readonly name: string;
  /** Cosine between the two; 1 when both are zero. */
  readonly cosine: number;
  /** Length over the reference's length, without the loss scale; null when the reference is zero. */
  readonly length_ratio: number | null;
}

/** A gradient held against a reference. */
export interface GradientParity {
  /** The way that the reference was computed in: `deno:f32`. */
  readonly reference: string;
  /** Adapter that computed the reference. */
  readonly reference_adapter: string;
  /** Loss scale at which the gradient was finite. */
  readonly loss_scale: number;
  /** All parameters as one vector. */
  readonly whole: Omit<ParameterCosine, "name">;
  /** The parameter with the smallest cosine. */
  readonly lowest: ParameterCosine;
  /** Parameters whose cosine is below {@linkcode COSINE_LIMIT}, the worst first. */
  readonly below: readonly ParameterCosine[];
  /** Every trained parameter, in the order of the forward pass. */
  readonly parameters: readonly ParameterCosine[];
}

/** What gradients are computed of. */
export interface GradientOptions {
  /** Sizes of the model. */
  readonly config: ModelConfig;
  /** How it is trained; one micro-batch of it is computed. */
  readonly train: TrainSection;
  /** Chooses the weights. */
  readonly seed: number;
  /** The micro-batch. */
  readonly batch: TokenBatch;
  /**
   * Rounds the weights to halves first. Which experts a token gets can hang on the last bits, so that a gradient differs a lot from one of almost the same
   * weights: what this gives in f32 is what mixed precision is to be measured by.
   */
  readonly rounded?: boolean;
}

/** Computes a gradient and writes it to `path` as the reference of later {@linkcode compareGradient}s. */
export async function saveGradient(
  gpu: Gpu,
  options: GradientOptions & { readonly path: string; readonly way: string },
): Promise<void> {
  const { path, way, config } = options;
  await withGradient(gpu, options, async (trainer, scale) => {
    await writeSafetensors(
      path,
      trainedSpecs(config).map(({ name, shape }) => ({
        name,
        dtype: "F32",
        shape,
        data: async function* () {
          const values = await trainer.readGradient(name);
          yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
        },
      })),
      { metadata: { way, adapter: gpu.adapter.description, loss_scale: String(scale) } },
    );
  });
}

/** Computes a gradient and holds it against the one in `path`. */
export async function compareGradient(
  gpu: Gpu,
  options: GradientOptions & { readonly path: string },
): Promise<GradientParity> {
  using reference = await SafetensorsFile.open(options.path);
  const { way = "", adapter = "", loss_scale: referenceScale = "1" } = reference.metadata;
  return await withGradient(gpu, options, async (trainer, scale) => {
    const parameters: ParameterCosine[] = [];
    const whole: Products = { ab: 0, aa: 0, bb: 0 };
    const relative = scale / Number(referenceScale);
    for (const { name } of trainedSpecs(options.config)) {
      const { data } = await reference.read(name);
      const sums = products(data as Float32Array, await trainer.readGradient(name));
      parameters.push({ name, ...angle(sums, relative) });
      whole.ab += sums.ab;
      whole.aa += sums.aa;
      whole.bb += sums.bb;
    }
    const sorted = parameters.toSorted((a, b) => a.cosine - b.cosine);
    return {
      reference: way,
      reference_adapter: adapter,
      loss_scale: scale,
      whole: angle(whole, relative),
      lowest: sorted[0]!,
      below: sorted.filter(({ cosine }) => cosine < COSINE_LIMIT),
      parameters,
    };
  });
}

/** Parameters that have a gradient: of those that are held it is zero. */
function trainedSpecs(config: ModelConfig) {
  return parameterSpecs(config).filter(({ held }) => !held);
}

/** Has a fresh trainer compute the gradient of one micro-batch, at the first loss scale at which it is finite. */
async function withGradient<T>(
  gpu: Gpu,
  options: GradientOptions,
  work: (trainer: Trainer, scale: number) => Promise<T>,
): Promise<T> {
  const { config, seed, batch } = options;
  const train = { ...options.train, gradient_accumulation: 1 };
  return await withTrainer(gpu, { config, train, seed }, async (trainer) => {
    if (options.rounded) await roundWeights(trainer);
    for (let i = 0; i < MOST_TRIES; i++) {
      trainer.update([batch]);
      const [record] = await trainer.records();
      // An update that was skipped changed the loss scale and nothing else.
      if (record!.applied) return await work(trainer, record!.loss_scale);
    }
    throw new Error(`The first gradient is not finite at any of ${MOST_TRIES} loss scales`);
  });
}

interface Products {
  ab: number;
  aa: number;
  bb: number;
}

function products(a: Float32Array, b: Float32Array): Products {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const x = a[i]!;
    const y = b[i]!;
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return { ab, aa, bb };
}

function angle({ ab, aa, bb }: Products, scale: number): Omit<ParameterCosine, "name"> {
  if (aa === 0) return { cosine: bb === 0 ? 1 : 0, length_ratio: null };
  if (bb === 0) return { cosine: 0, length_ratio: 0 };
  return { cosine: ab / Math.sqrt(aa) / Math.sqrt(bb), length_ratio: Math.sqrt(bb / aa) / scale };
}
