/**
 * `lm-eval`: log-likelihood tasks of lm-evaluation-harness on a model of this project.
 *
 * @module
 */

import type { Gpu } from "../../../model/gpu/device.ts";
import { Scorer } from "../../../model/inference/scorer.ts";
import type { Tokenizer } from "../../../model/text/tokenizer.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { type ModelChoice, openModel } from "../model/models.ts";
import { gpuProvenance } from "../../shared_gpu.ts";
import { readDocuments } from "./documents.ts";
import { buildExamples, type Example, scoredSplit, shownSplit } from "./examples.ts";
import { computeMetrics, type MetricResult, metricsOf } from "./metrics.ts";
import {
  scoreContinuations,
  type ScoringModel,
  type TokenizedContinuation,
  tokenizeExample,
} from "./score.ts";
import { readTask, type Task } from "./task_file.ts";

/** Options of {@linkcode prepareTask}. */
export interface PrepareOptions {
  /** Folder of the documents; the files that a task names unless given. */
  readonly data?: string | undefined;
  /** Examples before each document; the task's number, or none, unless given. */
  readonly num_fewshot?: number | undefined;
  /** Of the draws of examples. */
  readonly seed: number;
  /** Documents at most, the first ones. */
  readonly limit?: number | undefined;
  readonly tokenizer: Tokenizer;
  /** Tokens that the model sees at most. */
  readonly context: number;
  /** Whether the tokens that a text begins with stand before a context. */
  readonly begin: boolean;
}

/** A task that is ready to be scored. */
export interface PreparedTask {
  readonly task: Task;
  readonly examples: readonly Example[];
  /** Of all examples, one after another. */
  readonly continuations: readonly TokenizedContinuation[];
  /** Documents of the split. */
  readonly original: number;
  readonly num_fewshot: number;
}

/** A task's numbers. */
export interface TaskResult extends PreparedTask {
  readonly metrics: readonly MetricResult[];
}

/** Options of {@linkcode evaluateTasks}. */
export interface EvaluateTasksOptions
  extends ModelChoice, Omit<PrepareOptions, "tokenizer" | "context"> {
  /** Files of tasks. */
  readonly tasks: readonly string[];
  /** Tokens that the model sees at most. */
  readonly context: number;
  /** Tokens scored at once, padding included. */
  readonly batch_tokens: number;
  /** Resamples of a perplexity's standard error. */
  readonly bootstrap_iterations: number;
  readonly precision: "f32" | "mixed";
  /** Opens the device, once the rest is known to be right. */
  gpu(): Promise<Gpu>;
  warn(line: string): void;
}

/** The numbers of all tasks, and the model that they are of. */
export interface TasksEvaluation {
  readonly model: string;
  readonly revision?: string;
  readonly context: number;
  readonly tasks: readonly TaskResult[];
  readonly seconds: number;
  readonly gpu: ReturnType<typeof gpuProvenance>;
}

/**
 * Reads a task and its documents, and makes tokens of them.
 *
 * @throws {UserError} If a file, a key or a document is wrong.
 */
export async function prepareTask(file: string, options: PrepareOptions): Promise<PreparedTask> {
  const task = await readTask(file);
  metricsOf(task);
  const { data, seed, limit = Infinity } = options;
  const num_fewshot = options.num_fewshot ?? task.num_fewshot ?? 0;
  const all = await readDocuments(task, scoredSplit(task), { data });
  const documents = all.slice(0, limit);
  const shown = num_fewshot === 0
    ? []
    : task.fewshot_config?.samples ?? await readDocuments(task, shownSplit(task), { data });
  const examples = buildExamples(task, { documents, shown, num_fewshot, seed });
  const continuations = examples.flatMap((example, i) =>
    tokenizeExample(example, { ...options, place: `${file}: document ${i}` })
  );
  return { task, examples, continuations, original: all.length, num_fewshot };
}

/** Scores a task with a model. */
export async function evaluateTask(
  model: ScoringModel,
  prepared: PreparedTask,
  options: { readonly iterations: number; onProgress?(tokens: number): void },
): Promise<TaskResult> {
  const { task, examples, continuations } = prepared;
  const flat = await scoreContinuations(model, continuations, options.onProgress);
  let at = 0;
  const scores = examples.map(({ continuations }) => flat.slice(at, at += continuations.length));
  const { iterations } = options;
  return { ...prepared, metrics: computeMetrics(task, { examples, scores, iterations }) };
}

/**
 * Evaluates a model on tasks.
 *
 * @throws {UserError} If the model, a task or an option is wrong; no device has been opened then.
 */
export async function evaluateTasks(options: EvaluateTasksOptions): Promise<TasksEvaluation> {
  const { tasks: files, warn } = options;
  using chosen = await openModel(options);
  const { tokenizer, longest } = chosen;
  const context = Math.min(options.context, longest);
  const prepared: PreparedTask[] = [];
  for (const file of files) {
    const task = await prepareTask(file, { ...options, tokenizer, context });
    const { task: { task: name }, continuations } = task;
    if (prepared.some((other) => other.task.task === name)) {
      throw new UserError(`${file}: \`task\` is ${name}, which another file is, too.`);
    }
    const cut = continuations.filter((continuation) => continuation.cut > 0).length;
    if (cut > 0) {
      warn(
        `${name}: ${cut} of ${continuations.length} contexts are longer than ${context} tokens; their beginning is left out.`,
      );
    }
    prepared.push(task);
  }
  const gpu = await options.gpu();
  using loaded = await chosen.load(gpu, options.precision);
  using scorer = new Scorer(loaded.model, { capacity: context, tokens: options.batch_tokens });
  const start = performance.now();
  const tasks: TaskResult[] = [];
  for (const task of prepared) {
    const iterations = options.bootstrap_iterations;
    tasks.push(await evaluateTask(scorer, task, { iterations }));
  }
  const { name, revision } = chosen;
  return {
    model: name,
    ...(revision === undefined ? {} : { revision }),
    context,
    tasks,
    seconds: (performance.now() - start) / 1000,
    gpu: gpuProvenance(gpu),
  };
}
