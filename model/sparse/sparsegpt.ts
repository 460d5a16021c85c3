/**
 * SparseGPT on the GPU for the linear layers that read one input: one Hessian, its factor, and the pruning of each layer by it.
 *
 * @module
 */

import { buildPlans, type BuiltPlans, runPlan } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Plan } from "../gpu/plan.ts";
import { roundUp, type Tensor } from "../gpu/tensor.ts";
import { download, upload } from "../gpu/transfer.ts";
import { inverseCholesky } from "../ops/linalg/cholesky.ts";
import { addToDiagonal, readDiagonal, secondMoment } from "../ops/linalg/moments.ts";
import { PRUNED, pruneMatrix, SWEEP_ROWS } from "../ops/linalg/prune.ts";
import { checkPruning, levelsOf, prunedOf, type Pruning } from "./options.ts";
import { gatherParts, type SiteRows, Tensors, unpadColumns } from "./rows.ts";

/** How often the diagonal is raised until the Hessian is positive definite. */
const MAX_ATTEMPTS = 100;

/** A pruned matrix on the host. */
export interface PrunedMatrix {
  /** `[out, in]`, zeros included. */
  readonly weight: Float32Array;
  /** `[out, in]`: 1 where a weight was pruned. */
  readonly mask: Uint8Array;
  /**
   * About the mean squared error of the outputs, over rows and summed over outputs, as the damped Hessian has it. Of pruning by magnitude half the squared change of the weights, since its
   * Hessian is the identity.
   */
  readonly loss: number;
  /** Of quantised weights: `weight = scale · (level − zero)`, the first two of each row. */
  readonly quantised?: {
    readonly scale: Float32Array;
    readonly zero: Float32Array;
    readonly level: Int16Array;
  };
}

/** The tensors of one layer. */
interface Layer {
  readonly outputs: number;
  /** The matrix as it is, `[out, in padded to 4]`. */
  readonly dense: Tensor;
  readonly w: Tensor;
  readonly codes: Tensor;
  readonly losses: Tensor;
  readonly grid?: Tensor;
}

/**
 * Prunes the layers of one site, for one cluster after the other: {@linkcode Pruner.measure} rows, {@linkcode Pruner.factor}, and {@linkcode Pruner.prune} each layer. Plans are built
 * once; what differs from one cluster to the next are the numbers. Pruning by magnitude takes the place of rows and factor with {@linkcode Pruner.takeIdentity}.
 */
export class Pruner implements Disposable {
  readonly #gpu: Gpu;
  readonly #tensors: Tensors;
  readonly #pruning: Pruning;
  readonly #inputs: number;
  readonly #layers: ReadonlyMap<string, Layer>;
  /** The Hessian before damping, `[in, in padded to 4]`. */
  readonly hessian: Tensor;
  /** The factor, of the same shape. */
  readonly factorTensor: Tensor;
  readonly #diagonal: Tensor;
  readonly #added: Tensor;
  readonly #live: Tensor;
  readonly #failed: Tensor;
  #built!: BuiltPlans;
  readonly #plan = new Map<string, number>();

  private constructor(
    gpu: Gpu,
    inputs: number,
    options: { pruning: Pruning; layers: Readonly<Record<string, Tensor>> },
  ) {
    const { pruning, layers } = options;
    const tensors = new Tensors(gpu);
    const square = [inputs, roundUp(inputs, 4)];
    this.#gpu = gpu;
    this.#tensors = tensors;
    this.#pruning = pruning;
    this.#inputs = inputs;
    this.hessian = tensors.tensor("hessian", square);
    this.factorTensor = tensors.tensor("factor", square);
    this.#diagonal = tensors.tensor("diagonal", [inputs]);
    this.#added = tensors.tensor("added", [inputs]);
    this.#live = tensors.tensor("live", [square[1]!]);
    this.#failed = tensors.tensor("failed", [4], { dtype: "u32" });
    this.#layers = new Map(
      Object.entries(layers).map(([name, dense]) => {
        const { bits } = pruning;
        const shape = [dense.rows, dense.width];
        return [name, {
          outputs: dense.rows,
          dense,
          w: tensors.tensor(`${name}.pruned`, shape),
          codes: tensors.tensor(`${name}.codes`, shape, { dtype: "u32" }),
          losses: tensors.tensor(`${name}.losses`, [Math.ceil(dense.rows / SWEEP_ROWS)]),
          ...(bits !== undefined && { grid: tensors.tensor(`${name}.grid`, [dense.rows, 2]) }),
        }];
      }),
    );
  }

  /**
   * Builds the plans.
   *
   * @param options `layers`: dense matrices `[out, in padded to 4]`, f32, by name. `inputs`: the width without padding.
   * @throws {RangeError} Which option of the pruning does not fit the inputs.
   */
  static async open(gpu: Gpu, options: {
    readonly inputs: number;
    readonly pruning: Pruning;
    readonly layers: Readonly<Record<string, Tensor>>;
  }): Promise<Pruner> {
    const { inputs, pruning, layers } = options;
    for (const name of Object.keys(layers)) checkPruning(pruning, name, inputs);
    const pruner = new Pruner(gpu, inputs, options);
    try {
      const plans = [pruner.#diagonalPlan(), pruner.#factorPlan(), pruner.#identityPlan()];
      for (const [name, layer] of pruner.#layers) {
        pruner.#plan.set(name, plans.length);
        plans.push(pruner.#prunePlan(name, layer));
      }
      pruner.#built = await buildPlans(gpu, plans);
    } catch (error) {
      pruner.#tensors[Symbol.dispose]();
      throw error;
    }
    return pruner;
  }

  #diagonalPlan(): Plan {
    const plan = new Plan(this.#gpu, "diagonal");
    readDiagonal(plan, "diagonal", { h: this.hessian, d: this.#diagonal });
    return plan;
  }

  #factorPlan(): Plan {
    const plan = new Plan(this.#gpu, "factor");
    const h = plan.tensor("damped", this.hessian.shape);
    plan.copy(this.hessian, h);
    addToDiagonal(plan, "damp", { h, d: this.#added });
    inverseCholesky(plan, "factor", { h, u: this.factorTensor, failed: this.#failed });
    return plan;
  }

  #identityPlan(): Plan {
    const plan = new Plan(this.#gpu, "identity");
    plan.clear(this.factorTensor);
    addToDiagonal(plan, "ones", { h: this.factorTensor, d: this.#added });
    return plan;
  }

  #prunePlan(name: string, { dense, w, codes, losses, grid }: Layer): Plan {
    const { block, pattern, sparsity, bits, symmetric } = this.#pruning;
    const plan = new Plan(this.#gpu, name);
    pruneMatrix(plan, name, {
      ...{ dense, w, codes, losses, block },
      live: this.#live,
      u: this.factorTensor,
      choice: pattern
        ? { kind: "pattern", zeros: pattern[0], group: pattern[1] }
        : { kind: "sparsity", prunedOf: (weights) => prunedOf(weights, sparsity) },
      ...(grid && bits !== undefined &&
        { levels: { ...levelsOf({ bits, symmetric }), symmetric, grid } }),
    });
    return plan;
  }

  /** Takes the Hessian `2/n Xᵀ X` of the rows with the given numbers, or of all of them. */
  async measure(rows: SiteRows, numbers?: Uint32Array): Promise<void> {
    const plan = new Plan(this.#gpu, "hessian");
    secondMoment(plan, "hessian", {
      x: numbers ? gatherParts(plan, "gather", { rows, numbers }) : rows.chunks,
      columns: this.#inputs,
      moment: this.hessian,
      scale: 2 / (numbers?.length ?? rows.count),
    });
    await runPlan(plan);
  }

  /** Whether the Hessian's diagonal is zero: no input had a value. */
  async silent(): Promise<boolean> {
    return (await this.#readDiagonal()).every((v) => v === 0);
  }

  async #readDiagonal(): Promise<Float32Array> {
    this.#built.plans[0]!.run();
    return await download(this.#gpu, this.#diagonal) as Float32Array;
  }

  /**
   * Factors the damped Hessian.
   *
   * @returns How often the damping was added until it was positive definite: 1 unless it was not at once.
   * @throws {RangeError} If every input is zero, a value is not finite, or no damping of at most a hundred times the first is enough.
   */
  async factor(): Promise<number> {
    const diagonal = await this.#readDiagonal();
    const live = diagonal.filter((v) => v !== 0);
    if (live.length === 0) throw new RangeError("Every input is zero");
    const mean = live.reduce((sum, v) => sum + v, 0) / live.length;
    if (!Number.isFinite(mean)) throw new RangeError("A row has a number that is not finite");
    upload(
      this.#gpu,
      this.#live,
      Float32Array.from({ length: this.#live.size }, (_, i) => diagonal[i] ? 1 : 0),
    );
    const step = this.#pruning.damping * mean;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const added = diagonal.map((v) => (v === 0 ? 1 : 0) + attempt * step);
      upload(this.#gpu, this.#added, added);
      upload(this.#gpu, this.#failed, [0, 0, 0, 0]);
      this.#built.plans[1]!.run();
      if ((await download(this.#gpu, this.#failed))[0] === 0) return attempt;
    }
    throw new RangeError("The Hessian is not positive definite");
  }

  /** Takes the identity for the factor, and every input for live: weights are pruned by their magnitude, and errors go nowhere. */
  takeIdentity(): void {
    const ones = (tensor: Tensor) => new Float32Array(tensor.size).fill(1);
    upload(this.#gpu, this.#live, ones(this.#live));
    upload(this.#gpu, this.#added, ones(this.#added));
    this.#built.plans[2]!.run();
  }

  /** Prunes a layer by the factor, on the GPU: see {@linkcode Pruner.pruned} and {@linkcode Pruner.read}. */
  prune(name: string): void {
    this.#built.plans[this.#plan.get(name)!]!.run();
  }

  /** The pruned matrix on the GPU, `[out, in padded to 4]`, until the next pruning. */
  pruned(name: string): Tensor {
    return this.#layers.get(name)!.w;
  }

  /** Reads the pruned matrix back. */
  async read(name: string): Promise<PrunedMatrix> {
    const { w, codes: coded, losses, grid } = this.#layers.get(name)!;
    const [weights, codes, parts, rows] = await Promise.all([
      download(this.#gpu, w),
      download(this.#gpu, coded),
      download(this.#gpu, losses),
      grid && download(this.#gpu, grid),
    ]);
    const inputs = this.#inputs;
    const own = unpadColumns(codes, inputs) as Uint32Array;
    const { bits, symmetric } = this.#pruning;
    const result: PrunedMatrix = {
      weight: unpadColumns(weights, inputs) as Float32Array,
      mask: prunedMarks(own),
      loss: Array.from(parts).reduce((sum, v) => sum + v, 0),
    };
    if (!rows || bits === undefined) return result;
    const { lowest } = levelsOf({ bits, symmetric });
    return {
      ...result,
      quantised: {
        scale: (rows as Float32Array).filter((_, i) => i % 2 === 0),
        zero: (rows as Float32Array).filter((_, i) => i % 2 === 1),
        level: levelsOfCodes(own, lowest),
      },
    };
  }

  /** Frees what was made; the dense matrices are the caller's. */
  [Symbol.dispose](): void {
    this.#built.destroy();
    this.#tensors[Symbol.dispose]();
  }
}

// Typed arrays map through their iterator with `from`, eighty times as slowly as a loop. Bits are taken with operators on integers of 32 bits: what is compared with `PRUNED`, or divided by
// it, becomes a float first, and takes seven times as long.

/** 1 where a weight was pruned, which its highest bit says. */
function prunedMarks(codes: Uint32Array): Uint8Array {
  const marks = new Uint8Array(codes.length);
  for (let i = 0; i < codes.length; i++) marks[i] = codes[i]! >>> 31;
  return marks;
}

/** The levels of quantised weights. */
function levelsOfCodes(codes: Uint32Array, lowest: number): Int16Array {
  const levels = new Int16Array(codes.length);
  for (let i = 0; i < codes.length; i++) levels[i] = (codes[i]! & ~PRUNED) + lowest;
  return levels;
}
