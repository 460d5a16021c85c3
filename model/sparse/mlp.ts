/**
 * An MLP with Sparse Expansion: two sites, `in` before its activation and `mid` behind it, each with a router of its own.
 *
 * @module
 */

import type { Gpu } from "../gpu/device.ts";
import type { Plan } from "../gpu/plan.ts";
import { roundUp, type Tensor } from "../gpu/tensor.ts";
import { addResidual } from "../ops/elementwise/add_residual.ts";
import { swigluForward } from "../ops/elementwise/swiglu.ts";
import { biasedGelu } from "../ops/mixture/rows.ts";
import { ExpandedSite, pruneSite, type SiteOptions, type StoredSite } from "./expansion.ts";
import type { Expansion, Pruning } from "./options.ts";
import { fitRouter, type RouterFit } from "./routing/router.ts";
import { type SiteRows, Tensors } from "./rows.ts";
import { siteSeed, uniform } from "./routing/uniform.ts";

/** The sites of an MLP, in their order. */
export const SITES = ["in", "mid"] as const;

/** One of {@linkcode SITES}. */
export type SiteName = typeof SITES[number];

/**
 * The matrices of an MLP, `[out, in padded to 4]`, f32, and its biases `[out]`, which all experts share: `down(silu(gate x) ⊙ up x)`, or `down(gelu(up x))`.
 *
 * Biases are on the host, without padding.
 */
export type DenseMlp =
  | {
    readonly activation: "swiglu";
    readonly gate: Tensor;
    readonly up: Tensor;
    readonly down: Tensor;
  }
  | {
    readonly activation: "gelu" | "gelu_tanh";
    readonly up: Tensor;
    readonly down: Tensor;
    readonly biases?: MlpBiases;
  };

/** The rows that enter each site while the MLP is dense. */
export type MlpRows = Readonly<Record<SiteName, SiteRows>>;

/** The biases of an MLP on the host, without padding. */
export interface MlpBiases {
  readonly up: ArrayLike<number>;
  readonly down: ArrayLike<number>;
}

/** An expanded MLP on the host. */
export interface StoredMlp {
  readonly activation: DenseMlp["activation"];
  readonly biases?: MlpBiases | undefined;
  readonly sites: Readonly<Record<SiteName, StoredSite>>;
}

/** How an MLP is expanded. */
export interface MlpOptions extends Pick<SiteOptions, "values" | "signal" | "onExpert"> {
  readonly expansion: Expansion;
  readonly pruning: Pruning;
  /** Of the whole model; each site of each block has a seed of its own. */
  readonly seed: number;
  /** Number of the MLP's block. */
  readonly block: number;
  /** Gets each router as it is fitted. */
  readonly onRouter?: ((site: SiteName, fit: RouterFit) => void) | undefined;
  /** Told how often the damping of a cluster's Hessian was added. */
  readonly onFactor?: ((site: SiteName, cluster: number, dampings: number) => void) | undefined;
}

/** The matrices that read each site, by the layer's name. */
export function layersOf(
  dense: DenseMlp,
): Readonly<Record<SiteName, Readonly<Record<string, Tensor>>>> {
  const { up, down } = dense;
  return { in: dense.activation === "swiglu" ? { gate: dense.gate, up } : { up }, mid: { down } };
}

/**
 * Fits a router to each site's rows, and prunes an expert of each of its layers for each cluster.
 *
 * @throws {RangeError} Which option does not fit, or what is wrong with the rows of which site.
 */
export async function expandMlp(
  gpu: Gpu,
  dense: DenseMlp,
  options: MlpOptions & { readonly rows: MlpRows },
): Promise<StoredMlp> {
  const { rows, expansion, pruning, seed, block, values, signal, ...told } = options;
  const layers = layersOf(dense);
  const sites: Partial<Record<SiteName, StoredSite>> = {};
  for (const [number, site] of SITES.entries()) {
    signal?.throwIfAborted();
    const own = siteSeed(seed, block, number as 0 | 1);
    const name = `block ${block} ${site}`;
    const fit = await fitRouter(gpu, rows[site], {
      expansion,
      uniform: (index) => uniform(own, index),
      name,
    });
    told.onRouter?.(site, fit);
    sites[site] = await pruneSite(gpu, rows[site], {
      fit,
      pruning,
      name,
      values,
      signal,
      layers: layers[site],
      onExpert: told.onExpert,
      onFactor: (cluster, dampings) => told.onFactor?.(site, cluster, dampings),
    });
  }
  const { activation } = dense;
  const biases = dense.activation === "swiglu" ? undefined : dense.biases;
  return { activation, biases, sites: sites as Record<SiteName, StoredSite> };
}

/** An expanded MLP on the GPU. */
export class ExpandedMlp implements Disposable {
  readonly #tensors: Tensors;
  readonly #sites: Readonly<Record<SiteName, ExpandedSite>>;
  readonly #activation: DenseMlp["activation"];
  /** The bias of `up` for each expert, `[clusters, out padded to 4]`, and that of `down`. */
  readonly #biases: { readonly up: Tensor; readonly down: Tensor } | undefined;

  /** Moves an MLP to the GPU. */
  constructor(gpu: Gpu, { activation, biases, sites }: StoredMlp) {
    this.#tensors = new Tensors(gpu);
    const first = new ExpandedSite(gpu, sites.in);
    try {
      this.#sites = { in: first, mid: new ExpandedSite(gpu, sites.mid) };
    } catch (error) {
      first[Symbol.dispose]();
      throw error;
    }
    this.#activation = activation;
    if (!biases) return;
    const padded = (bias: ArrayLike<number>) => {
      const out = new Float32Array(roundUp(bias.length, 4));
      out.set(bias);
      return out;
    };
    const { clusters } = sites.in.router;
    const up = padded(biases.up);
    const down = padded(biases.down);
    const all = new Float32Array(clusters * up.length);
    for (let j = 0; j < clusters; j++) all.set(up, j * up.length);
    this.#biases = {
      up: this.#tensors.tensor("bias.up", [clusters, up.length], { values: all }),
      down: this.#tensors.tensor("bias.down", [down.length], { values: down }),
    };
  }

  /** Experts of a site. */
  get clusters(): number {
    return this.#sites.in.router.clusters;
  }

  /**
   * Records the MLP of rows `x` `[n, in padded to 4]`, f32 with zeros for padding, plus `residual` of the same shape.
   *
   * @returns `y` `[n, in padded to 4]`, and the expert of each row at each site, u32 `[n]`.
   */
  record(
    plan: Plan,
    x: Tensor,
    options: { residual?: Tensor } = {},
  ): { y: Tensor; labels: Readonly<Record<SiteName, Tensor>> } {
    const { in: first, mid: second } = this.#sites;
    const routed = plan.scope("in", () => first.route(plan, x));
    const inner = plan.scope("in", () => {
      const up = first.products(plan, "up", routed);
      const h = plan.tensor("h", up.shape);
      if (this.#activation === "swiglu") {
        swigluForward(plan, "swiglu", { gate: first.products(plan, "gate", routed), up, h });
      } else {
        biasedGelu(plan, "gelu", {
          groups: routed.segments.groups,
          gelu: this.#activation === "gelu" ? "exact" : "tanh",
          x: up,
          bias: this.#biases?.up,
          h,
        });
      }
      return first.combine(plan, routed, h);
    });
    return plan.scope("mid", () => {
      const last = second.route(plan, inner);
      const labels = { in: routed.label, mid: last.label };
      const rows = second.products(plan, "down", last);
      const bias = this.#biases?.down;
      if (!bias) return { y: second.combine(plan, last, rows, options.residual), labels };
      const product = second.combine(plan, last, rows);
      let { residual } = options;
      if (!residual) {
        residual = plan.tensor("zero", product.shape);
        plan.clear(residual);
      }
      const y = plan.tensor("y", product.shape);
      addResidual(plan, "bias", { x: product, bias, residual, y });
      return { y, labels };
    });
  }

  /**
   * Records what some neurons of a layer give for rows `x` `[n, in padded to 4]` that enter a site, without a bias.
   *
   * @param of `numbers`: of the neurons, a multiple of four.
   * @returns The outputs of the expert of each row, `[n, neurons]`, and the expert, u32 `[n]`.
   */
  sample(plan: Plan, { site, layer, x, numbers }: {
    site: SiteName;
    layer: string;
    x: Tensor;
    numbers: readonly number[];
  }): { outputs: Tensor; label: Tensor } {
    const from = this.#sites[site];
    const routed = from.route(plan, x);
    return { outputs: from.sample(plan, layer, { routed, numbers }), label: routed.label };
  }

  /** Bytes of the experts on the device. */
  get expertBytes(): number {
    return this.#sites.in.expertBytes + this.#sites.mid.expertBytes;
  }

  /** Bytes of routers, experts and biases. */
  get bytes(): number {
    return this.#tensors.bytes + this.#sites.in.bytes + this.#sites.mid.bytes;
  }

  /** Frees routers, experts and biases. */
  [Symbol.dispose](): void {
    this.#tensors[Symbol.dispose]();
    for (const site of Object.values(this.#sites)) site[Symbol.dispose]();
  }
}
