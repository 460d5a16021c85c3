/**
 * The stage `perplexity`: a model measured on windows of text, each by itself. It reads `expanded`, the node of an expanded model, where there is one, and else the dense model.
 *
 * @module
 */

import { z } from "zod";
import { Evaluator, perplexityOf } from "../../model/inference/evaluator.ts";
import type { Gpu } from "../../model/gpu/device.ts";
import { memoryOf } from "../../model/gpu/memory.ts";
import { InferenceModel } from "../../model/inference/model.ts";
import { PretrainedCheckpoint } from "../../model/pretrained/checkpoint.ts";
import { ExpandedCheckpoint } from "../../model/sparse/files/checkpoint.ts";
import { denseBits } from "../../model/sparse/storage.ts";
import { defineStage, type StageContext } from "../../pipeline/stage.ts";
import { readWindows } from "../calibrate/read_windows.ts";
import { EXPANDED_OUTPUT, expansionSchema } from "../expand/result.ts";
import { parseOutput } from "../parse_output.ts";
import { linkOutput, modelFolder } from "../pretrained/model_files.ts";
import { publishedModules } from "../pretrained/kinds.ts";
import { denseModelSchema } from "../pretrained/result.ts";
import { gpuProvenance, takeGpu } from "../shared_gpu.ts";
import type { PerplexityResult } from "./result.ts";

const paramsSchema = z.strictObject({ micro_batch: z.int().min(1).max(65536) });

/** Parameters of the stage. */
export type PerplexityParams = z.infer<typeof paramsSchema>;

/** The `perplexity` stage. */
export const perplexity = defineStage<PerplexityParams>({
  name: "perplexity",
  description: "Measure a model, dense or expanded, on windows of text",
  module: import.meta.url,
  modules: publishedModules,
  params: paramsSchema,
  outputs: { perplexity: "json", timings: "measured" },
  resource: "gpu",
  run: runPerplexity,
});

async function runPerplexity(context: StageContext<PerplexityParams>): Promise<void> {
  const { params, stateDir, signal, inputs, metrics } = context;
  const [calibrate] = inputs.calibrate ?? [];
  const [model] = inputs.model ?? [];
  const [expanded] = inputs.expanded ?? [];
  if (!calibrate) throw new Error(`${context.node.name} has no input named calibrate`);
  if (!model && !expanded) throw new Error(`${context.node.name} has no input named model`);
  const { tokens, length, windows } = await readWindows(calibrate, "evaluation");
  for (const module of publishedModules()) context.assertInKey(module);
  using taken = await takeGpu();
  const { gpu } = taken;
  context.provenance?.(gpuProvenance(gpu));
  const memory = memoryOf(gpu);
  const held = memory.bytes;
  memory.reset();
  using loaded = expanded
    ? await loadExpanded(gpu, await linkOutput(expanded, EXPANDED_OUTPUT, stateDir))
    : await loadDense(gpu, (await modelFolder(model!, stateDir)).folder);
  const { architecture, weights } = loaded.model;
  using evaluator = await Evaluator.open(gpu, {
    architecture,
    weights,
    batch: Math.min(params.micro_batch, windows),
    length,
  });
  const predictions = windows * (length - 1);
  const progress = context.progress(predictions, { unit: "tokens" });
  const losses: number[] = [];
  const start = performance.now();
  const result = await evaluator.evaluateStream([tokens], {
    windows: true,
    signal,
    onSequence: (nats) => void losses.push(nats),
    onProgress: (done) => progress.update(done),
  });
  const seconds = (performance.now() - start) / 1000;
  const nats = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  const measured: PerplexityResult = {
    nats,
    perplexity: perplexityOf(nats),
    predictions: result.tokens,
    windows: losses.length,
    losses,
    mlp: expanded
      ? sizesOf(
        parseOutput(expanded.json("expansion"), { schema: expansionSchema, what: "expansion" }),
      )
      : denseSizes(parseOutput(model!.json("model"), { schema: denseModelSchema, what: "model" })),
  };
  context.json("perplexity", JSON.parse(JSON.stringify(measured)));
  metrics.write(0, { nats, perplexity: measured.perplexity });
  context.measured("timings", {
    seconds,
    tokens_per_second: result.tokens / seconds,
    peak_bytes: memory.peak - held,
  });
}

/** A model on the device, and what has to last as long. */
interface Loaded extends Disposable {
  readonly model: InferenceModel;
}

async function loadDense(gpu: Gpu, folder: string): Promise<Loaded> {
  using checkpoint = await PretrainedCheckpoint.open(folder);
  const model = await InferenceModel.filled(gpu, checkpoint);
  return { model, [Symbol.dispose]: () => model[Symbol.dispose]() };
}

async function loadExpanded(gpu: Gpu, folder: string): Promise<Loaded> {
  using checkpoint = await ExpandedCheckpoint.open(folder);
  return await checkpoint.load(gpu);
}

/** Storage and work of expanded MLPs. */
function sizesOf(
  { blocks, stored_bits, multiply_adds }: z.infer<typeof expansionSchema>,
): PerplexityResult["mlp"] {
  const kept = blocks.flatMap((block) => [block.in, block.mid])
    .flatMap(({ layers }) => Object.values(layers)).flatMap((layer) => layer.kept);
  return { stored_bits, multiply_adds, stored_weights: kept.reduce((sum, n) => sum + n, 0) };
}

/** Storage and work of dense MLPs. */
function denseSizes({ mlp_parameters }: z.infer<typeof denseModelSchema>): PerplexityResult["mlp"] {
  return {
    stored_bits: denseBits({ outputs: mlp_parameters, inputs: 1 }),
    multiply_adds: mlp_parameters,
    stored_weights: mlp_parameters,
  };
}
