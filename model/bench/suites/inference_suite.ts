/**
 * Inference: how fast a prompt is read, and how fast a text goes on after it.
 *
 * @module
 */

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

/** Prefill by length of the prompt and of its chunks, and decoding after prompts of these lengths by both ways, in both precisions. */
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
    ])
  );
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
  /** Tokens of one sample of decoding. */
  const decoded = gpu.capabilities.software ? 4 : MOST_STEPS;
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
