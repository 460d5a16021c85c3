/**
 * One feed-forward layer of several architectures at the same model width: what it stores, what a token uses, and what
 * that costs. Table 2's comparison, computed.
 *
 * Costs are products and sums of one token's forward pass, two operations a multiply-add, without activations.
 *
 * @module
 */

import { subKeys } from "../../../model/ffn/product_key/schema.ts";
import { layerParameters, type LayerSizes, routerParameters } from "./memory.ts";

/** One architecture's layer. */
export interface LayerArchitecture {
  readonly name: string;
  /** Where it comes from. */
  readonly source: string;
  /** How a token finds its experts. */
  readonly routing: string;
  /** Experts of the layer. */
  readonly experts: number;
  /** Experts that one token uses. */
  readonly kept: number;
  /** Parameters stored, router included. */
  readonly stored: number;
  /** Parameters that one token uses, router included. */
  readonly active: number;
  /** Operations of one token's forward pass. */
  readonly flops: number;
}

/** Experts of the classical mixtures in the comparison. */
const CLASSICAL_EXPERTS = 16;

/** Sizes that the comparison reads. */
interface ComparedSizes extends LayerSizes {
  /** Experts of a layer, N. */
  readonly num_experts: number;
  /** Experts kept per head, k. */
  readonly top_k: number;
}

/** Layers of the architectures at some sizes. */
export function compareArchitectures(sizes: ComparedSizes): readonly LayerArchitecture[] {
  const { d_model: D, d_ffn: F, num_experts: N, d_latent, d_hidden } = sizes;
  const kept = sizes.routing_heads * sizes.top_k;
  const dense = 3 * D * F;
  const gate = D * CLASSICAL_EXPERTS;
  const router = routerParameters(sizes, N);
  const routing = 2 * D * sizes.routing_heads * sizes.d_query +
    2 * sizes.routing_heads * subKeys(sizes) * sizes.d_query;
  const generator = d_latent * d_hidden + 2 * D * d_hidden;
  return [
    {
      name: "dense SwiGLU",
      source: "Shazeer 2020",
      routing: "none",
      experts: 1,
      kept: 1,
      stored: dense,
      active: dense,
      flops: 2 * dense,
    },
    {
      name: "Switch",
      source: "Fedus et al. 2021",
      routing: "softmax gate, top 1",
      experts: CLASSICAL_EXPERTS,
      kept: 1,
      stored: CLASSICAL_EXPERTS * dense + gate,
      active: dense + gate,
      flops: 2 * (dense + gate),
    },
    {
      name: "mixture, top 2",
      source: "Shazeer et al. 2017",
      routing: "softmax gate, top 2",
      experts: CLASSICAL_EXPERTS,
      kept: 2,
      stored: CLASSICAL_EXPERTS * 2 * D * F + gate,
      active: 2 * 2 * D * F + gate,
      flops: 2 * (2 * 2 * D * F + gate),
    },
    {
      name: "PEER",
      source: "He 2024",
      routing: "product keys",
      experts: N,
      kept,
      stored: layerParameters("PEER", N, sizes),
      active: router + kept * 2 * D,
      flops: routing + kept * 4 * D,
    },
    {
      name: "ETHOS",
      source: "the paper",
      routing: "product keys",
      experts: N,
      kept,
      stored: layerParameters("ETHOS", N, sizes),
      active: router + generator + kept * d_latent,
      flops: routing + 4 * D * d_hidden + kept * (2 * d_latent * d_hidden + 4 * d_hidden),
    },
  ];
}
