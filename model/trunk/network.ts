/**
 * The whole network, recorded into plans: embedding, layers, head, and back.
 *
 * @module
 */

import type { Tensor } from "../gpu/tensor.ts";
import type { LayerContext } from "../layer/context.ts";
import type { ExpertUse, FeedForwardPass, Pass } from "../layer/kind.ts";
import { dropoutRows } from "../ops/dropout/dropout.ts";
import { countTargets } from "../ops/elementwise/cross_entropy.ts";
import { embeddingBackward, embeddingForward } from "../ops/elementwise/embedding.ts";
import { addPositions, positionsBackward } from "../ops/elementwise/positions.ts";
import { sumInto } from "../ops/optimizer/optimizer.ts";
import { sortByKey } from "../ops/routing/sort.ts";
import type { Architecture } from "./architecture.ts";
import { headLoss } from "./head.ts";
import { type NormPass, recordNorm } from "./norm.ts";

/** Tensors of a micro-batch. */
export interface BatchTensors {
  /** `[T]` u32. */
  readonly tokens: Tensor;
  /** The token after each, `[T]` u32. */
  readonly targets: Tensor;
  /** Cross-entropy of each token, nats, `[T]` f32. */
  readonly losses: Tensor;
}

/** Tensors of a training micro-batch. */
export interface TrainingTensors extends BatchTensors {
  /** The loss scale comes first. */
  readonly control: Tensor;
  /** `[4]`: mean cross-entropy and load-balance term of the update so far. */
  readonly loss: Tensor;
}

/** The part of the forward pass that the backward pass computes again instead of keeping it. */
export type Recompute = "none" | "experts" | "full";

/** A recorded half of a layer: its norm, and the attention or feed-forward behind it. */
interface Half<P extends Pass> {
  readonly norm: NormPass;
  readonly pass: P;
}

/** Gives the halves of a layer to the backward pass, kept or recorded again. */
interface LayerSaved {
  attention(): Half<Pass>;
  feedForward(): Half<FeedForwardPass>;
}

/** A recorded forward pass of the layers. */
export interface Forward {
  /** Residual stream after the last layer `[T, D]`, f32. */
  readonly x: Tensor;
  readonly layers: readonly LayerSaved[];
  /** Use of the experts of each layer that has some, by layer number. */
  readonly uses: ReadonlyMap<number, ExpertUse>;
  /** Further terms of the loss, one element each. */
  readonly auxiliaries: readonly Tensor[];
}

/** The rows that enter a layer's feed-forward. */
export interface FeedForwardRows {
  /** Normalised, of the operands' type, `[T, D]`. */
  readonly x: Tensor;
  /** The residual stream that the output is added to, f32 `[T, D]`. */
  readonly residual: Tensor;
}

/** Records layer `i` up to its feed-forward, from the residual stream before it, f32 `[T, D]`. */
export function recordBeforeFeedForward(
  context: LayerContext,
  architecture: Architecture,
  input: { readonly i: number; readonly x: Tensor },
): FeedForwardRows {
  const layer = new LayerRecorder(context, architecture, input);
  const residual = layer.attention().pass.y;
  return { x: layer.feedForwardNorm(residual).y, residual };
}

/** Records embedding and layers. */
export function recordForward(
  context: LayerContext,
  architecture: Architecture,
  inputs: { readonly tokens: Tensor; readonly recompute?: Recompute },
): Forward {
  const { num_layers } = architecture.config;
  const { tokens, recompute = "none" } = inputs;
  let x = recordEmbedding(context, architecture, { tokens });
  const layers: LayerSaved[] = [];
  const uses = new Map<number, ExpertUse>();
  const auxiliaries: Tensor[] = [];
  for (let i = 0; i < num_layers; i++) {
    const layer = new LayerRecorder(context, architecture, { i, x });
    const attention = layer.attention();
    const feedForward = layer.feedForward(attention.pass.y);
    const { use, auxiliary, y } = feedForward.pass;
    if (use) uses.set(i, use);
    if (auxiliary) auxiliaries.push(auxiliary);
    layers.push(savedOf(layer, { attention, feedForward, recompute }));
    x = y;
  }
  return { x, layers, uses, auxiliaries };
}

/**
 * Records the residual stream before the first layer, f32 `[T, D]`: the embedding, and learned positions where there are some.
 *
 * @param inputs `position` is u32 `[B]`, the position of the first token of each sequence; 0 unless given.
 * @throws {RangeError} If a sequence is longer than the learned positions.
 */
export function recordEmbedding(
  context: LayerContext,
  { config }: Architecture,
  inputs: { readonly tokens: Tensor; readonly position?: Tensor },
): Tensor {
  const { plan, length } = context;
  const { tokens, ...start } = inputs;
  const x = context.activation("embed", tokens.size, config.d_model);
  const { parts } = context.weights.value("embed.weight");
  embeddingForward(plan, "embed", { tokens, parts, x });
  if (config.trunk.positions === "learned") {
    const table = context.vector("position.weight");
    addPositions(plan, "position", { x, table, length, ...start });
  }
  const dropout = context.dropout("embed", config.trunk.dropout);
  if (dropout) dropoutRows(plan, "embed.dropout", { x, y: x, dropout });
  return x;
}

/** Records the halves of one layer, once or again. */
class LayerRecorder {
  readonly context: LayerContext;
  readonly #architecture: Architecture;
  readonly #i: number;
  readonly #x: Tensor;

  constructor(
    context: LayerContext,
    architecture: Architecture,
    { i, x }: { readonly i: number; readonly x: Tensor },
  ) {
    this.context = context;
    this.#architecture = architecture;
    this.#i = i;
    this.#x = x;
  }

  attention(): Half<Pass> {
    const { context } = this;
    const architecture = this.#architecture;
    const at = `layers.${this.#i}`;
    const residual = this.#x;
    const norm = recordNorm(context, `${at}.attn_norm`, { architecture, x: residual });
    const input = { x: norm.y, residual };
    return { norm, pass: architecture.attention.forward(context, `${at}.attn`, input) };
  }

  /** @param residual The residual stream after attention. */
  feedForwardNorm(residual: Tensor): NormPass {
    const architecture = this.#architecture;
    const x = architecture.config.trunk.residual === "parallel" ? this.#x : residual;
    return recordNorm(this.context, `layers.${this.#i}.ffn_norm`, { architecture, x });
  }

  /** @param residual The residual stream after attention. */
  feedForward(residual: Tensor): Half<FeedForwardPass> {
    const norm = this.feedForwardNorm(residual);
    const input = { x: norm.y, residual };
    const layer = this.#architecture.feedForward(this.#i);
    return { norm, pass: layer.forward(this.context, `layers.${this.#i}.ffn`, input) };
  }
}

/** Hands out the halves that were kept, or records them again. The plan frees those that nobody asks for. */
function savedOf(
  layer: LayerRecorder,
  halves: {
    readonly attention: Half<Pass>;
    readonly feedForward: Half<FeedForwardPass>;
    readonly recompute: Recompute;
  },
): LayerSaved {
  const { attention, feedForward, recompute } = halves;
  let again: Half<Pass> | undefined;
  const attentionHalf = () => {
    if (recompute !== "full") return attention;
    return again ??= layer.context.recompute(() => layer.attention());
  };
  return {
    attention: attentionHalf,
    feedForward() {
      if (recompute === "none") return feedForward;
      const { y } = attentionHalf().pass;
      return layer.context.recompute(() => layer.feedForward(y));
    },
  };
}

/** Records the losses of a batch, without gradients. Running statistics are used, not updated. */
export function recordEvaluation(
  context: LayerContext,
  architecture: Architecture,
  tensors: BatchTensors,
): Forward {
  const { tokens, targets, losses } = tensors;
  const forward = recordForward(context, architecture, { tokens });
  headLoss(context, { architecture, x: forward.x, targets, losses });
  return forward;
}

/**
 * Records forward and backward of one micro-batch.
 *
 * The gradient is that of the mean cross-entropy over the tokens of all micro-batches of the update, plus the mean of their auxiliary
 * terms, times the loss scale. With `padded`, a micro-batch has targets that are not predicted: its cross-entropy is the mean over the
 * others, and the update's is the mean of its micro-batches.
 */
export function recordTraining(
  context: LayerContext,
  architecture: Architecture,
  options: TrainingTensors & {
    readonly first: boolean;
    readonly recompute?: Recompute;
    readonly padded?: boolean;
  },
): Forward {
  const { plan, share } = context;
  const { tokens, targets, loss, control, losses, first, recompute = "none" } = options;
  if (first) plan.clear(loss);
  const forward = recordForward(context, architecture, { tokens, recompute });
  for (const auxiliary of forward.auxiliaries) {
    sumInto(plan, "balance", { x: auxiliary, total: loss }, { slot: 1, scale: share, add: true });
  }
  const predictions = options.padded ? context.activation("head.predictions", 1, 4) : undefined;
  if (predictions) countTargets(plan, "head.count", { targets, predictions });
  const scale = predictions ? share : share / context.tokens;
  const dx = context.joinGains(() => {
    const gradient = headLoss(context, {
      architecture,
      x: forward.x,
      targets,
      losses,
      gradient: { scale, control, predictions },
    })!;
    const total = { x: losses, total: loss, divisor: predictions };
    sumInto(plan, "loss", total, { slot: 0, scale, add: true });
    for (const layer of forward.layers.toReversed()) {
      recordLayerBackward(architecture, layer, { dx: gradient, loss_scale: control });
    }
    return gradient;
  });
  recordEmbeddingBackward(context, architecture, { tokens, dx });
  return forward;
}

/** Records the gradients of the embeddings. */
function recordEmbeddingBackward(
  context: LayerContext,
  { config }: Architecture,
  { tokens, dx }: { readonly tokens: Tensor; readonly dx: Tensor },
): void {
  const { plan } = context;
  const dropout = context.dropout("embed", config.trunk.dropout);
  if (dropout) dropoutRows(plan, "embed.dropout.backward", { x: dx, y: dx, dropout });
  const sorted = sortByKey(plan, "embed.sort", { keys: tokens, bound: config.vocab_size });
  const targets = context.gradientParts("embed.weight");
  for (const { tensor, epilogue } of targets) {
    // The rows of tokens are added; without a tied head nothing has written the others.
    if (epilogue === "none") plan.clear(tensor);
  }
  embeddingBackward(plan, "embed.backward", {
    sorted,
    dx,
    parts: targets.map(({ tensor }) => tensor),
  });
  if (config.trunk.positions === "learned") {
    const { tensor: d_table, epilogue } = context.gradient("position.weight");
    positionsBackward(plan, "position.backward", {
      dx,
      d_table,
      length: context.length,
      epilogue,
    });
  }
}

/** Turns the gradient of a layer's output into that of its input, in place. */
function recordLayerBackward(
  { config }: Architecture,
  layer: LayerSaved,
  options: { readonly dx: Tensor; readonly loss_scale: Tensor },
): void {
  const { dx, ...rest } = options;
  const second = layer.feedForward();
  const dsecond = second.pass.backward(dx, rest);
  if (config.trunk.residual === "parallel") {
    // Attention's output has the gradient of the layer's; only then may the norms add theirs.
    const first = layer.attention();
    const dfirst = first.pass.backward(dx, rest);
    second.norm.backward(dsecond, dx, "accumulate");
    first.norm.backward(dfirst, dx, "accumulate");
    return;
  }
  second.norm.backward(dsecond, dx, "accumulate");
  const first = layer.attention();
  first.norm.backward(first.pass.backward(dx, rest), dx, "accumulate");
}
