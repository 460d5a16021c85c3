/**
 * Section 7.1: parameters that one expert layer stores, for a traditional mixture, PEER and ETHOS.
 *
 * | layer of N experts | parameters |
 * | --- | --- |
 * | traditional: each a two-matrix feed-forward of width F | `N · 2 D F + N D` (gate) |
 * | PEER: each two stored vectors | `N · 2 D` + router |
 * | ETHOS: each a latent code | `N · d_l + d_l d_h + 2 D d_h` + router |
 * | router (product keys) | `D H d_q + 3 H d_q + √N d_q` |
 *
 * @module
 */

/** Sizes that the formulas read. */
export interface LayerSizes {
  /** Width of the residual stream, D. */
  readonly d_model: number;
  /** Hidden width of a traditional expert, F. */
  readonly d_ffn: number;
  /** Width of a latent code, d_l. */
  readonly d_latent: number;
  /** Hidden width of the hypernetwork, d_h. */
  readonly d_hidden: number;
  /** Query width of a head, d_q. */
  readonly d_query: number;
  /** Routing heads, H. */
  readonly routing_heads: number;
}

/** Layers that section 7.1 compares. */
export const LAYER_KINDS = ["traditional", "PEER", "ETHOS"] as const;

/** One of {@linkcode LAYER_KINDS}. */
type LayerKind = (typeof LAYER_KINDS)[number];

/** Parameters of a product-key router: projection, bias and batch norm, and two sets of `√N` sub-keys of `d_q / 2`. */
export function routerParameters(sizes: LayerSizes, experts: number): number {
  const { d_model, routing_heads, d_query } = sizes;
  return d_model * routing_heads * d_query + 3 * routing_heads * d_query +
    Math.sqrt(experts) * d_query;
}

/**
 * Parameters that one layer of `experts` experts stores.
 *
 * @example
 * ```ts
 * import { layerParameters } from "./memory.ts";
 * const sizes = { d_model: 1024, d_ffn: 4096, d_latent: 128, d_hidden: 512, d_query: 512, routing_heads: 8 };
 * const ratio = layerParameters("PEER", 262144, sizes) / layerParameters("ETHOS", 262144, sizes);
 * console.assert(ratio > 13 && ratio < 16); // the experts alone are 16 to 1
 * ```
 */
export function layerParameters(kind: LayerKind, experts: number, sizes: LayerSizes): number {
  const { d_model, d_ffn, d_latent, d_hidden } = sizes;
  switch (kind) {
    case "traditional":
      return experts * 2 * d_model * d_ffn + experts * d_model;
    case "PEER":
      return experts * 2 * d_model + routerParameters(sizes, experts);
    case "ETHOS":
      return experts * d_latent + d_latent * d_hidden + 2 * d_model * d_hidden +
        routerParameters(sizes, experts);
  }
}
