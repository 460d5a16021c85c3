/**
 * Log-likelihoods of continuations, with the tokens that the harness makes of them.
 *
 * @module
 */

import type { SequenceToScore, TakePrediction } from "../../../model/inference/scorer.ts";
import type { Tokenizer } from "../../../model/text/tokenizer.ts";
import { UserError } from "../../../pipeline/errors.ts";
import type { Example } from "./examples.ts";
import type { ContinuationScore } from "./metrics.ts";

/** A continuation as tokens behind its context. */
export interface TokenizedContinuation {
  /** Context and continuation without the last token, cut at the left. */
  readonly tokens: readonly number[];
  /** The continuation. */
  readonly targets: readonly number[];
  /** Tokens of the context that did not fit. */
  readonly cut: number;
}

/** A model that scores sequences; `Scorer` is one. */
export interface ScoringModel {
  /** Gives the prediction after each token from `from` on, by sequence and position. */
  score(sequences: readonly SequenceToScore[], take: TakePrediction): Promise<void>;
}

/** Options of {@linkcode tokenizeExample}. */
export interface TokenizeOptions {
  readonly tokenizer: Tokenizer;
  /** Tokens that the model sees at most. */
  readonly context: number;
  /** Whether the tokens that a text begins with stand before a context. */
  readonly begin: boolean;
  /** Where the example is from, for messages. */
  readonly place: string;
}

/**
 * Tokens of an example's continuations.
 *
 * White space at a context's end belongs to the continuation. Context and continuation are tokenised together and parted where the context
 * alone would end. An empty context is the token that texts begin with, or that documents end in.
 *
 * @throws {UserError} If a continuation has no token, or more than the context holds.
 */
export function tokenizeExample(
  { context, continuations }: Example,
  { tokenizer, context: most, begin, place }: TokenizeOptions,
): TokenizedContinuation[] {
  const first = tokenizer.begin?.at(0) ?? tokenizer.endoftext;
  return continuations.map((continuation) => {
    const head = context.trimEnd();
    const tail = context.slice(head.length) + continuation;
    const before = begin ? tokenizer.begin ?? [tokenizer.endoftext] : [];
    let given: number[];
    let targets: number[];
    if (head === "") {
      given = [first];
      targets = [...tokenizer.encode(tail)];
    } else {
      const ids = [...before, ...tokenizer.encode(head)];
      targets = [...before, ...tokenizer.encode(head + tail)].slice(ids.length);
      given = ids;
    }
    if (targets.length === 0) {
      throw new UserError(
        `${place}: the continuation ${JSON.stringify(continuation)} has no token of its own.`,
      );
    }
    if (targets.length > most) {
      throw new UserError(
        `${place}: a continuation has ${targets.length} tokens; expected at most ${most}, the tokens of a context.`,
      );
    }
    const whole = [...given, ...targets];
    const cut = Math.max(0, whole.length - (most + 1));
    return { tokens: whole.slice(cut, -1), targets, cut };
  });
}

/** Scores continuations. */
export async function scoreContinuations(
  model: ScoringModel,
  continuations: readonly TokenizedContinuation[],
  onProgress: (tokens: number) => void = () => {},
): Promise<ContinuationScore[]> {
  const scores = continuations.map(() => ({ log_likelihood: 0, greedy: true }));
  const sequences = continuations.map(({ tokens, targets }) => ({
    tokens,
    from: tokens.length - targets.length,
    next: targets.at(-1)!,
  }));
  let done = 0;
  await model.score(sequences, (i, position, { log_probability, likeliest }) => {
    const target = continuations[i]!.targets[position - sequences[i]!.from]!;
    const score = scores[i]!;
    score.log_likelihood += log_probability!;
    score.greedy &&= likeliest[0]!.token === target;
    onProgress(++done);
  });
  return scores;
}
