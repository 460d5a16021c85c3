/**
 * Weights on the GPU: values, gradients, moments and running statistics, in arenas.
 *
 * @module
 */

import type { Gpu } from "../gpu/device.ts";
import { Arena, chunkElements, type MemoryLine } from "../gpu/memory.ts";
import { Tensor } from "../gpu/tensor.ts";
import type { OptimizerGroup } from "../ops/optimizer/optimizer.ts";

/** The specification by which a parameter is allocated; `model/trunk/parameters.ts` lists a model's. */
export interface WeightSpec {
  /** The specification's name: `layers.3.ffn.w1`. */
  readonly name: string;
  /** Rows first. */
  readonly shape: readonly number[];
  /** Whether AdamW decays it. */
  readonly decay: boolean;
  /** False for running statistics, which have no gradient and no moments. */
  readonly trained: boolean;
}

/** A parameter: one tensor, or several when it is larger than a binding. */
export interface Table {
  /** The specification's name. */
  readonly name: string;
  /** Shape of the whole parameter. */
  readonly shape: readonly number[];
  /** Consecutive rows; all parts but the last have the same number. */
  readonly parts: readonly Tensor[];
}

interface WeightsOptions {
  /** Gradients and moments are allocated only for training. */
  readonly train: boolean;
  /** `mixed` keeps an f16 copy of what matrix products read. */
  readonly precision: "f32" | "mixed";
}

type Kind = "value" | "gradient" | "m" | "v" | "operand";

const OWNERS: Readonly<Record<Kind, string>> = {
  value: "weights",
  gradient: "gradients",
  m: "moments",
  v: "moments",
  operand: "f16 weights",
};

/** All weights of a model, by the specification's names. */
export class Weights {
  /** Every parameter and running statistic, in the specification's order. */
  readonly specs: readonly WeightSpec[];
  /** Whether an f16 copy is kept. */
  readonly precision: "f32" | "mixed";
  /** Decayed and other parameters. */
  readonly groups: readonly OptimizerGroup[];
  readonly #tables = new Map<string, Table>();
  readonly #arenas: Arena[] = [];

  /** Allocates everything, zero at first. */
  constructor(gpu: Gpu, specs: readonly WeightSpec[], options: WeightsOptions) {
    this.specs = specs;
    this.precision = options.precision;
    const kinds: Kind[] = ["value"];
    if (options.train) kinds.push("gradient", "m", "v");
    if (options.precision === "mixed") kinds.push("operand");
    const groups: OptimizerGroup[] = [];
    for (const decay of [true, false]) {
      const members = specs.filter((spec) => spec.trained && spec.decay === decay);
      const arenas = new Map<Kind, Arena>();
      for (const kind of kinds) {
        const tensors = members.flatMap((spec) => this.#allocate(gpu, kind, spec));
        if (tensors.length === 0) continue;
        const name = `${kind}, ${decay ? "decayed" : "not decayed"}`;
        arenas.set(kind, this.#arena(gpu, name, tensors));
      }
      const chunks = arenas.get("value")?.chunks ?? [];
      if (!options.train || chunks.length === 0) continue;
      const chunk = (kind: Kind, i: number) => arenas.get(kind)?.chunks[i];
      groups.push({
        decay,
        chunks: chunks.map((value, i) => ({
          value,
          gradient: chunk("gradient", i)!,
          m: chunk("m", i)!,
          v: chunk("v", i)!,
          operand: chunk("operand", i),
        })),
      });
    }
    this.groups = groups;
    const statistics = specs.filter((spec) => !spec.trained);
    if (statistics.length > 0) {
      this.#arena(
        gpu,
        "running statistics",
        statistics.flatMap((spec) => this.#allocate(gpu, "value", spec)),
      );
    }
  }

  /** The values of a parameter, or of running statistics. */
  value(name: string): Table {
    return this.#table(name, "value");
  }

  /** The operand of matrix products: the f16 copy in mixed precision, the values otherwise. */
  operand(name: string): Table {
    return this.#table(name, this.precision === "mixed" ? "operand" : "value");
  }

  /** The gradient of a parameter. */
  gradient(name: string): Table {
    return this.#table(name, "gradient");
  }

  /** First and second moment of a parameter. */
  moments(name: string): { m: Table; v: Table } {
    return { m: this.#table(name, "m"), v: this.#table(name, "v") };
  }

  /** Bytes by owner. */
  get memory(): readonly MemoryLine[] {
    const sums = new Map<string, number>();
    for (const arena of this.#arenas) {
      const owner = arena.tensors[0]!.owner;
      sums.set(owner, (sums.get(owner) ?? 0) + arena.bytes);
    }
    return [...sums].map(([owner, bytes]) => ({ owner, bytes }));
  }

  /** Frees all memory. */
  destroy(): void {
    for (const arena of this.#arenas) arena.destroy();
  }

  #arena(gpu: Gpu, name: string, tensors: readonly Tensor[]): Arena {
    const arena = new Arena(gpu, name, tensors);
    this.#arenas.push(arena);
    return arena;
  }

  #table(name: string, kind: Kind): Table {
    const table = this.#tables.get(`${kind}:${name}`);
    if (!table) throw new RangeError(`The model has no ${kind} named ${name}`);
    return table;
  }

  /** Tensors of one parameter, split by rows so that each part fits a binding. */
  #allocate(gpu: Gpu, kind: Kind, spec: WeightSpec): readonly Tensor[] {
    const rows = spec.shape[0] ?? 1;
    const width = spec.shape.slice(1).reduce((a, b) => a * b, 1);
    const most = chunkElements(gpu);
    // Rows become columns where a table is used transposed, and those are bound as `vec4`s.
    const perPart = rows * width <= most ? rows : Math.floor(most / width / 4) * 4;
    if (perPart < 1) {
      throw new RangeError(
        `Four rows of ${spec.name} take more than a binding of ${4 * most} bytes`,
      );
    }
    const parts: Tensor[] = [];
    for (let row = 0; row < rows; row += perPart) {
      const count = Math.min(perPart, rows - row);
      parts.push(
        new Tensor(
          rows > perPart ? `${spec.name}[${row}..${row + count}]` : spec.name,
          [count, ...spec.shape.slice(1)],
          {
            owner: spec.trained ? OWNERS[kind] : "running statistics",
            dtype: kind === "operand" ? "f16" : "f32",
          },
        ),
      );
    }
    this.#tables.set(`${kind}:${spec.name}`, { name: spec.name, shape: spec.shape, parts });
    return parts;
  }
}
