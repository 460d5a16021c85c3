/**
 * Figure 1 of the paper: the network, from tokens to logits.
 *
 * @module
 */

import type { ModelConfig } from "../../../model/config.ts";
import type { Diagram } from "./figure.ts";
import { diagram } from "./diagram.ts";

/** Draws the network with the sizes of a configuration. */
export function architectureDiagram(config: ModelConfig): Diagram {
  const sparse = config.num_layers - config.num_dense_layers;
  const count = (n: number) => n.toLocaleString("en-US");
  const layers = (n: number) => n === 1 ? "1 layer" : `${n} layers`;
  return diagram({
    name: "diagram_architecture",
    title: "The network",
    alt:
      `Tokens are embedded, pass ${
        layers(config.num_dense_layers)
      } of attention and a dense feed-forward, then ${layers(sparse)} ` +
      `of attention and generated experts, and the tied embedding turns the last state into logits.`,
    direction: "right",
    groups: {
      dense: `${config.num_dense_layers} × dense layer`,
      sparse: `${sparse} × ETHOS layer`,
    },
    boxes: [
      {
        id: "tokens",
        label: "tokens",
        notes: [`vocabulary ${count(config.vocab_size)}`],
        kind: "data",
      },
      { id: "embed", label: "embedding", notes: [`width ${config.d_model}`], kind: "stored" },
      {
        id: "attention1",
        label: "+ MLA",
        notes: [`${config.num_heads} heads`, `latent ${config.kv_lora_rank}`],
        kind: "compute",
        group: "dense",
      },
      {
        id: "dense",
        label: "+ SwiGLU",
        notes: [`hidden ${count(config.d_ffn)}`],
        kind: "compute",
        group: "dense",
      },
      {
        id: "attention2",
        label: "+ MLA",
        notes: [`${config.num_heads} heads`, `latent ${config.kv_lora_rank}`],
        kind: "compute",
        group: "sparse",
      },
      {
        id: "experts",
        label: "+ ETHOS",
        notes: [
          `${config.routing_heads} × ${config.top_k} of`,
          `${count(config.num_experts)} experts`,
        ],
        kind: "compute",
        group: "sparse",
      },
      { id: "head", label: "logits", notes: ["tied embedding"], kind: "data" },
    ],
    arrows: [
      { from: "tokens", to: "embed" },
      { from: "embed", to: "attention1" },
      { from: "attention1", to: "dense" },
      { from: "dense", to: "attention2" },
      { from: "attention2", to: "experts" },
      { from: "experts", to: "head" },
    ],
  });
}
