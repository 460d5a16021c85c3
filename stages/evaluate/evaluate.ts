/**
 * Measures a trained model on text that it has not seen: the `evaluate` stage.
 *
 * @module
 */

import { z } from "zod";
import { MODEL_FILE } from "../../model/checkpoint/checkpoint.ts";
import { Evaluator } from "../../model/inference/evaluator.ts";
import { openInferenceModel } from "../../model/inference/open.ts";
import { kindModules } from "../../model/load.ts";
import { defineStage, type StageContext } from "../../pipeline/stage.ts";
import { openDataset } from "../dataset.ts";
import { evaluateSchema, type EvaluateSection } from "./config.ts";
import { describeEvaluation } from "./evaluation.ts";
import { gpuProvenance, takeGpu } from "../shared_gpu.ts";

/** The `model` section of a `train` node. */
const modelledSchema = z.object({ model: z.unknown() });

/** The parameters of a `train` node that the stage reads besides. */
const trainedSchema = z.object({
  train: z.object({
    documents: z.enum(["packed", "single"]).optional(),
    sequence_length: z.int().min(1),
    precision: z.enum(["f32", "mixed"]).default("f32"),
  }),
});

/** The `evaluate` stage: `evaluation.json`, from the last checkpoint of its `train` input. */
export const evaluate = defineStage<EvaluateSection>({
  name: "evaluate",
  description: "Measure a model on held-out text: nats, bits per byte, use of its experts",
  module: import.meta.url,
  modules: ({ inputs }) =>
    (inputs.train ?? []).flatMap(({ params }) => kindModules(modelledSchema.parse(params).model)),
  params: evaluateSchema,
  outputs: { evaluation: "json" },
  resource: "gpu",
  run: runEvaluate,
});

async function runEvaluate(context: StageContext<EvaluateSection>): Promise<void> {
  const { params, metrics, signal } = context;
  const [trained] = context.inputs.train ?? [];
  if (!trained) throw new Error(`${context.node.name} has no input named train`);
  const { train } = trainedSchema.parse(trained.params);
  using taken = await takeGpu();
  const { gpu } = taken;
  context.provenance?.(gpuProvenance(gpu));
  using dataset = await openDataset(context);
  // The precision of the training, so that the numbers are those that training saw.
  const path = trained.file("checkpoint", `last/${MODEL_FILE}`);
  using model = await openInferenceModel(gpu, path, {
    precision: train.precision,
    onLoad: context.assertInKey,
  });
  const { architecture, config, weights } = model;
  if (config.vocab_size !== dataset.vocab_size) {
    throw new Error(
      `${trained.name} has a vocabulary of ${config.vocab_size} tokens, its dataset one of ${dataset.vocab_size}`,
    );
  }
  const split = dataset.split(params.split);
  using evaluator = await Evaluator.open(gpu, {
    architecture,
    weights,
    batch: params.micro_batch,
    length: train.sequence_length,
  });
  const total = Math.min(params.tokens, split.length - 1);
  const progress = context.progress(total, { unit: "tokens" });
  const start = performance.now();
  const result = await evaluator.evaluate(split, {
    tokens: params.tokens,
    // Text comes as it came in training.
    documents: train.documents === "single"
      ? { endoftext: dataset.tokenizer.endoftext }
      : undefined,
    byteLength: dataset.byteLength,
    signal,
    onProgress: (done) => progress.update(done),
  });
  const seconds = (performance.now() - start) / 1000;
  const { layers, ...numbers } = describeEvaluation(result);
  context.json("evaluation", { split: params.split, ...numbers, layers });
  metrics.write(0, numbers);
  metrics.measure(0, { tokens_per_second: result.tokens / seconds });
}
