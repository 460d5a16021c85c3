/**
 * The network around the layers, forward and backward: embedding, residual stream, norms, head.
 *
 * ```
 * x = drop(E[token] (+ P[position]))
 * h = x + attention(norm(x));   x = h + ffn(norm(h))           sequential
 * x = x + attention(norm(x)) + ffn(norm(x))                    parallel, with a norm for each
 * logits = norm(x) Eᵀ, or norm(x) Hᵀ with a head of its own
 * ```
 *
 * @module
 */

import type { AttentionSection, FfnSection, ModelConfig } from "../section.ts";
import { ATTENTION } from "./attention/registry.ts";
import { drop, type DropoutMasks, noDropout, placesUnder } from "./dropout.ts";
import { FFN } from "./ffn/registry.ts";
import {
  type AttentionInput,
  type AttentionKind,
  type FeedForwardInput,
  type FeedForwardKind,
  type FeedForwardPass,
  need,
  type Pass,
  under,
} from "./layer.ts";
import {
  add,
  addScaled,
  matmul,
  type Matrix,
  matrix,
  row,
  transpose,
  type Weights,
} from "./matrix.ts";
import { layerNormBackward, layerNormForward, rmsNormBackward, rmsNormForward } from "./norm.ts";
import { addPositions, positionsBackward } from "./positions.ts";

/** Inputs of {@linkcode networkForward}. */
export interface NetworkInput {
  /** Input tokens, sequence after sequence. */
  readonly tokens: ArrayLike<number>;
  /** Tokens of a sequence. */
  readonly length: number;
  /** Batch statistics rather than running ones. */
  readonly training: boolean;
  /** Kept experts by layer, instead of choosing. */
  readonly selections?: ReadonlyMap<number, Int32Array>;
  /** Dropout's masks; nothing is dropped unless given. */
  readonly masks?: DropoutMasks | undefined;
  /** The output of layer `i`'s feed-forward for normalised rows, instead of the configuration's; the pass then has no gradients. */
  readonly feedForward?: (i: number, x: Matrix) => Matrix;
}

/** A forward pass of the network. */
export interface NetworkPass {
  /** Tokens × vocabulary. */
  readonly logits: Matrix;
  /** The residual stream after each layer, tokens × d_model. */
  readonly hidden: readonly Matrix[];
  /** The feed-forward of every layer. */
  readonly feedForwards: readonly FeedForwardPass[];
  /** Gradients of every parameter by name, from that of the logits and of the layers' auxiliary terms. */
  backward(gradient: Matrix): Map<string, Float64Array>;
}

/** Parameters and running statistics by name. */
type Tensors = ReadonlyMap<string, Float64Array>;

/**
 * The network over whole sequences.
 *
 * @throws {RangeError} If the batch does not fit the model.
 */
export function networkForward(
  config: ModelConfig,
  tensors: Tensors,
  input: NetworkInput,
): NetworkPass {
  const { d_model, vocab_size, num_layers, trunk } = config;
  const { tokens, length, training, selections, masks = noDropout } = input;
  if (!(tokens.length > 0 && tokens.length % length === 0)) {
    throw new RangeError(`${tokens.length} tokens are not whole sequences of ${length}`);
  }
  const embedding = matrix(vocab_size, d_model, tensors.get("embed.weight")!);
  const head = trunk.head === "own"
    ? matrix(vocab_size, d_model, tensors.get("head.weight")!)
    : undefined;
  const embedded = masks("embed", trunk.dropout);
  let x = drop(embed(config, tensors, input), embedded);
  const layers = Array.from({ length: num_layers }, (_, i) => {
    const at = `layers.${i}`;
    const normed = (name: string, x: Matrix) => norm(config, under(tensors, `${at}.${name}.`), x);
    const attentionNorm = normed("attn_norm", x);
    const attention = attentionOf(config, tensors, {
      i,
      x: attentionNorm.y,
      length,
      masks: placesUnder(masks, `${at}.attn.`),
    });
    const between = add(x, attention.y);
    const ffnNorm = normed("ffn_norm", trunk.residual === "parallel" ? x : between);
    const selection = selections?.get(i);
    const given = input.feedForward?.(i, ffnNorm.y);
    const feedForward = given ? withoutGradients(given) : feedForwardOf(config, tensors, {
      i,
      x: ffnNorm.y,
      training,
      masks: placesUnder(masks, `${at}.ffn.`),
      ...(selection && { selection }),
    });
    x = add(between, feedForward.y);
    return { at, attentionNorm, attention, ffnNorm, feedForward, y: x };
  });
  const finalNorm = norm(config, under(tensors, "final_norm."), x);

  const backward: NetworkPass["backward"] = (gradient) => {
    const gradients = new Map<string, Float64Array>();
    /** Takes a pass' gradients of its weights, and returns that of its input. */
    const through = (pass: Pass, at: string, g: Matrix) => {
      const { x, weights } = pass.backward(g);
      for (const [name, value] of Object.entries(weights)) gradients.set(`${at}.${name}`, value);
      return x;
    };
    let gx = through(finalNorm, "final_norm", matmul(gradient, head ?? embedding));
    for (const { at, attentionNorm, attention, ffnNorm, feedForward } of layers.toReversed()) {
      const second = through(
        ffnNorm,
        `${at}.ffn_norm`,
        through(feedForward, `${at}.ffn`, gx),
      );
      const between = trunk.residual === "parallel" ? gx : add(gx, second);
      const first = through(
        attentionNorm,
        `${at}.attn_norm`,
        through(attention, `${at}.attn`, between),
      );
      gx = add(add(gx, second), first);
    }
    gx = drop(gx, embedded);
    const gHead = matmul(transpose(gradient), finalNorm.y);
    if (head) gradients.set("head.weight", gHead.data);
    // A tied embedding is read at both ends: as the output head above, and by token here.
    const gEmbedding = head ? matrix(vocab_size, d_model) : gHead;
    for (let t = 0; t < gx.rows; t++) addScaled(row(gEmbedding, tokens[t]!), 1, row(gx, t));
    gradients.set("embed.weight", gEmbedding.data);
    if (trunk.positions === "learned") {
      const positions = trunk.max_positions;
      gradients.set("position.weight", positionsBackward(gx, { length, positions }).data);
    }
    return gradients;
  };
  return {
    logits: matmul(finalNorm.y, transpose(head ?? embedding)),
    hidden: layers.map(({ y }) => y),
    feedForwards: layers.map(({ feedForward }) => feedForward),
    backward,
  };
}

/** The residual stream before the first layer. */
function embed(
  { d_model, vocab_size, trunk }: ModelConfig,
  tensors: Tensors,
  { tokens, length }: NetworkInput,
): Matrix {
  const embedding = matrix(vocab_size, d_model, tensors.get("embed.weight")!);
  const x = matrix(tokens.length, d_model);
  for (let t = 0; t < tokens.length; t++) {
    const token = tokens[t]!;
    if (!(Number.isInteger(token) && token >= 0 && token < vocab_size)) {
      throw new RangeError(`Token ${token} is not in the vocabulary of ${vocab_size} tokens`);
    }
    row(x, t).set(row(embedding, token));
  }
  if (trunk.positions === "none") return x;
  const table = matrix(trunk.max_positions, d_model, tensors.get("position.weight")!);
  return addPositions(x, table, { length });
}

/** A norm of the residual stream. */
function norm({ trunk }: ModelConfig, weights: Weights<string>, x: Matrix): Pass {
  const { epsilon } = trunk;
  if (trunk.norm === "rms") {
    const saved = rmsNormForward(x, need(weights, ["weight"]).weight, { epsilon });
    return {
      y: saved.y,
      backward(gradient) {
        const { x, gain } = rmsNormBackward(saved, gradient);
        return { x, weights: { weight: gain } };
      },
    };
  }
  const saved = layerNormForward(x, need(weights, ["weight", "bias"]), { epsilon });
  return {
    y: saved.y,
    backward(gradient) {
      const { x, ...weights } = layerNormBackward(saved, gradient);
      return { x, weights };
    },
  };
}

// Each kind is of its own section; the discriminator says which, so all are used as of any section.
const attentions = ATTENTION as Readonly<Record<string, AttentionKind<AttentionSection>>>;
const feedForwards = FFN as unknown as Readonly<Record<string, FeedForwardKind<FfnSection>>>;

/** Attention of layer `i`. */
function attentionOf(
  { attention }: ModelConfig,
  tensors: Tensors,
  { i, ...input }: AttentionInput & { readonly i: number },
): Pass {
  return attentions[attention.kind]!(attention, under(tensors, `layers.${i}.attn.`), input);
}

/** A feed-forward that was computed elsewhere. */
function withoutGradients(y: Matrix): FeedForwardPass {
  return {
    y,
    backward() {
      throw new Error("A feed-forward that was given has no gradients");
    },
  };
}

/** Feed-forward of layer `i`. */
function feedForwardOf(
  { ffn, leading_dense }: ModelConfig,
  tensors: Tensors,
  { i, ...input }: FeedForwardInput & { readonly i: number },
): FeedForwardPass {
  const section: FfnSection = i < leading_dense.num_layers
    ? { kind: "dense", d_ffn: leading_dense.d_ffn }
    : ffn;
  return feedForwards[section.kind]!(section, under(tensors, `layers.${i}.ffn.`), input);
}
