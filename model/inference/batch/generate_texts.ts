/**
 * Several texts from a model at once: prompts in, pieces of the texts out as they come.
 *
 * @module
 */

import { MOST_STEPS } from "../device_sampling.ts";
import {
  finiteToken,
  FIRST_TOKENS,
  type GenerateTextOptions,
  type GenerationSummary,
  GrowingText,
  lastHalf,
  tokensWithin,
} from "../generate_text.ts";
import type { Tokenizer } from "../../text/tokenizer.ts";
import type { BatchGenerator } from "./batch_generator.ts";

/** Options of {@linkcode generateTexts}. */
export interface GenerateTextsOptions
  extends Pick<GenerateTextOptions, "max_tokens" | "sampling" | "slide" | "signal"> {
  /** The texts: what each continues, and the seed of its draws. */
  readonly texts: readonly Pick<GenerateTextOptions, "prompt" | "seed">[];
}

/** A piece of a text. */
export interface TextPiece {
  /** Number of the text. */
  readonly text: number;
  readonly piece: string;
}

/**
 * Continues prompts, all at once, each as `generateText` does it alone. A prompt that several texts have is read once.
 *
 * @returns Counts and times of each text, when the iterator is done: all prompts are read before the first token, and a text's decoding lasts until it ends.
 * @throws {CapacityError} If a prompt does not fit the context.
 * @throws {RangeError} If there are more texts than sequences.
 */
export async function* generateTexts(
  batch: BatchGenerator,
  tokenizer: Tokenizer,
  options: GenerateTextsOptions,
): AsyncGenerator<TextPiece, GenerationSummary[]> {
  const { max_tokens, sampling, signal, slide = false } = options;
  if (options.texts.length > batch.sequences) {
    throw new RangeError(`${options.texts.length} texts for ${batch.sequences} sequences`);
  }
  const texts = options.texts.map((text) =>
    new GrowingText(tokenizer, { ...text, max_tokens, ...sampling && { sampling } }, batch)
  );
  const going = () => [...texts.entries()].filter(([, { finish }]) => finish === undefined);
  if (max_tokens > 1) await batch.prepareToChoose();
  const start = performance.now();
  /** Logits of the next token, of texts that were read: the host chooses it. */
  const logits = await readPrompts(batch, texts, options.texts);
  const prefill_seconds = (performance.now() - start) / 1000;
  const decodeMilliseconds = texts.map(() => 0);
  let wanted = FIRST_TOKENS;
  while (going().length > 0) {
    signal?.throwIfAborted();
    for (const [i, text] of going()) {
      const row = logits.get(i);
      if (row) yield* pieceOf(i, text.take(text.sampling.choose(row)));
    }
    logits.clear();
    // Whoever reads the pieces takes its own time.
    const before = performance.now();
    for (const [i, text] of going()) {
      if (batch.position(i) < batch.capacity) continue;
      if (slide) logits.set(i, await batch.read(lastHalf(text, batch), [i]));
      else text.finish = "context";
    }
    const rows = going();
    if (rows.length === 0) break;
    const chosen = logits.size > 0 ? [] : await batch.choose(
      Array.from({ length: batch.sequences }, (_, i) => {
        const text = texts[i];
        if (text?.finish !== undefined) return undefined;
        return text && { token: text.seen.at(-1)!, sampling: text.sampling };
      }),
      Math.min(
        wanted,
        ...rows.flatMap(([i, { left }]) => [left, batch.capacity - batch.position(i)]),
      ),
    );
    const took = performance.now() - before;
    for (const [i] of rows) decodeMilliseconds[i]! += took;
    const [[first]] = rows as [[number, GrowingText]];
    const count = chosen[first]?.length ?? 0;
    if (count > 0) wanted = tokensWithin(took / count, MOST_STEPS);
    for (const [i, text] of rows) {
      for (const choice of chosen[i] ?? []) {
        if (text.finish === undefined) yield* pieceOf(i, text.take(finiteToken(choice)));
      }
    }
  }
  for (const [i, text] of texts.entries()) yield* pieceOf(i, text.rest());
  return texts.map((text, i) =>
    text.summary({ prefill_seconds, decode_seconds: decodeMilliseconds[i]! / 1000 })
  );
}

/** Reads each prompt into the sequences of the texts that continue it. */
async function readPrompts(
  batch: BatchGenerator,
  texts: readonly GrowingText[],
  options: GenerateTextsOptions["texts"],
): Promise<Map<number, Float32Array>> {
  const logits = new Map<number, Float32Array>();
  const prompts = Map.groupBy(texts.keys(), (i) => options[i]!.prompt);
  for (const numbers of prompts.values()) {
    const row = await batch.read(Uint32Array.from(texts[numbers[0]!]!.seen), numbers);
    for (const i of numbers) logits.set(i, row);
  }
  return logits;
}

function* pieceOf(text: number, piece: string): Generator<TextPiece> {
  if (piece !== "") yield { text, piece };
}
