/**
 * Figure 1 of the paper: the network, from tokens to logits.
 *
 * @module
 */

import type { Architecture } from "../../../model/trunk/architecture.ts";
import { expertsOf } from "../../../model/ffn/ethos/schema.ts";
import { ethosSizes } from "../facts.ts";
import { type Box, diagram } from "./diagram.ts";
import type { Diagram } from "./figure.ts";

const count = (n: number) => n.toLocaleString("en-US");
const layers = (n: number) => n === 1 ? "1 layer" : `${n} layers`;

/** Draws the network with the sizes of a model. */
export function architectureDiagram(architecture: Architecture): Diagram {
  const { config } = architecture;
  const { num_layers: leading, d_ffn } = config.leading_dense;
  const rest = config.num_layers - leading;
  const { name, words, notes } = describeFeedForward(architecture);
  const head = config.trunk.head === "tied" ? "tied embedding" : "own matrix";
  const boxes: Box[] = [
    {
      id: "tokens",
      label: "tokens",
      notes: [`vocabulary ${count(config.vocab_size)}`],
      kind: "data",
    },
    { id: "embed", label: "embedding", notes: [`width ${config.d_model}`], kind: "stored" },
  ];
  if (leading > 0) {
    boxes.push(attentionBox(architecture, "dense"), {
      id: "dense",
      label: "+ SwiGLU",
      notes: [`hidden ${count(d_ffn)}`],
      kind: "compute",
      group: "dense",
    });
  }
  boxes.push(
    attentionBox(architecture, "rest"),
    { id: "rest", label: `+ ${name}`, notes, kind: "compute", group: "rest" },
    { id: "head", label: "logits", notes: [head], kind: "data" },
  );
  return diagram({
    name: "diagram_architecture",
    title: "The network",
    alt: `Tokens are embedded, pass ` +
      (leading > 0 ? `${layers(leading)} of attention and a dense feed-forward, then ` : "") +
      `${
        layers(rest)
      } of attention and ${words}, and the ${head} turns the last state into logits.`,
    direction: "right",
    groups: {
      ...leading > 0 && { dense: `${leading} × dense layer` },
      rest: `${rest} × ${name} layer`,
    },
    boxes,
    arrows: boxes.slice(1).map(({ id }, i) => ({ from: boxes[i]!.id, to: id })),
  });
}

function attentionBox({ config, attention }: Architecture, group: string): Box {
  const section = config.attention;
  return {
    id: `attention_${group}`,
    label: `+ ${section.kind.toUpperCase()}`,
    notes: [
      `${attention.heads.heads} heads`,
      ..."kv_lora_rank" in section ? [`latent ${section.kv_lora_rank}`] : [],
    ],
    kind: "compute",
    group,
  };
}

/** The feed-forward after the leading layers: its name, its sentence and its text in a box. */
function describeFeedForward(architecture: Architecture) {
  const { config } = architecture;
  const { bench } = architecture.feedForward(config.num_layers - 1);
  const ethos = ethosSizes(config);
  if (ethos !== undefined) {
    return {
      name: "ETHOS",
      words: "generated experts",
      notes: [`${ethos.routing_heads} × ${ethos.top_k} of`, `${count(expertsOf(ethos))} experts`],
    };
  }
  if (bench !== undefined) {
    const { kind } = config.ffn;
    return { name: kind.toUpperCase(), words: "experts", notes: [`${bench.kept} experts a token`] };
  }
  const { ffn } = config;
  if ("num_experts" in ffn) {
    const kept = "top_k" in ffn ? ffn.top_k : 1;
    return {
      name: ffn.kind,
      words: "stored experts",
      notes: [`${kept} of`, `${count(ffn.num_experts)} experts`],
    };
  }
  return {
    name: "SwiGLU",
    words: "a dense feed-forward",
    notes: "d_ffn" in ffn ? [`hidden ${count(ffn.d_ffn)}`] : [],
  };
}
