/**
 * Inference: how fast a prompt is read, and how fast a text goes on after it.
 *
 * @module
 */

import { BatchGenerator } from "../../inference/batch/batch_generator.ts";
import type { Gpu } from "../../gpu/device.ts";
import { Generator } from "../../inference/generator.ts";
import { MOST_STEPS } from "../../inference/device_sampling.ts";
import { InferenceModel } from "../../inference/model.ts";
import { Sampling } from "../../inference/sampling.ts";
import type { BenchCase, Measured, SuiteContext } from "./suite.ts";
import { zipfBatches } from "../measure/synthetic_tokens.ts";
import { timingOf } from "../measure/timing.ts";

/** Tokens of a prompt that are computed at once. */
const CHUNKS = [64, 512];

/** Choices of the next token: by the host from logits that it reads, or by the device, several in a submission. */
const CHOICES = ["host", "device"] as const;

/** Sequences that are decoded at once. */
const BATCH = 16;

/** Prefill by length of the prompt and of its chunks, and decoding after prompts of these lengths by both ways and of a batch, in both precisions. */
export function inferenceSuite(context: SuiteContext): BenchCase[] {
  const lengths = context.gpu.capabilities.software ? [24] : [512, 4096];
  return (["f32", "mixed"] as const).flatMap((precision) =>
    lengths.flatMap((prompt) => [
      ...CHUNKS.filter((chunk) => chunk <= prompt || chunk === CHUNKS[0]).map((
        chunk,
      ): BenchCase => ({
        id: `inference.prefill.${prompt}.${chunk}.${precision}`,
        suite: "inference",
        params: { pass: "prefill", prompt, chunk, precision },
        measure: () => measure(context, { precision, prompt, chunk }),
      })),
      ...CHOICES.map((choice): BenchCase => ({
        // The host's way has the name and the parameters that it had when it was the only one.
        id: `inference.decode.${prompt}.${choice === "host" ? "" : "device."}${precision}`,
        suite: "inference",
        params: { pass: "decode", prompt, ...(choice === "host" ? {} : { choice }), precision },
        measure: () => measure(context, { precision, prompt, chunk: CHUNKS[0]!, choice }),
      })),
      {
        id: `inference.decode.${prompt}.batch${BATCH}.${precision}`,
        suite: "inference",
        params: { pass: "decode", prompt, choice: "device", batch: BATCH, precision },
        measure: () => measureBatch(context, { precision, prompt }),
      },
    ])
  );
}

/** Tokens of one sample of decoding, of each sequence. */
function stepsOf({ capabilities }: Gpu): number {
  return capabilities.software ? 4 : MOST_STEPS;
}

async function measure(
  { gpu, architecture, timing, seed }: SuiteContext,
  options: {
    precision: "f32" | "mixed";
    prompt: number;
    chunk: number;
    /** Decode, rather than read the prompt. */
    choice?: (typeof CHOICES)[number];
  },
): Promise<Measured> {
  const { precision, prompt, chunk, choice } = options;
  const { warmup, repeats, signal } = timing;
  const decoded = stepsOf(gpu);
  using model = await InferenceModel.untrained(gpu, architecture, { seed, precision });
  const capacity = prompt + (choice ? decoded * (warmup + repeats) : 0);
  using generator = await Generator.create(model, { capacity, chunk });
  const { vocab_size: vocabulary } = architecture.config;
  const [batch] = zipfBatches({ vocabulary, tokens: prompt, count: 1, seed });
  const seconds: number[] = [];
  const sampling = new Sampling({ temperature: 0 }, seed);
  let token = choice ? sampling.choose(await generator.feed(batch!.tokens)) : 0;
  for (let i = 0; i < warmup + repeats; i++) {
    signal?.throwIfAborted();
    const start = performance.now();
    if (choice === "device") {
      token = (await generator.choose(token, sampling, decoded)).at(-1)!.token;
    } else if (choice === "host") {
      // Each is waited for, as the next depends on it.
      for (let n = 0; n < decoded; n++) token = sampling.choose(await generator.feed([token]));
    } else {
      generator.reset();
      await generator.feed(batch!.tokens);
    }
    const passes = choice ? decoded : 1;
    if (i >= warmup) seconds.push((performance.now() - start) / 1000 / passes);
  }
  return {
    timing: timingOf(seconds),
    tokens: choice ? 1 : prompt,
    peak_bytes: generator.bytes,
  };
}

/** Decoding of many sequences, which continue one prompt: a step gives each a token. */
async function measureBatch(
  { gpu, architecture, timing, seed }: SuiteContext,
  { precision, prompt }: { precision: "f32" | "mixed"; prompt: number },
): Promise<Measured> {
  const { warmup, repeats, signal } = timing;
  const decoded = stepsOf(gpu);
  using model = await InferenceModel.untrained(gpu, architecture, { seed, precision });
  const capacity = prompt + decoded * (warmup + repeats);
  using generator = await Generator.create(model, { capacity, chunk: CHUNKS[0]! });
  using batch = await BatchGenerator.create(generator, { sequences: BATCH });
  const { vocab_size: vocabulary } = architecture.config;
  const [text] = zipfBatches({ vocabulary, tokens: prompt, count: 1, seed });
  const logits = await batch.read(text!.tokens, Array.from({ length: BATCH }, (_, i) => i));
  let next = Array.from({ length: BATCH }, (_, i) => {
    const sampling = new Sampling({}, seed + i);
    return { token: sampling.choose(logits), sampling };
  });
  const seconds: number[] = [];
  for (let i = 0; i < warmup + repeats; i++) {
    signal?.throwIfAborted();
    const start = performance.now();
    const chosen = await batch.choose(next, decoded);
    next = next.map(({ sampling }, s) => ({ token: chosen[s]!.at(-1)!.token, sampling }));
    if (i >= warmup) seconds.push((performance.now() - start) / 1000 / decoded);
  }
  return { timing: timingOf(seconds), tokens: BATCH, peak_bytes: batch.bytes };
}
