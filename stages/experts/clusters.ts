/**
 * Codes of a layer's experts in clusters and on maps.
 *
 * @module
 */

import type { InferenceModel } from "../../model/inference/model.ts";
import {
  clusterCodes,
  type CodeMap,
  neighboursInCluster,
  principalMap,
  shuffleCodes,
  umapMap,
} from "../../model/interpret/clusters.ts";
import { type Codes, readCodes } from "../../model/interpret/codes.ts";
import type { ExpertLayer } from "../../model/interpret/expert_layers.ts";

/** A cluster of experts. */
export interface ExpertCluster {
  /** Number, as `--without-experts LAYER:cNUMBER` takes it. */
  readonly cluster: number;
  readonly experts: number;
}

/** Parts of the experts whose nearest neighbour in a map is of their cluster. */
export interface MapNeighbours {
  readonly pca: number;
  readonly umap: number;
}

/** The clusters of a layer. */
export interface LayerClusters {
  readonly layer: number;
  /** Numbers of a code. */
  readonly width: number;
  /** Experts that were clustered: all, or behind beams those that the text uses most. */
  readonly experts: number;
  readonly clusters: readonly ExpertCluster[];
  /** Part of the variance between clusters, and the same of codes each of whose numbers is shuffled among the experts. */
  readonly explained: number;
  readonly explained_shuffled: number;
  /** The most used experts in two dimensions. */
  readonly map: {
    readonly experts: readonly string[];
    readonly labels: readonly number[];
    readonly pca: CodeMap & { readonly explained: readonly number[] };
    readonly umap: CodeMap;
    /** Part of the experts whose nearest neighbour in a map is of their cluster. */
    readonly neighbours: MapNeighbours;
    /** The same of shuffled codes with clusters of their own: what codes without any structure give. */
    readonly neighbours_shuffled: MapNeighbours;
  };
}

/** How experts are clustered; the same options give the same clusters. */
export interface ClusterOptions {
  readonly clusters: number;
  readonly seed: number;
}

/** The cluster of every expert, by name. */
export interface ClusteredExperts {
  readonly codes: Codes;
  readonly names: readonly string[];
  readonly labels: readonly number[];
  readonly sizes: readonly number[];
  readonly explained: number;
}

/**
 * Clusters the codes of a layer.
 *
 * @param names Experts to cluster; needed behind beams, all unless given.
 * @throws {RangeError} If there are fewer experts than clusters.
 */
export async function clusterExperts(
  model: InferenceModel,
  layer: ExpertLayer,
  options: ClusterOptions & { readonly names?: readonly string[] },
): Promise<ClusteredExperts> {
  const codes = await readCodes(model, layer, options.names);
  const names = options.names ?? Array.from({ length: codes.rows }, (_, i) => String(i));
  return { codes, names, ...clusterCodes(codes, options) };
}

/** Describes the clusters of a layer, and draws its most used experts on maps. */
export function describeClusters(
  layer: ExpertLayer,
  clustered: ClusteredExperts,
  options: ClusterOptions & { readonly most_used: readonly string[] },
): LayerClusters {
  const { codes, names, labels, sizes, explained } = clustered;
  const places = new Map(names.map((name, i) => [name, i]));
  const shown = options.most_used.filter((name) => places.has(name));
  const { width } = codes;
  const mapped = (codes: Codes, labels: readonly number[]) => {
    const values = new Float32Array(shown.length * width);
    shown.forEach((name, i) => {
      const place = places.get(name)!;
      values.set(codes.values.subarray(place * width, (place + 1) * width), i * width);
    });
    const part = { rows: shown.length, width, values };
    const own = shown.map((name) => labels[places.get(name)!]!);
    const [pca, umap] = [principalMap(part), umapMap(part, options)];
    const neighbours = {
      pca: neighboursInCluster(pca, own),
      umap: neighboursInCluster(umap, own),
    };
    return { pca, umap, labels: own, neighbours };
  };
  const shuffled = shuffleCodes(codes, options.seed);
  const control = clusterCodes(shuffled, options);
  return {
    layer: layer.layer,
    width,
    experts: names.length,
    clusters: sizes.map((experts, cluster) => ({ cluster, experts })),
    explained,
    explained_shuffled: control.explained,
    map: {
      experts: shown,
      ...mapped(codes, labels),
      neighbours_shuffled: mapped(shuffled, control.labels).neighbours,
    },
  };
}
