/**
 * Figure 3 of the paper: how an expert is generated, and the reordered execution that never forms its vectors.
 *
 * @module
 */

import type { EthosSection } from "../../../model/ffn/ethos/schema.ts";
import type { Diagram } from "./figure.ts";
import { diagram } from "./diagram.ts";

/** Draws both orders with the sizes of a layer. */
export function executionDiagram(ethos: EthosSection, d_model: number): Diagram {
  const { d_latent, d_hidden } = ethos;
  const kept = ethos.routing_heads * ethos.top_k;
  return diagram({
    name: "diagram_execution",
    title: "Generating experts: naive and reordered execution",
    alt:
      `Both start from the latent code of each of the ${kept} kept experts. Naive: two vectors of width ${d_model} are formed for ` +
      `each expert and applied. Reordered: the token is projected to width ${d_hidden} once, each expert is applied there, and ` +
      `the weighted sum is projected back once.`,
    direction: "down",
    groups: {
      naive: "naive",
      reordered: "reordered",
    },
    boxes: [
      { id: "z", label: "latent code z", notes: [`width ${d_latent}, looked up`], kind: "stored" },
      {
        id: "h",
        label: "h = gelu(z W1)",
        notes: [`${d_latent} to ${d_hidden}, per kept expert`],
        kind: "compute",
      },
      { id: "x", label: "token x", notes: [`width ${d_model}`], kind: "data" },
      {
        id: "u",
        label: "u = h Wu'",
        notes: [`width ${d_model}`],
        kind: "compute",
        group: "naive",
      },
      { id: "v", label: "v = h Wv", notes: [`width ${d_model}`], kind: "compute", group: "naive" },
      {
        id: "apply",
        label: "sum of s gelu(x · u) v",
        notes: [`over ${kept}, 2 × ${d_model} numbers each`],
        kind: "compute",
        group: "naive",
      },
      {
        id: "xp",
        label: "x Wu",
        notes: [`${d_model} to ${d_hidden}, once`],
        kind: "compute",
        group: "reordered",
      },
      {
        id: "acc",
        label: "sum of s gelu(h · xWu) h",
        notes: [`over ${kept}, ${d_hidden} numbers each`],
        kind: "compute",
        group: "reordered",
      },
      {
        id: "out",
        label: "(sum) Wv",
        notes: [`${d_hidden} to ${d_model}, once`],
        kind: "compute",
        group: "reordered",
      },
      { id: "y", label: "output y", notes: ["the same numbers"], kind: "data" },
    ],
    arrows: [
      { from: "z", to: "h" },
      { from: "h", to: "u" },
      { from: "h", to: "v" },
      { from: "x", to: "apply" },
      { from: "u", to: "apply" },
      { from: "v", to: "apply" },
      { from: "x", to: "xp" },
      { from: "h", to: "acc" },
      { from: "xp", to: "acc" },
      { from: "acc", to: "out" },
      { from: "apply", to: "y" },
      { from: "out", to: "y" },
    ],
  });
}
