/**
 * `generate`: text from a trained checkpoint.
 *
 * @module
 */

import type { Gpu } from "../../../model/gpu/device.ts";
import { generateText, type GenerationSummary } from "../../../model/inference/generate_text.ts";
import { CapacityError, Generator } from "../../../model/inference/generator.ts";
import { InferenceModel } from "../../../model/inference/model.ts";
import { type SamplingOptions, samplingSchema } from "../../../model/inference/sampling.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { type CheckpointKind, openCheckpoint } from "./checkpoints.ts";
import { gpuProvenance } from "../../shared_gpu.ts";

/** Options of {@linkcode generate}. */
export interface GenerateOptions {
  /** See `findCheckpoint`. */
  readonly checkpoint: string;
  readonly which?: CheckpointKind;
  readonly storeDir: string;
  readonly prompt: string;
  readonly max_tokens: number;
  /** Tokens that prompt and text may have together. */
  readonly context: number;
  /** How tokens are chosen, as typed: checked here. */
  readonly sampling: Readonly<Record<keyof SamplingOptions, unknown>>;
  readonly seed: number;
  readonly precision: "f32" | "mixed";
  /** Opens the device, once the rest is known to be right. */
  gpu(): Promise<Gpu>;
  /** Takes the text as it comes. */
  write(text: string): void;
}

/** A continued prompt. */
export interface Generated extends GenerationSummary {
  readonly checkpoint: string;
  readonly prompt: string;
  /** The text after the prompt. */
  readonly text: string;
  readonly seed: number;
  readonly prefill_tokens_per_second: number;
  /** Not there when one pass was enough. */
  readonly decode_tokens_per_second?: number;
  /** The device that computed it. */
  readonly gpu: ReturnType<typeof gpuProvenance>;
}

/**
 * Continues a prompt; `write` gets the text piece by piece.
 *
 * @throws {UserError} If the checkpoint, an option or the prompt's length is wrong; nothing has been written then.
 */
export async function generate(options: GenerateOptions): Promise<Generated> {
  const { prompt, seed, max_tokens } = options;
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
  const checkpoint = await openCheckpoint(options.checkpoint, options);
  const { tokenizer } = checkpoint;
  const needed = tokenizer.encode(prompt).length + 1;
  if (needed > options.context) {
    throw new UserError(
      `The prompt has ${needed} tokens, but the context holds ${options.context}; raise --context or shorten it.`,
    );
  }
  const gpu = await options.gpu();
  using model = await InferenceModel.open(gpu, checkpoint.model, { precision: options.precision });
  using generator = await createGenerator(model, Math.min(options.context, needed + max_tokens));
  const run = generateText(generator, tokenizer, {
    prompt,
    max_tokens,
    seed,
    sampling: sampling.data,
  });
  let text = "";
  for (;;) {
    const next = await run.next();
    if (next.done) {
      const summary = next.value;
      return {
        checkpoint: checkpoint.name,
        prompt,
        text,
        seed,
        ...summary,
        prefill_tokens_per_second: summary.prompt_tokens / summary.prefill_seconds,
        ...(summary.decode_passes > 0
          ? { decode_tokens_per_second: summary.decode_passes / summary.decode_seconds }
          : {}),
        gpu: gpuProvenance(gpu),
      };
    }
    text += next.value;
    options.write(next.value);
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
