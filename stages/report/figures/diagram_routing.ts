/**
 * Figure 2 of the paper: product-key routing of one head.
 *
 * @module
 */

import { type ProductKeySection, subKeys } from "../../../model/ffn/product_key/schema.ts";
import type { Diagram } from "./figure.ts";
import { diagram } from "./diagram.ts";

/** Draws the router with the sizes of a layer. */
export function routingDiagram(router: ProductKeySection, d_model: number): Diagram {
  const keys = subKeys(router);
  const k = router.top_k;
  const half = router.d_query / 2;
  return diagram({
    name: "diagram_routing",
    title: "Product-key routing, one head",
    alt:
      `The token's query is normalised over the batch and split in two halves; each is compared with ${keys} sub-keys and keeps ` +
      `${k}; of the ${
        k * k
      } sums the best ${k} name the experts, and a softmax over them gives the scores.`,
    direction: "down",
    boxes: [
      { id: "x", label: "token x", notes: [`width ${d_model}`], kind: "data" },
      { id: "k1", label: "row sub-keys K1", notes: [`${keys} × ${half}`], kind: "stored" },
      {
        id: "query",
        label: router.router_batch_norm ? "query, batch norm" : "query",
        notes: [
          router.router_batch_norm ? "q = BN(x Wq + b)" : "q = x Wq + b",
          `width ${router.d_query}`,
        ],
        kind: "compute",
      },
      { id: "k2", label: "column sub-keys K2", notes: [`${keys} × ${half}`], kind: "stored" },
      { id: "top1", label: `best ${k} rows`, notes: ["s1 = q1 · K1, first half"], kind: "compute" },
      {
        id: "top2",
        label: `best ${k} columns`,
        notes: ["s2 = q2 · K2, second half"],
        kind: "compute",
      },
      {
        id: "sums",
        label: `best ${k} of ${k * k} sums`,
        notes: [`expert i = row × ${keys} + column`],
        kind: "compute",
      },
      {
        id: "scores",
        label: `${k} experts, ${k} scores`,
        notes: ["softmax over the kept"],
        kind: "data",
      },
    ],
    arrows: [
      { from: "x", to: "query" },
      { from: "k1", to: "top1" },
      { from: "query", to: "top1" },
      { from: "query", to: "top2" },
      { from: "k2", to: "top2" },
      { from: "top1", to: "sums" },
      { from: "top2", to: "sums" },
      { from: "sums", to: "scores" },
    ],
  });
}
