/**
 * A whole model beside its dense equivalent: forward passes of one sequence, decoding with the cache, reading a prompt, and training.
 *
 * @module
 */

import { batchTensors } from "../../inference/evaluator.ts";
import { Generator } from "../../inference/generator.ts";
import { InferenceModel } from "../../inference/model.ts";
import { Arena } from "../../gpu/memory.ts";
import { Plan } from "../../gpu/plan.ts";
import { upload } from "../../gpu/transfer.ts";
import { LayerContext } from "../../layer/context.ts";
import type { Architecture } from "../../trunk/architecture.ts";
import { recordEvaluation } from "../../trunk/network.ts";
import { timeSteps } from "../measure/step_profile.ts";
import type { BenchCase, CaseParams, Measured, SuiteContext } from "./suite.ts";
import { zipfBatches } from "../measure/synthetic_tokens.ts";
import { timePlan, timingOf } from "../measure/timing.ts";

/** The model of the configuration, or the dense one beside it. */
export type Side = "base" | "dense";

/** Tokens of the sequences of forward passes. The first is the published measurement, a prompt of four tokens. */
const LENGTHS = [4, 128, 256];
/** Tokens before a decoded one. */
const PROMPT = 64;
/** Tokens that one sample decodes: each is waited for, as the next depends on it. */
const DECODED = { software: 2, gpu: 16 };

/** The lengths of forward passes that a model takes, its longest among them where it takes none but the first. */
export function forwardLengths({ longest }: Pick<Architecture, "longest">): number[] {
  const fitting = LENGTHS.filter((length) => length <= longest);
  return fitting.length > 1 || longest === LENGTHS[0] ? fitting : [...fitting, longest];
}

/** Forward passes, decoding, prefill and training of the model, and of its dense equivalent where there is one. */
export function modelSuite(context: SuiteContext): BenchCase[] {
  const { architecture, dense, train } = context;
  const sides: [Side, Architecture][] = [["base", architecture]];
  if (dense) sides.push(["dense", dense]);
  const { precision, micro_batch, sequence_length } = train;
  const decoded = DECODED[context.gpu.capabilities.software ? "software" : "gpu"];
  return sides.flatMap(([model, architecture]) => {
    const { longest } = architecture;
    const of = (pass: string, size: string, params: CaseParams, measure: BenchCase["measure"]) => ({
      id: `model.${model}.${pass}.${size}`,
      suite: "model" as const,
      params: { model, pass, precision, ...params },
      measure,
    });
    const forward = forwardLengths(architecture).map((tokens) =>
      of(
        "forward",
        `${tokens}x1`,
        { tokens, batch: 1 },
        () => measureForward(context, architecture, tokens),
      )
    );
    const prompt = Math.min(PROMPT, longest - decoded);
    const read = Math.min(LENGTHS.at(-1)!, longest);
    return [
      ...forward,
      ...prompt < 1 ? [] : [
        of(
          "decode",
          `${prompt}`,
          { prompt, tokens: 1 },
          () => measureDecoding(context, architecture, { prompt, decoded }),
        ),
      ],
      of("prefill", `${read}`, { tokens: read }, () => measurePrefill(context, architecture, read)),
      of("training", `${sequence_length}x${micro_batch}`, {
        tokens: sequence_length,
        batch: micro_batch,
        accumulation: train.gradient_accumulation,
      }, () => measureTraining(context, architecture)),
    ];
  });
}

/** Bytes of a model's weights on the device. */
const weightBytes = ({ weights }: InferenceModel) =>
  weights.memory.reduce((sum, { bytes }) => sum + bytes, 0);

/** A forward pass over one sequence with its loss; the memory is the weights' and the pass's. */
async function measureForward(
  { gpu, train, timing, seed }: SuiteContext,
  architecture: Architecture,
  tokens: number,
): Promise<Measured> {
  const { precision } = train;
  using model = await InferenceModel.untrained(gpu, architecture, { seed, precision });
  const tensors = batchTensors(tokens);
  const arenas = Object.values(tensors).map((tensor) => new Arena(gpu, tensor.name, [tensor]));
  try {
    const { vocab_size: vocabulary } = architecture.config;
    const [batch] = zipfBatches({ vocabulary, tokens, count: 1, seed });
    upload(gpu, tensors.tokens, batch!.tokens);
    upload(gpu, tensors.targets, batch!.targets);
    const plan = new Plan(gpu, "forward");
    const context = new LayerContext(plan, model.weights, {
      batch: 1,
      length: tokens,
      mode: "evaluate",
    });
    recordEvaluation(context, architecture, tensors);
    const { bytes, ...measured } = await timePlan(gpu, plan, timing);
    return {
      timing: measured,
      tokens,
      flops: plan.steps.reduce(
        (n, step) => n + (step.kind === "dispatch" ? step.call.flops : 0),
        0,
      ),
      peak_bytes: weightBytes(model) + bytes + arenas.reduce((n, arena) => n + arena.bytes, 0),
    };
  } finally {
    for (const arena of arenas) arena.destroy();
  }
}

/** Tokens after a prompt, one after another; each sample starts after the same prompt. */
async function measureDecoding(
  context: SuiteContext,
  architecture: Architecture,
  { prompt, decoded }: { readonly prompt: number; readonly decoded: number },
): Promise<Measured> {
  return await generating(context, architecture, {
    prompt,
    capacity: prompt + decoded,
    async sample(generator, tokens) {
      let logits = await generator.feed(tokens);
      const start = performance.now();
      for (let n = 0; n < decoded; n++) logits = await generator.feed([greatest(logits)]);
      return (performance.now() - start) / 1000 / decoded;
    },
    tokens: 1,
  });
}

/** Reading a prompt into an empty cache. */
async function measurePrefill(
  context: SuiteContext,
  architecture: Architecture,
  prompt: number,
): Promise<Measured> {
  return await generating(context, architecture, {
    prompt,
    capacity: prompt,
    async sample(generator, tokens) {
      const start = performance.now();
      await generator.feed(tokens);
      return (performance.now() - start) / 1000;
    },
    tokens: prompt,
  });
}

async function generating(
  { gpu, train, timing, seed }: SuiteContext,
  architecture: Architecture,
  { prompt, capacity, sample, tokens }: {
    readonly prompt: number;
    readonly capacity: number;
    readonly tokens: number;
    /** Seconds of one run, from an empty cache. */
    sample(generator: Generator, tokens: Uint32Array): Promise<number>;
  },
): Promise<Measured> {
  const { warmup, repeats, signal } = timing;
  const { precision } = train;
  using model = await InferenceModel.untrained(gpu, architecture, { seed, precision });
  using generator = await Generator.create(model, { capacity });
  const { vocab_size: vocabulary } = architecture.config;
  const [batch] = zipfBatches({ vocabulary, tokens: prompt, count: 1, seed });
  const seconds: number[] = [];
  for (let i = 0; i < warmup + repeats; i++) {
    signal?.throwIfAborted();
    generator.reset();
    const taken = await sample(generator, batch!.tokens);
    if (i >= warmup) seconds.push(taken);
  }
  return { timing: timingOf(seconds), tokens, peak_bytes: generator.bytes };
}

async function measureTraining(
  { gpu, train, steps, seed, timing }: SuiteContext,
  architecture: Architecture,
): Promise<Measured> {
  const { step, tokens, memory } = await timeSteps(gpu, {
    architecture,
    train,
    seed,
    warmup: Math.max(1, timing.warmup),
    steps,
    signal: timing.signal,
  });
  return { timing: step, tokens, peak_bytes: memory.total };
}

function greatest(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
