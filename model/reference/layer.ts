/**
 * The contract between the reference's network and its kinds of layers. A kind is a function of its section of the configuration, its
 * weights and its input. The pass that it returns keeps all that its gradients need.
 *
 * @module
 */

import type { DropoutMasks } from "./dropout.ts";
import type { Matrix, Weights } from "./matrix.ts";

/** A forward pass. */
export interface Pass {
  /** Output, tokens × d_model, without the residual stream. */
  readonly y: Matrix;
  /** Gradients of the input and of every weight, from that of `y`. */
  backward(gradient: Matrix): { readonly x: Matrix; readonly weights: Weights<string> };
}

/** Inputs of an attention layer. */
export interface AttentionInput {
  /** Tokens × d_model, normalised by the caller. */
  readonly x: Matrix;
  /** Tokens of a sequence; sequences follow one another. */
  readonly length: number;
  /** Dropout's masks of the layer; nothing is dropped unless given. */
  readonly masks?: DropoutMasks | undefined;
}

/** A kind of attention. Weights are named as after `layers.N.attn.`. */
export type AttentionKind<Section> = (
  section: Section,
  weights: Weights<string>,
  input: AttentionInput,
) => Pass;

/** Inputs of a feed-forward layer. */
export interface FeedForwardInput {
  /** Tokens × d_model, normalised by the caller. */
  readonly x: Matrix;
  /** Batch statistics (and new running ones) rather than the running statistics. */
  readonly training: boolean;
  /** The choice given: experts to keep instead of choosing, as {@linkcode Choice.used} has them. */
  readonly selection?: Int32Array;
  /** Dropout's masks of the layer; nothing is dropped unless given. */
  readonly masks?: DropoutMasks | undefined;
}

/** The experts that the tokens of a pass kept. */
export interface Choice {
  /** Tokens × kept, best first per head; the number of experts, which is none, in the place of those that a token leaves out. */
  readonly used: Int32Array;
  /** Scores of the kept experts before their softmax, tokens × kept; any number for those that a token leaves out. */
  readonly total: Float64Array;
  /** How far a given choice lies behind the layer's own: the most that a score, or a probability that decides how many are kept, falls short; 0 unless one is given. */
  readonly lag: number;
}

/** A forward pass of a feed-forward layer. */
export interface FeedForwardPass extends Pass {
  /** A further term of what is minimised, with its coefficient, in which `backward()` is included. */
  readonly auxiliary?: number;
  /** Of a layer with experts. */
  readonly routing?: Choice;
  /** Running statistics after the pass, by name. */
  readonly statistics?: Weights<string>;
}

/** A kind of feed-forward layer. Weights and running statistics are named as after `layers.N.ffn.`. */
export type FeedForwardKind<Section> = (
  section: Section,
  weights: Weights<string>,
  input: FeedForwardInput,
) => FeedForwardPass;

/** Checks that `weights` has these names. @throws {Error} Naming one that is missing. */
export function need<Name extends string>(
  weights: Weights<string>,
  names: readonly Name[],
): Weights<Name> {
  for (const name of names) {
    if (weights[name] === undefined) throw new Error(`The layer needs ${name}`);
  }
  return weights as Weights<Name>;
}

/** The weights whose names start with `prefix`, without it. */
export function under(
  weights: Iterable<readonly [string, Float64Array]>,
  prefix: string,
): Weights<string> {
  return Object.fromEntries(
    Array.from(weights).filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => [name.slice(prefix.length), value]),
  );
}
