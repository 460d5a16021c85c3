/**
 * `generate`: text from a trained checkpoint.
 *
 * @module
 */

import type { Gpu } from "../../../model/gpu/device.ts";
import { BatchGenerator } from "../../../model/inference/batch/batch_generator.ts";
import { generateTexts, type TextPiece } from "../../../model/inference/batch/generate_texts.ts";
import {
  firstTokens,
  generateText,
  type GenerationSummary,
} from "../../../model/inference/generate_text.ts";
import { CapacityError, Generator } from "../../../model/inference/generator.ts";
import type { InferenceModel } from "../../../model/inference/model.ts";
import { type SamplingOptions, samplingSchema } from "../../../model/inference/sampling.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { type ModelChoice, openModel } from "./models.ts";
import { gpuProvenance } from "../../shared_gpu.ts";

/** Texts that are decoded at once, unless told otherwise. */
const STORIES_AT_ONCE = 16;

/** Options of {@linkcode generate}. */
export interface GenerateOptions extends ModelChoice {
  readonly prompt: string;
  readonly max_tokens: number;
  /** Tokens that prompt and text may have together. */
  readonly context: number;
  /** Read the last half of a full context anew and go on; the text ends there otherwise. */
  readonly slide: boolean;
  /** Texts to make of the prompt; the draws of text i have the seed `seed + i`. */
  readonly num_stories: number;
  /** Texts that are decoded at once, each with a cache of its own; {@linkcode STORIES_AT_ONCE} unless given, fewer where their caches do not fit a binding. */
  readonly stories_at_once?: number;
  /** How tokens are chosen, as typed: checked here. */
  readonly sampling: Readonly<Record<keyof SamplingOptions, unknown>>;
  readonly seed: number;
  readonly precision: "f32" | "mixed";
  /** Opens the device, once the rest is known to be right. */
  gpu(): Promise<Gpu>;
  /** Takes the text of a story as it comes, one story after the other: what is decoded beside the first waits for it. */
  write(text: string, story: number): void;
}

/** A continued prompt. */
interface Story extends GenerationSummary {
  /** The text after the prompt. */
  readonly text: string;
  readonly seed: number;
  readonly prefill_tokens_per_second: number;
  /** Not there when one pass was enough. */
  readonly decode_tokens_per_second?: number;
}

/** A prompt, continued `num_stories` times. */
export interface Generated {
  /** Name of the model: of a checkpoint, or of a published one. */
  readonly checkpoint: string;
  /** The commit, of a model of the hub. */
  readonly revision?: string;
  readonly prompt: string;
  readonly stories: readonly Story[];
  /** The device that computed it. */
  readonly gpu: ReturnType<typeof gpuProvenance>;
}

/**
 * Continues a prompt; `write` gets each text piece by piece.
 *
 * @throws {UserError} If the checkpoint, an option or the prompt's length is wrong; nothing has been written then.
 */
export async function generate(options: GenerateOptions): Promise<Generated> {
  const { prompt, max_tokens, num_stories } = options;
  const sampling = samplingSchema.safeParse(options.sampling);
  if (!sampling.success) {
    const [issue] = sampling.error.issues;
    const key = String(issue!.path[0]);
    throw new UserError(
      `--${key.replaceAll("_", "-")} is ${options.sampling[key as keyof SamplingOptions]}: ${
        issue!.message
      }.`,
    );
  }
  using chosen = await openModel(options);
  const { tokenizer, longest } = chosen;
  const asked = tokenizer.encode(prompt).length;
  const needed = firstTokens(tokenizer, asked).length + asked;
  const context = Math.min(options.context, longest);
  if (needed > context) {
    const remedy = context === longest
      ? "which is as many positions as the model has; shorten it"
      : "raise --context or shorten it";
    throw new UserError(
      `The prompt has ${needed} tokens, but the context holds ${context}; ${remedy}.`,
    );
  }
  const gpu = await options.gpu();
  using loaded = await chosen.load(gpu, options.precision);
  using generator = await createGenerator(loaded.model, Math.min(context, needed + max_tokens));
  const { stories_at_once = STORIES_AT_ONCE, slide } = options;
  const sequences = Math.min(num_stories, stories_at_once, BatchGenerator.most(generator));
  // One text needs no second cache.
  using batch = sequences > 1 ? await BatchGenerator.create(generator, { sequences }) : undefined;
  const stories: Story[] = [];
  while (stories.length < num_stories) {
    const first = stories.length;
    const texts = Array.from(
      { length: Math.min(sequences, num_stories - first) },
      (_, i) => ({ prompt, seed: options.seed + first + i }),
    );
    const common = { max_tokens, slide, sampling: sampling.data };
    const run = batch
      ? generateTexts(batch, tokenizer, { ...common, texts })
      : alone(generateText(generator, tokenizer, { ...common, ...texts[0]! }));
    const collected = await collectStories(run, {
      count: texts.length,
      write: (text, i) => options.write(text, first + i),
    });
    stories.push(...collected.map((story, i) => ({ ...story, seed: texts[i]!.seed })));
  }
  const { name, revision } = chosen;
  return {
    checkpoint: name,
    ...(revision === undefined ? {} : { revision }),
    prompt,
    stories,
    gpu: gpuProvenance(gpu),
  };
}

/** A text as one of several. */
async function* alone(run: ReturnType<typeof generateText>): ReturnType<typeof generateTexts> {
  for (;;) {
    const next = await run.next();
    if (next.done) return [next.value];
    yield { text: 0, piece: next.value } satisfies TextPiece;
  }
}

/** Passes the pieces of texts on, one text after the other, and returns the texts with their speeds. */
async function collectStories(
  run: ReturnType<typeof generateTexts>,
  { count, write }: { readonly count: number; write(text: string, story: number): void },
): Promise<Omit<Story, "seed">[]> {
  const texts = Array<string>(count).fill("");
  for (;;) {
    const next = await run.next();
    if (next.done) {
      texts.slice(1).forEach((text, i) => write(text, i + 1));
      return next.value.map((summary, i) => ({
        text: texts[i]!,
        ...summary,
        prefill_tokens_per_second: summary.prompt_tokens / summary.prefill_seconds,
        ...(summary.decode_passes > 0
          ? { decode_tokens_per_second: summary.decode_passes / summary.decode_seconds }
          : {}),
      }));
    }
    const { text, piece } = next.value;
    texts[text] += piece;
    if (text === 0) write(piece, 0);
  }
}

async function createGenerator(model: InferenceModel, capacity: number): Promise<Generator> {
  try {
    return await Generator.create(model, { capacity });
  } catch (error) {
    // A cache that no binding can hold.
    if (!(error instanceof RangeError) || error instanceof CapacityError) throw error;
    throw new UserError(
      `A context of ${capacity} tokens does not fit the device: ${error.message}.`,
    );
  }
}
