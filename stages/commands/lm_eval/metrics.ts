/**
 * The metrics of log-likelihood tasks, with the standard errors that the harness gives.
 *
 * @module
 */

import { UserError } from "../../../pipeline/errors.ts";
import type { Example } from "./examples.ts";
import { PythonRandom } from "./python_random.ts";
import type { Task } from "./task_file.ts";

/** The score of one continuation. */
export interface ContinuationScore {
  /** Sum of the natural logarithms of its tokens' probabilities. */
  readonly log_likelihood: number;
  /** Whether each of its tokens is the likeliest one. */
  readonly greedy: boolean;
}

/** A metric over all documents of a task. */
export interface MetricResult {
  readonly metric: string;
  readonly value: number;
  /** Not there for a single document, or where no draws are made. */
  readonly stderr: number | undefined;
  readonly higher_is_better: boolean;
}

/** A metric of one kind of task. */
interface Metric {
  /** The number of a document. */
  item(example: Example, scores: readonly ContinuationScore[]): number;
  readonly aggregation: "mean" | "perplexity";
}

const choice = (lengthOf?: (choice: string) => number): Metric => ({
  aggregation: "mean",
  item: ({ choices, gold }, scores) => {
    const best = largest(
      scores.map(({ log_likelihood }, i) =>
        lengthOf === undefined ? log_likelihood : log_likelihood / lengthOf(choices[i]!)
      ),
    );
    return gold.includes(best) ? 1 : 0;
  },
});

/** Metrics by the kind of task; the harness divides by characters for `acc_norm`, by UTF-8 bytes for `acc_bytes`. */
const METRICS: Readonly<Record<Task["output_type"], Readonly<Record<string, Metric>>>> = {
  multiple_choice: {
    acc: choice(),
    acc_norm: choice((text) => [...text].length),
    acc_bytes: choice((text) => new TextEncoder().encode(text).length),
  },
  loglikelihood: {
    perplexity: { aggregation: "perplexity", item: (_, [score]) => score!.log_likelihood },
    acc: { aggregation: "mean", item: (_, [score]) => score!.greedy ? 1 : 0 },
  },
};

/** The metrics of a task that names none. */
const DEFAULTS: Readonly<Record<Task["output_type"], readonly string[]>> = {
  multiple_choice: ["acc", "acc_norm"],
  loglikelihood: ["perplexity", "acc"],
};

/** Resamples that share a generator, at most. */
const CHUNK = 1000;

/** The names of a task's metrics. @throws {UserError} If one is not known for its kind, or is aggregated otherwise. */
export function metricsOf({ file, output_type, metric_list }: Task): string[] {
  if (!metric_list) return [...DEFAULTS[output_type]];
  const known = METRICS[output_type];
  return metric_list.map(({ metric, aggregation }, i) => {
    const found = Object.hasOwn(known, metric) ? known[metric] : undefined;
    const at = `${file}: \`metric_list.${i}`;
    if (found === undefined) {
      throw new UserError(
        `${at}.metric\` is ${metric}; expected ${
          Object.keys(known).join(", ")
        } for ${output_type}.`,
      );
    }
    if (aggregation !== undefined && aggregation !== found.aggregation) {
      throw new UserError(
        `${at}.aggregation\` is ${aggregation}; expected ${found.aggregation} for ${metric}.`,
      );
    }
    return metric;
  });
}

/**
 * Computes a task's metrics.
 *
 * A mean has the standard error of a sample, a perplexity that of `iterations` bootstrap resamples, with the harness' own draws.
 *
 * @param options `scores`: those of each example's continuations.
 */
export function computeMetrics(
  task: Task,
  { examples, scores, iterations }: {
    readonly examples: readonly Example[];
    readonly scores: readonly (readonly ContinuationScore[])[];
    readonly iterations: number;
  },
): MetricResult[] {
  return metricsOf(task).map((metric) => {
    const { item, aggregation } = METRICS[task.output_type][metric]!;
    const items = examples.map((example, i) => item(example, scores[i]!));
    const perplexity = aggregation === "perplexity";
    const value = perplexity ? perplexityOf(items) : mean(items);
    const stderr = items.length < 2
      ? undefined
      : perplexity
      ? bootstrap(items, iterations)
      : deviation(items) / Math.sqrt(items.length);
    return { metric, value, stderr, higher_is_better: !perplexity };
  });
}

/** Number of the largest, the first of equals. */
function largest(values: readonly number[]): number {
  return values.reduce((best, value, i) => value > values[best]! ? i : best, 0);
}

function mean(values: readonly number[]): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

function perplexityOf(log_likelihoods: readonly number[]): number {
  return Math.exp(-mean(log_likelihoods));
}

/** Standard deviation of a sample. */
function deviation(values: readonly number[]): number {
  const center = mean(values);
  let sum = 0;
  for (const value of values) sum += (value - center) ** 2;
  return Math.sqrt(sum / (values.length - 1));
}

/** Standard deviation of the perplexity over resamples. */
function bootstrap(log_likelihoods: readonly number[], iterations: number): number | undefined {
  const size = log_likelihoods.length;
  const values = Float64Array.from(log_likelihoods);
  const chunk = Math.min(CHUNK, iterations);
  if (chunk < 2) return undefined;
  const found: number[] = [];
  for (let i = 0; i < Math.floor(iterations / chunk); i++) {
    const random = new PythonRandom(i);
    for (let k = 0; k < chunk; k++) {
      let sum = 0;
      for (let j = 0; j < size; j++) sum += values[Math.floor(random.random() * size)]!;
      found.push(Math.exp(-sum / size));
    }
  }
  return deviation(found);
}
