/**
 * The data of the report: the inputs of the node, checked and in the report's own words. Everything is optional; a run
 * without ablations or a benchmark still has a report.
 *
 * @module
 */

import { z } from "zod";
import type { JsonValue, NodeOutput } from "../../pipeline/stage.ts";
import {
  type Ablation,
  ablationSchema,
  type MeasuredRow,
  measuredSchema,
} from "../ablate/result.ts";
import {
  type BenchmarkResult,
  benchmarkResultSchema,
  type TimingRow,
  timingsSchema,
} from "../benchmark/result.ts";
import { type DatasetResult, datasetSchema } from "../dataset_result.ts";
import { type Evaluation, evaluationSchema } from "../evaluate/result.ts";
import { parseOutput } from "../parse_output.ts";

/** A value at a step. */
export interface StepValue {
  readonly step: number;
  readonly value: number;
}

/** A trained model: its labels, its own description, and its curves. */
export interface TrainedModel {
  /** Node name, `train[d_latent=64,seed=2]`. */
  readonly name: string;
  readonly key: string;
  /** Ablated factor, or nothing for the base. */
  readonly factor: string | undefined;
  /** Value of the factor. */
  readonly value: JsonValue | undefined;
  /** Cell of the ablation. */
  readonly cell: string | undefined;
  readonly seed: number | undefined;
  /** Whether it is the base that ablations compare with. */
  readonly base: boolean;
  /** Parameters of the node: `model`, `train`, `seed`. */
  readonly params: JsonValue;
  /** The `summary` output. */
  readonly summary: JsonObject;
  /** Curves by metric, in order of step. */
  readonly curves: ReadonlyMap<string, readonly StepValue[]>;
  readonly provenance: Readonly<Record<string, JsonValue>>;
}

/** A JSON object. */
export type JsonObject = Readonly<Record<string, JsonValue>>;

/** One published JSON with where it comes from. */
export interface Published<Result = JsonObject> {
  readonly name: string;
  readonly key: string;
  readonly result: Result;
  readonly provenance: Readonly<Record<string, JsonValue>>;
}

/** An `evaluate` node with the labels of the model that it read. */
export interface EvaluatedModel extends Published<Evaluation> {
  /** Name of its cell. */
  readonly cell: string | undefined;
  readonly base: boolean;
  readonly seed: number | undefined;
}

/** Everything that the report is drawn from. */
export interface ReportData {
  readonly source: Published | undefined;
  readonly dataset: Published<DatasetResult> | undefined;
  readonly models: readonly TrainedModel[];
  readonly evaluations: readonly EvaluatedModel[];
  readonly ablation:
    | Published<Ablation> & { readonly measured: readonly MeasuredRow[] }
    | undefined;
  readonly benchmark:
    | Published<BenchmarkResult> & { readonly timings: readonly TimingRow[] }
    | undefined;
}

/** Reads the inputs of the report's node. */
export async function readInputs(
  inputs: Readonly<Record<string, readonly NodeOutput[]>>,
): Promise<ReportData> {
  const models: TrainedModel[] = [];
  for (const node of inputs.train ?? []) models.push(await readModel(node));
  const [source] = inputs.download ?? [];
  const [dataset] = inputs.dataset ?? [];
  const [ablate] = inputs.ablate ?? [];
  const [benchmark] = inputs.benchmark ?? [];
  return {
    source: source && published(source, "source", z.record(z.string(), z.json())),
    dataset: dataset && published(dataset, "dataset", datasetSchema),
    models,
    evaluations: (inputs.evaluate ?? []).map((node) => ({
      ...published(node, "evaluation", evaluationSchema),
      cell: cellOf(node.labels),
      base: isBase(node.labels),
      seed: seedOf(node.labels),
    })),
    ablation: ablate && {
      ...published(ablate, "ablation", ablationSchema),
      measured: measured(ablate, "measured", measuredSchema),
    },
    benchmark: benchmark && {
      ...published(benchmark, "benchmark", benchmarkResultSchema),
      timings: measured(benchmark, "timings", timingsSchema),
    },
  };
}

/** Models of the base, one a seed. */
export function baseModels(data: ReportData): readonly TrainedModel[] {
  const bases = data.models.filter((m) => m.base);
  return bases.length > 0 ? bases : data.models.slice(0, 1);
}

/** Evaluations of the base, one a seed. */
export function baseEvaluations(data: ReportData): readonly EvaluatedModel[] {
  const bases = data.evaluations.filter((e) => e.base);
  return bases.length > 0 ? bases : data.evaluations.slice(0, 1);
}

/** A curve of a model; empty when it was not measured. */
export function curve(model: TrainedModel, metric: string): readonly StepValue[] {
  return model.curves.get(metric) ?? [];
}

/** Whether a value is a JSON object. */
export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A field when it is a finite number. */
export function numberField(object: JsonObject | undefined, key: string): number | undefined {
  const value = object?.[key];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** A field when it is an object. */
export function objectField(object: JsonObject | undefined, key: string): JsonObject | undefined {
  const value = object?.[key];
  return isObject(value) ? value : undefined;
}

function requireObject(value: JsonValue, what: string): JsonObject {
  if (!isObject(value)) {
    throw new Error(`The ${what} is ${JSON.stringify(value)}; expected an object`);
  }
  return value;
}

/** An output of a node, checked, with where it comes from. */
export function published<Result>(
  node: NodeOutput,
  output: string,
  schema: z.ZodType<Result>,
): Published<Result> {
  const { name, key, provenance } = node;
  const result = parseOutput(node.json(output), { schema, what: `${output} of ${name}` });
  return { name, key, provenance, result };
}

/** A measured output of a node, checked. */
export function measured<Value>(node: NodeOutput, output: string, schema: z.ZodType<Value>): Value {
  return parseOutput(node.measured(output), { schema, what: `${output} of ${node.name}` });
}

async function readModel(node: NodeOutput): Promise<TrainedModel> {
  const curves = new Map<string, StepValue[]>();
  for (const { step, name, value } of await node.metrics()) {
    // A curve has a gap where its number was not finite.
    if (value === null) continue;
    const list = curves.get(name);
    if (list) list.push({ step, value });
    else curves.set(name, [{ step, value }]);
  }
  const { factor, value } = node.labels;
  return {
    name: node.name,
    key: node.key,
    factor: typeof factor === "string" ? factor : undefined,
    value,
    cell: cellOf(node.labels),
    seed: seedOf(node.labels),
    base: isBase(node.labels),
    params: node.params,
    summary: requireObject(node.json("summary"), `summary of ${node.name}`),
    curves,
    provenance: node.provenance,
  };
}

function isBase(labels: Readonly<Record<string, JsonValue>>): boolean {
  return labels.base === true;
}

function cellOf(labels: Readonly<Record<string, JsonValue>>): string | undefined {
  return typeof labels.cell === "string" ? labels.cell : undefined;
}

function seedOf(labels: Readonly<Record<string, JsonValue>>): number | undefined {
  return typeof labels.seed === "number" ? labels.seed : undefined;
}
