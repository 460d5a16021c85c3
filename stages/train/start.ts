/**
 * The beginning of a training that does not begin at random: weights of another model, or a finished training.
 *
 * @module
 */

import { dirname, join } from "@std/path";
import { MODEL_FILE, shareCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import {
  assertStartsFrom,
  describeStart,
  openInitialModel,
} from "../../model/checkpoint/initial_model.ts";
import type { LoadOptions } from "../../model/load.ts";
import type { InitialSection } from "../../model/training/config.ts";
import type { FinishedTraining } from "../../model/training/training.ts";
import type { Architecture } from "../../model/trunk/architecture.ts";
import {
  type JsonValue,
  type MetricSink,
  type NodeOutput,
  SAMPLES_FILE,
  type SampleSink,
  type StageContext,
} from "../../pipeline/stage.ts";
import type { Dataset } from "../dataset.ts";
import { publishedModules } from "../pretrained/kinds.ts";
import { assertSameVocabulary, findStart, type OpenedStart, type StartFiles } from "./initial.ts";
import { PARTS } from "./registry.ts";

/** The input that is a published model to start from. */
export const INITIAL = "initial";
/** The input that is the finished training to extend. */
export const FINISHED = "finished";

/** Modules that a start from a published model loads. */
export function publishedStartModules(): string[] {
  return [PARTS.initial.module, ...publishedModules()];
}

/**
 * Finds the weights that a section names.
 *
 * @throws {Error} If they are not what was planned, or speak another vocabulary than the dataset.
 */
export async function locateStart(
  initial: InitialSection,
  context: Pick<StageContext<unknown>, "inputs" | "stateDir" | "object" | "assertInKey">,
  dataset: Pick<Dataset, "tokenizer" | "vocabulary">,
): Promise<StartFiles> {
  const [node] = context.inputs[INITIAL] ?? [];
  if (node !== undefined) {
    for (const module of publishedStartModules()) context.assertInKey(module);
    const { findPublished } = await PARTS.initial.load();
    const into = join(context.stateDir, INITIAL);
    return await findPublished(node, { into, tokenizer: dataset.tokenizer });
  }
  const { files, vocabulary } = await findStart(initial, context.object);
  if (vocabulary !== undefined) await assertSameVocabulary(vocabulary, dataset.vocabulary);
  return files;
}

/** Opens weights that {@linkcode locateStart} found. */
export async function openStart(files: StartFiles, options: LoadOptions): Promise<OpenedStart> {
  if (!files.published) {
    const { path, name } = files;
    return { source: { ...await openInitialModel(path), name }, [Symbol.dispose]() {} };
  }
  for (const module of publishedStartModules()) options.onLoad?.(module);
  const { openPublished } = await PARTS.initial.load();
  return await openPublished(files);
}

/** The tensors that a start takes and leaves, for the summary; `tell` gets it in lines. */
export async function summarizeStart(
  files: StartFiles,
  architecture: Architecture,
  options: LoadOptions & { readonly initial: InitialSection; tell(line: string): void },
): Promise<JsonValue> {
  using start = await openStart(files, options);
  const plan = await assertStartsFrom(start.source, architecture, options.initial);
  for (const line of describeStart(plan)) options.tell(`start: ${line}`);
  const { taken, initial, unused, differences } = plan;
  return {
    taken: taken.length,
    initial: initial.map((tensor) => ({ ...tensor })),
    unused: unused.map((tensor) => ({ ...tensor })),
    differences,
  };
}

/** Links the files of the finished training that a node published into a folder. */
export async function linkFinished(node: NodeOutput, folder: string): Promise<FinishedTraining> {
  for (const path of node.files("checkpoint")) {
    const to = join(folder, path);
    await Deno.mkdir(dirname(to), { recursive: true });
    await Deno.remove(to).catch(() => {});
    await shareCheckpoint(node.file("checkpoint", path), to);
  }
  return { checkpoint: join(folder, "last"), best: join(folder, "best", MODEL_FILE) };
}

/** Copies the rows of a finished training, which the curve of its extension begins with. Numbers of a clock are left out. */
export async function copyRows(node: NodeOutput, metrics: MetricSink): Promise<void> {
  metrics.rewind(0);
  for (const { step, name, value, measured } of await node.metrics()) {
    if (!measured) metrics.write(step, { [name]: value });
  }
}

/** Copies the samples of a finished training, if it made any. */
export async function copySamples(node: NodeOutput, samples: SampleSink): Promise<void> {
  samples.rewind(0);
  if (!node.files("checkpoint").includes(SAMPLES_FILE)) return;
  samples.take(await Deno.readTextFile(node.file("checkpoint", SAMPLES_FILE)));
}
