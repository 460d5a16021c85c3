/**
 * Which tensors a golden file of each kind must have, and their shapes.
 *
 * @module
 */

import type { Architecture } from "../trunk/architecture.ts";
import { parameterSpecs, statisticSpecs } from "../trunk/parameters.ts";
import type { EthosSection } from "./golden.ts";

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

/** Contents of a file about an ETHOS layer. */
export function layerContents(
  architecture: Architecture,
  ethos: EthosSection,
  tokens: number,
): Contents {
  const { trained, statistics } = shapesUnder(architecture, "layers.0.ffn.");
  const x = [tokens, architecture.config.d_model];
  const kept = [tokens, ethos.routing_heads, ethos.top_k];
  return {
    inputs: new Map([["x", x], ["g", x], ...trained, ...statistics]),
    results: new Map([
      ["out.y", x],
      ["out.y_naive", x],
      ["out.index", kept],
      ["out.score", kept],
      ...named("out.", statistics),
      ["grad.x", x],
      ...named("grad.", trained),
    ]),
  };
}

/** Contents of a file about training a whole model. */
export function modelContents(
  architecture: Architecture,
  { batch, length, steps }: { batch: number; length: number; steps: number },
): Contents {
  const { trained, statistics } = shapesUnder(architecture, "");
  const tokens = [batch, length];
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
      ...named("grad.", trained),
      ...named("after.", trained),
      ...named("after.", statistics),
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
