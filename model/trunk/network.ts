/**
 * The whole network, recorded into plans: embedding, layers, head, and back.
 *
 * @module
 */

import { isSparse } from "../config.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { LayerContext } from "../layer/context.ts";
import { ethosBackward, ethosForward, type EthosSaved } from "../ffn/ethos/ethos.ts";
import { headLoss } from "./head.ts";
import { mlaBackward, mlaForward, type MlaSaved } from "../attention/mla/mla.ts";
import { swigluLayerBackward, swigluLayerForward, type SwigluSaved } from "../ffn/dense/swiglu.ts";
import { embeddingBackward, embeddingForward } from "../ops/elementwise/embedding.ts";
import { sumInto } from "../ops/optimizer/optimizer.ts";
import { rmsnormBackward, rmsnormForward } from "../ops/norm/rmsnorm.ts";
import { sortByKey } from "../ops/routing/sort.ts";

/** What a micro-batch reads and writes. */
export interface BatchTensors {
  /** `[T]` u32. */
  readonly tokens: Tensor;
  /** The token after each, `[T]` u32. */
  readonly targets: Tensor;
  /** Cross-entropy of each token, nats, `[T]` f32. */
  readonly losses: Tensor;
}

/** What a training micro-batch needs besides. */
export interface TrainingTensors extends BatchTensors {
  /** `control[0]` is the loss scale. */
  readonly control: Tensor;
  /** `[4]`: mean cross-entropy and load-balance term of the update so far. */
  readonly loss: Tensor;
}

/** What the backward pass computes again instead of keeping: nothing, the feed-forwards, or whole layers. */
export type Recompute = "none" | "experts" | "full";

/** The attention half of a layer. */
interface AttentionHalf {
  /** Residual stream before and after it, `[T, D]`. */
  readonly x: Tensor;
  readonly y: Tensor;
  /** `1 / rms` of the norm. */
  readonly scale: Tensor;
  readonly saved: MlaSaved;
}

/** The feed-forward half of a layer. */
interface FeedForwardHalf {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly scale: Tensor;
  readonly feedForward:
    | { readonly kind: "dense"; readonly saved: SwigluSaved }
    | { readonly kind: "ethos"; readonly saved: EthosSaved };
  /** Kept experts, and the load-balance term, of a sparse layer. */
  readonly index?: Tensor;
  readonly balance?: Tensor;
}

/** How the backward pass gets at what the forward pass of one layer made. */
interface LayerSaved {
  attention(): AttentionHalf;
  feedForward(): FeedForwardHalf;
}

/** What the forward pass of the layers gives. */
export interface Forward {
  /** Residual stream after the last layer `[T, D]`, f32. */
  readonly x: Tensor;
  readonly layers: readonly LayerSaved[];
  /** Kept experts of each sparse layer, `[T, H·k]` u32, by layer number. */
  readonly index: ReadonlyMap<number, Tensor>;
  /** Load-balance term of each sparse layer, one element each, when the configuration has one. */
  readonly balances: readonly Tensor[];
}

/** Records embedding and layers. */
export function recordForward(
  context: LayerContext,
  tokens: Tensor,
  recompute: Recompute = "none",
): Forward {
  const { plan, config } = context;
  let x = context.activation("embed", context.tokens, config.d_model);
  embeddingForward(plan, "embed", {
    tokens,
    parts: context.weights.value("embed.weight").parts,
    x,
  });
  const layers: LayerSaved[] = [];
  const index = new Map<number, Tensor>();
  const balances: Tensor[] = [];
  for (let i = 0; i < config.num_layers; i++) {
    const attention = recordAttention(context, i, x);
    const feedForward = recordFeedForward(context, i, attention.y);
    if (feedForward.index) index.set(i, feedForward.index);
    if (feedForward.balance) balances.push(feedForward.balance);
    layers.push(savedOf(context, i, { attention, feedForward, recompute }));
    x = feedForward.y;
  }
  return { x, layers, index, balances };
}

/** Hands out what was kept, or records it again. The plan frees what nobody asks for. */
function savedOf(
  context: LayerContext,
  i: number,
  layer: { attention: AttentionHalf; feedForward: FeedForwardHalf; recompute: Recompute },
): LayerSaved {
  const { attention, feedForward, recompute } = layer;
  let again: AttentionHalf | undefined;
  const attentionHalf = () => {
    if (recompute !== "full") return attention;
    return again ??= context.recompute(() => recordAttention(context, i, attention.x));
  };
  return {
    attention: attentionHalf,
    feedForward() {
      if (recompute === "none") return feedForward;
      const { y } = attentionHalf();
      return context.recompute(() => recordFeedForward(context, i, y));
    },
  };
}

/** Records the losses of a batch, without gradients. Running statistics are used, not updated. */
export function recordEvaluation(context: LayerContext, tensors: BatchTensors): Forward {
  const forward = recordForward(context, tensors.tokens);
  headLoss(context, { x: forward.x, targets: tensors.targets, losses: tensors.losses });
  return forward;
}

/**
 * Records forward and backward of one micro-batch.
 *
 * The gradient is that of the mean cross-entropy over the tokens of all micro-batches of the update, plus the mean of their load-balance
 * terms, times the loss scale.
 */
export function recordTraining(
  context: LayerContext,
  tensors: TrainingTensors,
  options: { first: boolean; recompute?: Recompute },
): Forward {
  const { plan, config } = context;
  const { loss, control, losses } = tensors;
  const { share } = context;
  if (options.first) plan.clear(loss);
  const forward = recordForward(context, tensors.tokens, options.recompute);
  for (const balance of forward.balances) {
    sumInto(plan, "balance", { x: balance, total: loss }, { slot: 1, scale: share, add: true });
  }
  const scale = share / context.tokens;
  const dx = headLoss(context, {
    x: forward.x,
    targets: tensors.targets,
    losses,
    gradient: { scale, control },
  })!;
  sumInto(plan, "loss", { x: losses, total: loss }, { slot: 0, scale, add: true });
  for (let i = config.num_layers - 1; i >= 0; i--) {
    recordLayerBackward(context, i, forward.layers[i]!, { dx, control });
  }
  const sorted = sortByKey(plan, "embed.sort", {
    keys: tensors.tokens,
    bound: config.vocab_size,
  });
  embeddingBackward(plan, "embed.backward", {
    sorted,
    dx,
    parts: context.gradientParts("embed.weight").map((target) => target.tensor),
  });
  return forward;
}

function recordAttention(context: LayerContext, i: number, x: Tensor): AttentionHalf {
  const at = `layers.${i}`;
  const input = norm(context, `${at}.attn_norm`, x);
  const { y, saved } = mlaForward(context, `${at}.attn`, input.y, x);
  return { x, y, scale: input.scale, saved };
}

function recordFeedForward(context: LayerContext, i: number, x: Tensor): FeedForwardHalf {
  const at = `layers.${i}`;
  const input = norm(context, `${at}.ffn_norm`, x);
  const { scale } = input;
  if (isSparse(context.config, i)) {
    const { y, saved, index, balance } = ethosForward(context, `${at}.ffn`, input.y, x);
    const feedForward = { kind: "ethos", saved } as const;
    return { x, y, scale, feedForward, index, ...(balance && { balance }) };
  }
  const { y, saved } = swigluLayerForward(context, `${at}.ffn`, { x: input.y, residual: x });
  return { x, y, scale, feedForward: { kind: "dense", saved } };
}

/** Turns the gradient of a layer's output into that of its input, in place. */
function recordLayerBackward(
  context: LayerContext,
  i: number,
  layer: LayerSaved,
  options: { dx: Tensor; control: Tensor },
): void {
  const at = `layers.${i}`;
  const { dx, control } = options;
  const second = layer.feedForward();
  const { feedForward } = second;
  const dfeedForward = feedForward.kind === "ethos"
    ? ethosBackward(context, `${at}.ffn`, dx, feedForward.saved, { loss_scale: control })
    : swigluLayerBackward(context, `${at}.ffn`, { dy: dx, saved: feedForward.saved });
  normBackward(context, `${at}.ffn_norm`, { ...second, dy: dfeedForward, dx });
  const first = layer.attention();
  const dattention = mlaBackward(context, `${at}.attn`, dx, first.saved);
  normBackward(context, `${at}.attn_norm`, { ...first, dy: dattention, dx });
}

/** Records the norm before a layer's half: its operand, and `1 / rms` of each row. */
export function norm(
  context: LayerContext,
  name: string,
  x: Tensor,
): { y: Tensor; scale: Tensor } {
  const y = context.operand(`${name}.y`, ...x.shape);
  const scale = context.activation(`${name}.scale`, x.rows);
  rmsnormForward(context.plan, name, { x, gain: context.vector(`${name}.weight`), y, scale });
  return { y, scale };
}

/** Adds the gradient through a norm to that of the residual stream. */
function normBackward(
  context: LayerContext,
  name: string,
  tensors: { x: Tensor; scale: Tensor; dy: Tensor; dx: Tensor },
): void {
  const { x, scale, dy, dx } = tensors;
  rmsnormBackward(context.plan, name, {
    x,
    scale,
    dy,
    dx,
    gain: context.vector(`${name}.weight`),
    epilogue: "accumulate",
    dgain: context.gradient(`${name}.weight`),
  });
}
