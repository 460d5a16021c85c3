/**
 * Which tensors a golden file of each kind must have, and their shapes.
 *
 * @module
 */

import type { Architecture } from "../trunk/architecture.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import type { WidenedModel } from "./published/heads.ts";
import { storedShapes } from "./published/stored.ts";
import type { BeamSection, EthosSection, MixtureCase, PeerSection } from "./golden.ts";

/** Shapes by name. */
type Shapes = Map<string, readonly number[]>;

/** Shapes of the parameters and statistics under `prefix`, without it. */
function shapesUnder(
  architecture: Architecture,
  prefix: string,
): { trained: Shapes; statistics: Shapes } {
  const under = (specs: readonly { name: string; shape: readonly number[] }[]): Shapes =>
    new Map(
      specs.filter(({ name }) => name.startsWith(prefix))
        .map(({ name, shape }) => [name.slice(prefix.length), shape]),
    );
  return {
    trained: under(parameterSpecs(architecture)),
    statistics: under(statisticSpecs(architecture)),
  };
}

/** `shapes` with a prefix before every name. */
function named(prefix: string, shapes: Shapes): [string, readonly number[]][] {
  return Array.from(shapes, ([name, shape]) => [prefix + name, shape]);
}

/** Which tensors a file of its kind must have, and their shapes. */
export interface Contents {
  /** Inputs and weights. */
  readonly inputs: Shapes;
  /** Results that an implementation is compared with. */
  readonly results: Shapes;
}

/** Contents of a file about attention alone. */
export function mlaContents(architecture: Architecture, batch: number, length: number): Contents {
  const x = [batch, length, architecture.config.d_model];
  const { trained } = shapesUnder(architecture, "layers.0.attn.");
  return {
    inputs: new Map([["x", x], ["g", x], ...trained]),
    results: new Map([["out.y", x], ["grad.x", x], ...named("grad.", trained)]),
  };
}

/** The norm before an attention, which is called `norm` in its file, and the attention. */
export function gptAttentionContents(
  architecture: Architecture,
  batch: number,
  length: number,
): Contents {
  const x = [batch, length, architecture.config.d_model];
  const norm = shapesUnder(architecture, "layers.0.attn_norm.").trained;
  const trained = new Map([
    ...named("norm.", norm),
    ...shapesUnder(architecture, "layers.0.attn.").trained,
  ]);
  return {
    inputs: new Map([["x", x], ["g", x], ...trained]),
    results: new Map([["out.norm", x], ["out.y", x], ["grad.x", x], ...named("grad.", trained)]),
  };
}

/** Contents of a file about the router alone. */
export function routerContents(
  architecture: Architecture,
  ethos: EthosSection,
  tokens: number,
): Contents {
  const { routing_heads, top_k, d_query, num_experts } = ethos;
  const { trained, statistics } = shapesUnder(architecture, "layers.0.ffn.router.");
  const x = [tokens, architecture.config.d_model];
  const kept = [tokens, routing_heads, top_k];
  const scores = [tokens, routing_heads, Math.sqrt(num_experts)];
  const decisions: [string, readonly number[]][] = [
    ["query", [tokens, routing_heads * d_query]],
    ["index", kept],
    ["total", kept],
    ["score", kept],
  ];
  return {
    inputs: new Map([["x", x], ["g", kept], ...trained, ...statistics]),
    results: new Map([
      ...named("out.", new Map([...decisions, ["s1", scores], ["s2", scores], ...statistics])),
      ...named("eval.", new Map(decisions)),
      ["balance.value", []],
      ["grad.x", x],
      ["balance.grad.x", x],
      ...named("grad.", trained),
      ...named("balance.grad.", trained),
    ]),
  };
}

/** Contents of a file about a layer behind a product-key router. */
export function layerContents(
  architecture: Architecture,
  ffn: EthosSection | PeerSection,
  tokens: number,
): Contents {
  const { trained, statistics } = shapesUnder(architecture, "layers.0.ffn.");
  const x = [tokens, architecture.config.d_model];
  const kept = [tokens, ffn.routing_heads, ffn.top_k];
  return {
    inputs: new Map([["x", x], ["g", x], ...trained, ...statistics]),
    results: new Map<string, readonly number[]>([
      ["out.y", x],
      ...(ffn.kind === "ethos" ? [["out.y_naive", x]] as const : []),
      ["out.index", kept],
      ["out.score", kept],
      ...named("out.", statistics),
      ["grad.x", x],
      ...named("grad.", trained),
    ]),
  };
}

/** Contents of a file about the beam router alone. */
export function beamContents(
  architecture: Architecture,
  beam: BeamSection,
  tokens: number,
): Contents {
  const { routing_heads, top_k, axes, axis_query, axis_size } = beam;
  const { trained } = shapesUnder(architecture, "layers.0.ffn.router.");
  const x = [tokens, architecture.config.d_model];
  const kept = [tokens, routing_heads, top_k];
  const candidates = [tokens, routing_heads, axes, Math.min(beam.axis_candidates, axis_size)];
  return {
    inputs: new Map([["x", x], ["g", kept], ...trained]),
    results: new Map([
      ["out.query", [tokens, routing_heads, axes, axis_query]],
      ["out.axis_value", candidates],
      ["out.axis_id", candidates],
      ["out.scores", kept],
      ["out.coords", [...kept, axes]],
      ["out.codes", [axis_size, axis_query]],
      ["out.codes_512x32", [512, 32]],
      ["grad.x", x],
      ...named("grad.", trained),
    ]),
  };
}

/** Contents of a file about mixtures of stored experts. */
export function mixtureContents(
  architecture: Architecture,
  passes: MixtureCase["passes"],
  tokens: number,
): Contents {
  const { trained } = shapesUnder(architecture, "layers.0.ffn.");
  const x = [tokens, architecture.config.d_model];
  const results: Shapes = new Map();
  for (const { prefix, section } of passes) {
    const kept: [string, readonly number[]][] = section.kind === "switch"
      ? [["out.index", [tokens]], ["out.probability", [tokens, section.num_experts]]]
      : [["out.index", [tokens, section.top_k]], ["out.weight", [tokens, section.top_k]]];
    if (section.load_balance_coef > 0) kept.push(["out.aux", []]);
    if ("choice" in section && section.choice === "top_p") kept.push(["out.count", [tokens]]);
    const all: [string, readonly number[]][] = [
      ...kept,
      ["out.y", x],
      ["grad.x", x],
      ...named("grad.", trained),
    ];
    for (const [name, shape] of all) results.set(prefix + name, shape);
  }
  return { inputs: new Map([["x", x], ["g", x], ...trained]), results };
}

/** Contents of a file about training a whole model. */
export function modelContents(
  architecture: Architecture,
  { batch, length, steps }: { batch: number; length: number; steps: number },
): Contents {
  const { trained, statistics } = shapesUnder(architecture, "");
  const tokens = [batch, length];
  const { ffn } = architecture.config;
  return {
    inputs: new Map([
      ["tokens", tokens],
      ["targets", tokens],
      ...named("param.", trained),
      ...named("param.", statistics),
    ]),
    results: new Map([
      ["out.logits", [batch, length, architecture.config.vocab_size]],
      ["out.losses", [steps]],
      ["out.totals", [steps]],
      ["out.grad_norms", [steps]],
      ["out.eval_loss_after", [1]],
      ...("axes" in ffn ? [["codes", [ffn.axis_size, ffn.axis_query]] as const] : []),
      ...named("grad.", trained),
      ...named("after.", trained),
      ...named("after.", statistics),
    ]),
  };
}

/** Contents of a file about a published model. */
export function pretrainedContents(
  stored: WidenedModel,
  batch: number,
  length: number,
): Contents {
  const { model } = stored.published;
  const hidden = Array.from(
    { length: model.num_layers },
    (_, l) => [`out.hidden.${l}`, [batch, length, model.d_model]] as const,
  );
  return {
    inputs: new Map([["tokens", [batch, length]], ...storedShapes(stored)]),
    results: new Map<string, readonly number[]>([
      ["out.logits", [batch, length, model.vocab_size]],
      ["out.loss", []],
      ...hidden,
    ]),
  };
}

/** Contents of a file about AdamW alone. */
export function optimizerContents(
  parameters: ReadonlyMap<string, readonly number[]>,
  steps: number,
): Contents {
  const inputs: Shapes = new Map([["lr", [steps]]]);
  const results: Shapes = new Map([["out.grad_norms", [steps]]]);
  for (const [name, shape] of parameters) {
    inputs.set(`param.${name}`, shape);
    inputs.set(`grads.${name}`, [steps, ...shape]);
    results.set(`after.${name}`, [steps, ...shape]);
    results.set(`m.${name}`, shape);
    results.set(`v.${name}`, shape);
  }
  return { inputs, results };
}
