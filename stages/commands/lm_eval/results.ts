/**
 * Results as the harness writes them: JSON with its keys, and a table.
 *
 * @module
 */

import type { JsonValue } from "../../../pipeline/stage.ts";
import { formatTable } from "../../../pipeline/terminal/table.ts";
import type { TaskResult, TasksEvaluation } from "./lm_eval.ts";

/** Settings that a result file names. */
export interface ResultSettings {
  readonly seed: number;
  readonly limit: number | undefined;
  readonly bootstrap_iterations: number;
  readonly batch_tokens: number;
  readonly precision: string;
  /** Seconds since 1970. */
  readonly date: number;
}

/** The filter of tasks without filters, which stands behind each metric's name. */
const FILTER = "none";

/** The JSON of a result file. */
export function resultJson(
  evaluation: TasksEvaluation,
  settings: ResultSettings,
): Readonly<Record<string, JsonValue>> {
  const { model, revision, context, tasks, seconds, gpu } = evaluation;
  const byTask = (value: (result: TaskResult) => JsonValue): Record<string, JsonValue> =>
    Object.fromEntries(tasks.map((result) => [result.task.task, value(result)]));
  return {
    results: byTask(({ task, metrics }) => ({
      alias: task.task_alias ?? task.task,
      ...Object.fromEntries(metrics.flatMap(({ metric, value, stderr }) => [
        [`${metric},${FILTER}`, value],
        [`${metric}_stderr,${FILTER}`, stderr ?? "N/A"],
      ])),
    })),
    group_subtasks: byTask(() => []),
    configs: byTask(({ task: { file: _, ...config }, num_fewshot }) =>
      JSON.parse(JSON.stringify({ ...config, num_fewshot }))
    ),
    versions: byTask(versionOf),
    "n-shot": byTask(({ num_fewshot }) => num_fewshot),
    higher_is_better: byTask(({ metrics }) =>
      Object.fromEntries(metrics.map(({ metric, higher_is_better }) => [metric, higher_is_better]))
    ),
    "n-samples": byTask(({ original, examples }) => ({ original, effective: examples.length })),
    config: {
      model: "ethos",
      model_args: { pretrained: model, ...(revision === undefined ? {} : { revision }) },
      batch_tokens: settings.batch_tokens,
      precision: settings.precision,
      device: gpu.adapter,
      runtime: gpu.runtime,
      limit: settings.limit ?? null,
      bootstrap_iters: settings.bootstrap_iterations,
      fewshot_seed: settings.seed,
    },
    date: settings.date,
    model_name: model,
    max_length: context,
    total_evaluation_time_seconds: String(seconds),
  };
}

/** The table that people read, a metric a row. */
export function resultTable({ tasks }: TasksEvaluation, columns: number | undefined): string {
  const header = ["task", "version", "n-shot", "metric", "", "value", "", "stderr"];
  const rows = tasks.flatMap((result) =>
    result.metrics.map(({ metric, value, stderr, higher_is_better }, i) => [
      i === 0 ? result.task.task_alias ?? result.task.task : "",
      i === 0 ? String(versionOf(result)) : "",
      String(result.num_fewshot),
      metric,
      higher_is_better ? "↑" : "↓",
      value.toFixed(4),
      "±",
      stderr?.toFixed(4) ?? "N/A",
    ])
  );
  return formatTable(header, rows, { columns });
}

function versionOf({ task }: TaskResult): string | number {
  return task.metadata?.version ?? "Yaml";
}
