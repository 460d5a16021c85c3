/**
 * Trains one model: the `train` stage.
 *
 * @module
 */

import { dirname, join } from "@std/path";
import { z } from "zod";
import { listCheckpoints, MODEL_FILE, shareCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { describeStart, loadInitialModel } from "../../model/checkpoint/initial_model.ts";
import { countFlops, countParameters } from "../../model/trunk/counts.ts";
import { acceptedModel, kindModules, loadArchitecture } from "../../model/load.ts";
import { type InitialSection, trainSchema } from "../../model/training/config.ts";
import { Trainer } from "../../model/training/trainer.ts";
import { runTraining } from "../../model/training/training.ts";
import {
  defineStage,
  type JsonValue,
  type MetricSink,
  type NodeOutput,
  type StageContext,
} from "../../pipeline/stage.ts";
import { type Dataset, openDataset, VOCABULARY_FILE } from "../dataset.ts";
import { publishedModules } from "../pretrained/kinds.ts";
import { gpuProvenance, sharedGpu } from "../shared_gpu.ts";
import { assertSameVocabulary, findStart, type FoundStart } from "./initial.ts";
import { STARTS } from "./registry.ts";

const paramsSchema = z.strictObject({
  model: acceptedModel,
  train: trainSchema,
  seed: z.int().min(0).max(2 ** 31 - 1),
});

/** Parameters of the stage. */
export type TrainParams = z.infer<typeof paramsSchema>;

/** The input that is a published model to start from. */
const INITIAL = "initial";
/** The input that is the finished training to extend. */
const FINISHED = "finished";

/** The `train` stage: a checkpoint, a summary, and the curve as metrics. */
export const train = defineStage<TrainParams>({
  name: "train",
  description: "Train a model on the tokens; resumes from its last checkpoint",
  module: import.meta.url,
  modules: ({ params, inputs }) => [
    ...kindModules(params.model),
    ...inputs[INITIAL] ? [STARTS.initial.module, ...publishedModules()] : [],
  ],
  params: paramsSchema as z.ZodType<TrainParams>,
  outputs: { checkpoint: "directory", summary: "json" },
  resource: "gpu",
  run: runTrain,
});

async function runTrain(context: StageContext<TrainParams>): Promise<void> {
  const { params, stateDir, metrics, log, signal } = context;
  const gpu = await sharedGpu();
  context.provenance?.(gpuProvenance(gpu));
  using dataset = await openDataset(context);
  const { train, seed } = params;
  const config = { ...params.model, vocab_size: dataset.vocab_size };
  const architecture = await loadArchitecture(config, { onLoad: context.assertInKey });
  const trainer = await Trainer.create(gpu, { architecture, train, seed });
  try {
    const started = train.initial && await start(trainer, train.initial, { context, dataset });
    const [extended] = context.inputs[FINISHED] ?? [];
    if (train.extend !== undefined && !extended) {
      throw new Error(`${context.node.name} has no input named ${FINISHED} to extend`);
    }
    const folder = join(stateDir, "checkpoints");
    if (extended && (await listCheckpoints(folder)).length === 0) await copyRows(extended, metrics);
    const from = extended && await finished(extended, join(stateDir, FINISHED));
    const progress = context.progress(trainer.steps, { unit: "updates" });
    const result = await runTraining(trainer, {
      data: {
        train: dataset.split("train"),
        validation: dataset.split("validation"),
        byteLength: dataset.byteLength,
        endoftext: dataset.tokenizer.endoftext,
      },
      seed,
      folder,
      ...from && { from },
      signal,
      hooks: {
        rewind: (step) => metrics.rewind(step + 1),
        write: (step, values) => metrics.write(step, values),
        measure: (step, values) => metrics.measure(step, values),
        flush: () => metrics.flush(),
        progress: (step, remark) => progress.update(step, remark),
        info: (message) => log.info(message),
        warn: (message) => log.warn(message),
      },
    });
    const output = context.output("checkpoint");
    await Deno.mkdir(join(output, "best"), { recursive: true });
    // They stay in the state folder until they are published: a kill in between must find them there.
    await shareCheckpoint(result.lastPath, join(output, "last"));
    await shareCheckpoint(result.bestPath, join(output, "best", MODEL_FILE));
    await Deno.writeTextFile(join(output, VOCABULARY_FILE), dataset.vocabulary);
    const { byRole, ...counts } = countParameters(architecture);
    context.json("summary", {
      config: JSON.parse(JSON.stringify(architecture.config)),
      steps: result.step,
      tokens: result.tokens,
      skipped: result.skipped,
      last: result.last,
      best: result.best,
      parameters: { ...counts, byRole: { ...byRole } },
      flops_per_token: countFlops(architecture, { sequenceLength: train.sequence_length }).total,
      ...started !== undefined && { initial: started },
    });
  } finally {
    trainer.destroy();
  }
}

/**
 * Gives a trainer the weights that the section names. Where there is a checkpoint of this training, it replaces them afterwards.
 *
 * @returns What was taken and what was not, for the summary.
 */
async function start(
  trainer: Trainer,
  initial: InitialSection,
  { context, dataset }: { context: StageContext<TrainParams>; dataset: Dataset },
): Promise<JsonValue> {
  using found = await findSource(initial, { context, dataset });
  const plan = await loadInitialModel(found.source, trainer, initial);
  for (const line of describeStart(plan)) context.log.info(`start: ${line}`);
  const { taken, ...rest } = plan;
  return JSON.parse(JSON.stringify({ taken: taken.length, ...rest }));
}

async function findSource(
  initial: InitialSection,
  { context, dataset }: { context: StageContext<TrainParams>; dataset: Dataset },
): Promise<Disposable & Pick<FoundStart, "source">> {
  const [node] = context.inputs[INITIAL] ?? [];
  if (node === undefined) {
    const found = await findStart(initial, context.object);
    const { vocabulary } = found;
    if (vocabulary !== undefined) await assertSameVocabulary(vocabulary, dataset.vocabulary);
    return found;
  }
  const { module, load } = STARTS.initial;
  for (const each of [module, ...publishedModules()]) context.assertInKey(each);
  const { openPublishedStart } = await load();
  const { tokenizer } = dataset;
  return await openPublishedStart(node, { into: join(context.stateDir, INITIAL), tokenizer });
}

/** The finished training that this one extends: the files of its checkpoint, linked into the state folder. */
async function finished(
  node: NodeOutput,
  folder: string,
): Promise<{ checkpoint: string; best: string }> {
  for (const path of node.files("checkpoint")) {
    const to = join(folder, path);
    await Deno.mkdir(dirname(to), { recursive: true });
    await Deno.remove(to).catch(() => {});
    await shareCheckpoint(node.file("checkpoint", path), to);
  }
  return { checkpoint: join(folder, "last"), best: join(folder, "best", MODEL_FILE) };
}

/** Rows of a finished training, which the curve of its extension begins with. What a clock said is left out. */
async function copyRows(node: NodeOutput, metrics: MetricSink): Promise<void> {
  metrics.rewind(0);
  for (const { step, name, value, measured } of await node.metrics()) {
    if (!measured) metrics.write(step, { [name]: value });
  }
}
