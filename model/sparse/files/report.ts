/**
 * The numbers of an expanded block.
 *
 * @module
 */

import { countRows } from "../routing/kmeans.ts";
import { type SiteName, SITES, type StoredMlp } from "../mlp.ts";
import type { Pruning } from "../options.ts";
import type { RouterFit } from "../routing/router.ts";
import { keptOf, type SiteStorage, siteStorage } from "../storage.ts";

/** A linear layer of a site. */
export interface LayerReport {
  readonly outputs: number;
  /** Estimated loss of each expert, as SparseGPT gives it. */
  readonly losses: readonly number[];
  /** Positions that each expert keeps. */
  readonly kept: readonly number[];
}

/** A site of an expanded block. */
export interface SiteReport extends SiteStorage {
  /** Inputs. */
  readonly inputs: number;
  /** Sum of the squared distances of k-means; 0 of one cluster, which takes none. */
  readonly inertia: number;
  /** Calibration rows of each cluster. */
  readonly sizes: readonly number[];
  /** How often the damping was added to the Hessian of each cluster: 1, unless it was not positive definite. */
  readonly dampings: readonly number[];
  /** By `gate`, `up`, `down`. */
  readonly layers: Readonly<Record<string, LayerReport>>;
}

/** An expanded block. */
export type BlockReport = Readonly<Record<SiteName, SiteReport>>;

/** Collects the numbers of a block while it is expanded. */
export class BlockNumbers {
  readonly #fits = new Map<SiteName, { inertia: number; sizes: number[] }>();
  readonly #dampings: Record<SiteName, number[]> = { in: [], mid: [] };
  readonly #losses = new Map<string, number[]>();

  /** Takes a router. */
  router(site: SiteName, { kmeans, values }: RouterFit): void {
    const { inertia, labels } = kmeans.clusters;
    this.#fits.set(site, { inertia, sizes: [...countRows(labels, values.clusters)] });
  }

  /** Takes how often damping was added for the next cluster of a site. */
  factor(site: SiteName, dampings: number): void {
    this.#dampings[site].push(dampings);
  }

  /** Takes the loss of the next expert of a layer. */
  expert(layer: string, loss: number): void {
    this.#losses.set(layer, [...this.#losses.get(layer) ?? [], loss]);
  }

  /** The numbers of the whole block. */
  report(mlp: StoredMlp, pruning: Pruning): BlockReport {
    const report = (name: SiteName): SiteReport => {
      const site = mlp.sites[name];
      const { inertia, sizes } = this.#fits.get(name)!;
      return {
        inputs: site.router.width,
        inertia,
        sizes,
        dampings: this.#dampings[name],
        layers: Object.fromEntries(
          Object.entries(keptOf(site)).map(([layer, kept]) => {
            const { outputs } = site.layers[layer]!;
            return [layer, { outputs, losses: this.#losses.get(layer)!, kept }];
          }),
        ),
        ...siteStorage(site, pruning),
      };
    };
    return Object.fromEntries(SITES.map((site) => [site, report(site)])) as BlockReport;
  }
}
