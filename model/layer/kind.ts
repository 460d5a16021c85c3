/**
 * The contract between the trunk and the kinds of attention and feed-forward layers.
 *
 * A kind is a folder: its section of the configuration, its parameters, its forward and backward pass, its decoding step and its
 * counts. The trunk knows kinds through these interfaces alone.
 *
 * @module
 */

import type { z } from "zod";
import type { DType, Tensor } from "../gpu/tensor.ts";
import type { LayerContext } from "./context.ts";
import type { ParameterSpec, StatisticSpec } from "./parameter.ts";

/** Sizes that all layers of a model share. */
export interface TrunkSizes {
  /** Width of the residual stream, D. */
  readonly d_model: number;
  /** Layers of the whole model. */
  readonly num_layers: number;
}

/** A kind of attention or of feed-forward layer. */
export interface Kind<Section, Layer> {
  /** The kind's section of the configuration; its `kind` is a literal. */
  readonly schema: z.ZodType<Section>;
  /** The key of the section that does not fit the sizes of the model, and why, for a message; the schema sees the section alone. */
  problem?(
    section: Section,
    trunk: TrunkSizes,
  ): { readonly key: string; readonly message: string } | undefined;
  /** Keys of the section that change how a layer runs and nothing that is stored, with their values for generation. */
  readonly runtime: Partial<Section>;
  /** The layer of a section. */
  create(section: Section, trunk: TrunkSizes): Layer;
}

/** The input of a layer: activations are matrices `[T, D]`. */
export interface LayerInput {
  /** The normalised input, in the operands' type. */
  readonly x: Tensor;
  /** The residual stream, f32, to which the layer's output is added. */
  readonly residual: Tensor;
}

/** A recorded forward pass. */
export interface Pass {
  /** `residual + layer(x)`, a new f32 tensor `[T, D]`. */
  readonly y: Tensor;
  /**
   * Records the gradients of the parameters, from the gradient of `y`, f32 `[T, D]`.
   *
   * @param options.loss_scale f32, of which the first number counts: the factor in `dy`, for gradients that do not come through it.
   * @returns The gradient of `x`, f32 `[T, D]`. The gradient of `residual` is `dy` itself.
   */
  backward(dy: Tensor, options?: { readonly loss_scale?: Tensor }): Tensor;
}

/** Parameters that a layer has; `at` is the prefix of their names. */
interface Parameterised {
  parameters(at: string): readonly ParameterSpec[];
}

/** Operations of one token's forward pass by what they are spent on; a multiplication and an addition count as two. */
export type Flops = Readonly<Record<string, number>>;

/** Sizes of a decoder's cache. */
export interface CacheSizes {
  /** Sequences that are decoded at once, S; 1 unless given. */
  readonly sequences?: number;
  /** Positions of each. */
  readonly capacity: number;
  /** The operands' type. */
  readonly dtype: DType;
}

/** The cache of the tokens so far, and the step of decoding. */
export interface Decoder {
  /** The cache, `[S·capacity, …]` each, sequence after sequence, without memory. It needs no clearing, but holds finite numbers only. */
  readonly cache: readonly Tensor[];
  /**
   * Records the forward pass of the next tokens of every sequence, in a context whose batch they are, and appends them to the cache.
   *
   * @param input `position` is u32 `[S]`: the position of the first new token of each. Position + tokens must not exceed the capacity.
   * @returns `residual + attention(x)`, a new f32 tensor.
   */
  record(context: LayerContext, input: LayerInput & { readonly position: Tensor }): Tensor;
}

/** An attention layer of given sizes. */
export interface Attention extends Parameterised {
  /** Heads, and their widths: of queries and keys, the part whose key all heads share (`d_rope`) apart from the other, and of values. */
  readonly heads: {
    readonly heads: number;
    readonly d_nope: number;
    readonly d_rope: number;
    readonly d_v: number;
  };
  /** Records the forward pass over whole sequences. */
  forward(context: LayerContext, at: string, input: LayerInput): Pass;
  /** A cache, and the step that uses it. */
  decoder(at: string, sizes: CacheSizes): Decoder;
  /** Operations of a token; it attends to half of the sequence on average. */
  flops(options: { readonly sequenceLength: number }): Flops;
}

/**
 * How the experts of one layer were used in a recorded pass. Where experts are sums of parts from tables, such as a row of each axis, those rows
 * are what is counted: the experts themselves are too many.
 */
export interface ExpertUse {
  /** Experts of the layer, N, or rows of its tables. */
  readonly experts: number;
  /** Those that were kept, u32 `[T, kept]`; N or more where a token keeps fewer. */
  readonly index: Tensor;
  /** Where whole experts multiply: the rows that they do. */
  readonly rows?: ComputedRows;
  /** Records further numbers of the pass, f32, of which the first ones are those named. */
  statistics?(): { readonly names: readonly string[]; readonly values: Tensor };
}

/** The rows that experts compute, as their products read them. */
export interface ComputedRows {
  /** `token · kept + j` of each row, u32 `[rows]`; of a row that fills a tile up a number beyond all. */
  readonly source: Tensor;
  /** Expert of each tile of rows, u32 `[rows / tile]`; N or more of a tile that no expert computes. */
  readonly of_tile: Tensor;
  /** Rows of a tile. */
  readonly tile: number;
}

/** A recorded forward pass of a feed-forward layer. */
export interface FeedForwardPass extends Pass {
  /** A further term of what training minimises, with its coefficient, f32 `[1]`; in training mode only. */
  readonly auxiliary?: Tensor;
  /** Of a layer with experts. */
  readonly use?: ExpertUse;
}

/** How to count the operations of a feed-forward layer. */
export interface FeedForwardFlopOptions {
  /** How generated experts come about; `per_expert` unless given. */
  readonly generation?: GenerationOrder;
  /** Tokens of a step, among which `materialized` generation is shared; required for it and for `as_run`. */
  readonly tokensPerStep?: number;
  /** Whether the layer is trained on a software adapter, for `as_run`; false unless given. */
  readonly software?: boolean;
}

/** How the experts' hidden vectors come about. */
export type GenerationOrder =
  | "per_expert" // generated for each kept expert of each token
  | "materialized" // every expert generated once a step, whatever the tokens
  | "naive" // per kept expert, and u and v formed
  | "as_run"; // as the layer runs with the tokens of a step

/** Experts that a token keeps. */
export interface KeptExperts {
  /** Their numbers, u32 `[T, kept]`, or several numbers each, as the router gives them. */
  readonly index: Tensor;
  /** Their scores, f32 `[T, kept]`. */
  readonly score: Tensor;
}

/** How a layer with experts is measured: in each of its executions, and its router and its experts apart. */
export interface ExpertBench {
  /** Values of the section's key `execution`, the naive one first. All give the same numbers. */
  readonly executions: readonly string[];
  /** Experts that a token keeps. */
  readonly kept: number;
  /** Keys of the section that a scaling varies, with their values. */
  scaling(options: { readonly software: boolean }): Readonly<Record<string, readonly number[]>>;
  /** Records the router alone. `backward` adds to `dx`, f32 `[T, D]`, from the gradient of the scores, f32 `[T, kept]`. */
  route(context: LayerContext, at: string, x: Tensor): KeptExperts & {
    backward(options: { readonly dscore: Tensor; readonly dx: Tensor }): void;
  };
  /** Records the layer behind its router. */
  experts(context: LayerContext, at: string, input: LayerInput & KeptExperts): Pass;
}

/** A feed-forward layer of given sizes. */
export interface FeedForward extends Parameterised {
  /** Running statistics. */
  statistics(at: string): readonly StatisticSpec[];
  /** Records the forward pass; decoding uses the same one, in evaluation mode. */
  forward(context: LayerContext, at: string, input: LayerInput): FeedForwardPass;
  /** Parameters of the layer that one token uses, and those that it would have with every expert stored. */
  readonly counts: { readonly active: number; readonly theoretical: number };
  /** Operations of a token. @throws {RangeError} If the generation needs `tokensPerStep` and it is missing. */
  flops(options: FeedForwardFlopOptions): Flops;
  /** The reasons why the layer cannot train on so many tokens at once; empty when it can. */
  problems(tokens: number): readonly string[];
  /** Of a layer with experts. */
  readonly bench?: ExpertBench;
  /** Section of the dense layer that is as wide as the experts of a token together, where experts are such layers themselves. */
  readonly dense?: Readonly<Record<string, unknown>>;
  /** How experts are copies of a dense layer, or why they can't be; undefined of a layer without experts. */
  readonly upcycled?: DenseCopies | string;
}

/** Experts that can be copies of a dense layer. */
export interface DenseCopies {
  /** Experts, and so copies. */
  readonly experts: number;
  /** Activation of the dense layer, as its section says it. */
  readonly activation: "swiglu" | "gelu" | "gelu_exact";
  /** Width of the dense layer. */
  readonly d_ffn: number;
  /** Names of the stacks `[E, …]`, each with the name of the dense tensor that an expert's part is a copy of. */
  readonly copies: Readonly<Record<string, string>>;
}
