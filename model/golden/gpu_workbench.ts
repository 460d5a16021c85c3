/**
 * The tensors and weights of a golden case on a GPU.
 *
 * @module
 */

import { runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Arena } from "../gpu/memory.ts";
import { Plan } from "../gpu/plan.ts";
import { type DType, Tensor } from "../gpu/tensor.ts";
import { downloadParts, upload, uploadParts } from "../gpu/transfer.ts";
import { LayerContext, type LayerContextOptions } from "../layer/context.ts";
import { Weights, type WeightSpec } from "../layer/weights.ts";
import { weightSpecs } from "../trunk/parameters.ts";
import {
  type BeamRouterCase,
  input,
  type LayerCase,
  type MixtureCase,
  type MlaCase,
  type RouterCase,
} from "./golden.ts";

/** The operands of matrix products: f32, or halves of f32 weights. */
export type Precision = "f32" | "mixed";

/** The type of a layer's input. */
export const OPERAND = { f32: "f32", mixed: "f16" } as const satisfies Record<Precision, DType>;

/** Tensors of one case, and the weights of one layer of it. */
export class Bench implements Disposable {
  readonly gpu: Gpu;
  readonly weights: Weights;
  readonly #arenas: Arena[] = [];

  /** Allocates weights and fills them with what `values` has under their names. */
  constructor(
    gpu: Gpu,
    specs: readonly WeightSpec[],
    options: {
      readonly values: (name: string) => ArrayLike<number>;
      readonly precision: Precision;
    },
  ) {
    const { values, precision } = options;
    this.gpu = gpu;
    this.weights = new Weights(gpu, specs, { train: true, precision });
    for (const { name, trained } of specs) {
      uploadParts(gpu, this.weights.value(name).parts, values(name));
      if (precision === "mixed" && trained) {
        uploadParts(gpu, this.weights.operand(name).parts, values(name));
      }
    }
  }

  /** A tensor of an input's values, or of zeros. */
  tensor(
    name: string,
    shape: readonly number[],
    values?: ArrayLike<number>,
    dtype: DType = "f32",
  ): Tensor {
    const tensor = new Tensor(name, shape, { owner: "golden", dtype });
    this.#arenas.push(new Arena(this.gpu, name, [tensor]));
    if (values) upload(this.gpu, tensor, values);
    return tensor;
  }

  /** Records a plan, runs it once, and reads what `record` returned. */
  async run(
    options: LayerContextOptions,
    record: (context: LayerContext) => Readonly<Record<string, Tensor>>,
  ): Promise<Map<string, ArrayLike<number>>> {
    const plan = new Plan(this.gpu, "golden");
    const tensors = record(new LayerContext(plan, this.weights, options));
    return new Map(Object.entries(await runPlan(plan, tensors)));
  }

  /** Gradients of the trained weights, by name without `prefix`. */
  async gradients(prefix: string): Promise<[string, ArrayLike<number>][]> {
    const trained = this.weights.specs.filter(({ trained }) => trained);
    return await Promise.all(trained.map(async ({ name }) =>
      [
        name.slice(prefix.length),
        await downloadParts(this.gpu, this.weights.gradient(name).parts),
      ] as [string, ArrayLike<number>]
    ));
  }

  [Symbol.dispose](): void {
    this.weights.destroy();
    for (const arena of this.#arenas) arena.destroy();
  }
}

/** Weights of layer 0 under `prefix`, filled from a case whose names lack it. */
export function bench(
  gpu: Gpu,
  golden: MlaCase | RouterCase | BeamRouterCase | LayerCase | MixtureCase,
  options: { prefix: string; precision: Precision },
): Bench {
  const { prefix, precision } = options;
  const specs = weightSpecs(golden.architecture).filter(({ name }) => name.startsWith(prefix));
  const values = (name: string) => input(golden, name.slice(prefix.length)).data;
  return new Bench(gpu, specs, { values, precision });
}

/** `values` with a prefix before every name. */
export function* named(
  prefix: string,
  values: Iterable<readonly [string, ArrayLike<number>]>,
): Generator<[string, ArrayLike<number>]> {
  for (const [name, value] of values) yield [prefix + name, value];
}
