/**
 * Architectures compared: factors that change the kind of feed-forward layer or its router, with what each value stores, computes
 * and measures, and how its experts were used.
 *
 * @module
 */

import type { MeasuredRow } from "../ablate/result.ts";
import { pairedDifference, type PairedSummary, type Summary } from "../ablate/statistics.ts";
import type { Evaluation } from "../evaluate/result.ts";
import { type FactorResult, type FactorResults, factorResults } from "./ablation.ts";
import {
  curve,
  type EvaluatedModel,
  numberField,
  objectField,
  type ReportData,
  type StepValue,
  type TrainedModel,
} from "./data.ts";

/** Costs on which architectures are compared. */
export const COSTS = ["stored", "active", "flops"] as const;

/** One of them: parameters stored, parameters that a token uses, operations of a token's forward pass. */
export type Cost = typeof COSTS[number];

/** Use of experts that training recorded, and each layer's evaluation has. */
const USE_METRICS = ["expert_usage", "expert_unevenness", "expert_gini"] as const;

/** One of them. */
export type UseMetric = typeof USE_METRICS[number];

/** One architecture. */
export interface ArchitectureResult extends FactorResult {
  /** Kind of its feed-forward layers: `peer`; absent where the training did not say. */
  readonly kind: string | undefined;
  readonly bitsPerByte: Summary | undefined;
  /** Absent where the training did not say. */
  readonly costs: Readonly<Partial<Record<Cost, number>>>;
  /** Tokens a second of the training, over seeds. */
  readonly speed: Summary | undefined;
  /** Use of experts over training by step, the mean over layers and seeds; empty without experts. */
  readonly curves: Readonly<Record<UseMetric, readonly StepValue[]>>;
  /** Layers with experts, the mean over seeds. */
  readonly layers: readonly LayerUse[];
}

/** The use of one layer's experts on held-out text. */
export interface LayerUse extends Readonly<Record<UseMetric, number>> {
  readonly layer: number;
  /** Experts or rows that were counted; absent in evaluations of earlier versions, as the next two. */
  readonly experts: number | undefined;
  readonly experts_per_token: number | undefined;
  /** The most used ones of the first seed. */
  readonly hottest: Evaluation["layers"][number]["hottest"];
  /** Part of all choices that the most used expert takes. */
  readonly hottestShare: number | undefined;
}

/** A factor whose values are architectures. */
export interface Comparison {
  readonly name: string;
  readonly title: string;
  readonly values: readonly ArchitectureResult[];
}

/** All factors of a run, those that compare architectures apart from the others. */
export function comparedFactors(
  data: ReportData,
): { readonly comparisons: readonly Comparison[]; readonly others: readonly FactorResults[] } {
  const { ablation, models, evaluations } = data;
  if (ablation === undefined) return { comparisons: [], others: [] };
  const factors = factorResults(ablation.result, ablation.measured);
  const trained = Map.groupBy(models, ({ cell }) => cell);
  const evaluated = Map.groupBy(evaluations, ({ cell }) => cell);
  const architectures = (factor: FactorResults) =>
    new Set(factor.values.flatMap(({ cell }) => architectureName(trained.get(cell)?.[0]) ?? []));
  const [comparisons, others]: [FactorResults[], FactorResults[]] = [[], []];
  for (const factor of factors) {
    (architectures(factor).size > 1 ? comparisons : others).push(factor);
  }
  return {
    others,
    comparisons: comparisons.map(({ name, title, values }) => {
      const dense = values.find(({ cell }) => kindOf(trained.get(cell)?.[0]) === "dense");
      return {
        name,
        title,
        values: values.map((value): ArchitectureResult => {
          const [first, ...more] = trained.get(value.cell) ?? [];
          const { metrics } = ablation.result.cells.find(({ name }) => name === value.cell)!;
          const againstDense = dense && dense !== value
            ? pairedBySeed(evaluated.get(value.cell), evaluated.get(dense.cell))
            : undefined;
          return {
            ...value,
            ...(againstDense && { againstDense }),
            kind: kindOf(first),
            bitsPerByte: metrics.bits_per_byte,
            costs: costsOf(first),
            speed: measuredOf(ablation.measured, value.cell),
            curves: curvesOf(first === undefined ? [] : [first, ...more]),
            layers: layersOf(evaluated.get(value.cell) ?? []),
          };
        }),
      };
    }),
  };
}

/** Kind of a model's feed-forward layers, and their router where they have a choice; absent when it isn't known. */
function architectureName(model: TrainedModel | undefined): string | undefined {
  const ffn = feedForwardOf(model);
  if (ffn === undefined) return undefined;
  const { kind, router } = ffn;
  return typeof router === "string" ? `${kind}, ${router}` : String(kind);
}

function feedForwardOf(model: TrainedModel | undefined) {
  return objectField(objectField(paramsOf(model), "model"), "ffn");
}

function kindOf(model: TrainedModel | undefined): string | undefined {
  const kind = feedForwardOf(model)?.kind;
  return typeof kind === "string" ? kind : undefined;
}

/** Held-out nats of the first minus those of the second, over the seeds that both have. */
function pairedBySeed(
  values: readonly EvaluatedModel[] = [],
  references: readonly EvaluatedModel[] = [],
): PairedSummary | undefined {
  const pairs = values.flatMap(({ seed, result }) => {
    const other = references.find((reference) => reference.seed === seed);
    return seed === undefined || other === undefined ? [] : [[result.nats, other.result.nats]];
  });
  if (pairs.length === 0) return undefined;
  return pairedDifference(pairs.map(([value]) => value!), pairs.map(([, other]) => other!));
}

function paramsOf(model: TrainedModel | undefined) {
  return model === undefined ? undefined : objectField({ params: model.params }, "params");
}

function costsOf(model: TrainedModel | undefined): Partial<Record<Cost, number>> {
  const parameters = objectField(model?.summary, "parameters");
  const stored = numberField(parameters, "stored");
  const active = numberField(parameters, "active");
  const flops = numberField(model?.summary, "flops_per_token");
  return {
    ...(stored !== undefined && { stored }),
    ...(active !== undefined && { active }),
    ...(flops !== undefined && { flops }),
  };
}

function measuredOf(rows: readonly MeasuredRow[], cell: string): Summary | undefined {
  return rows.find((row) => row.cell === cell && row.quantity === "tokens_per_second");
}

/** Means over the seeds at the steps that all of them have. */
function curvesOf(models: readonly TrainedModel[]): ArchitectureResult["curves"] {
  const meanCurve = (metric: UseMetric): StepValue[] => {
    const [first = [], ...more] = models.map((model) => curve(model, metric));
    return first.flatMap(({ step, value }) => {
      const values = more.map((points) => points.find((point) => point.step === step)?.value);
      if (!values.every((value) => value !== undefined)) return [];
      return [{ step, value: mean([value, ...values]) }];
    });
  };
  return {
    expert_usage: meanCurve("expert_usage"),
    expert_unevenness: meanCurve("expert_unevenness"),
    expert_gini: meanCurve("expert_gini"),
  };
}

function layersOf(evaluations: readonly EvaluatedModel[]): LayerUse[] {
  const [first] = evaluations;
  if (first === undefined) return [];
  return first.result.layers.map(({ layer, experts, hottest }): LayerUse => {
    const seeds = evaluations.flatMap(({ result }) =>
      result.layers.find((other) => other.layer === layer) ?? []
    );
    const known = (of: (use: typeof seeds[number]) => number | undefined) => {
      const values = seeds.flatMap((use) => of(use) ?? []);
      return values.length === seeds.length ? mean(values) : undefined;
    };
    return {
      layer,
      experts,
      hottest,
      experts_per_token: known((use) => use.experts_per_token),
      expert_usage: mean(seeds.map((use) => use.expert_usage)),
      expert_unevenness: mean(seeds.map((use) => use.expert_unevenness)),
      expert_gini: mean(seeds.map((use) => use.expert_gini)),
      hottestShare: known((use) => use.hottest?.[0]?.share),
    };
  });
}

/**
 * The architectures that no other beats on a cost: lower mean loss at a cost that is as low. Costs within `tolerance` are alike.
 *
 * @param options.cost Lower is better; a speed is given as its reciprocal.
 */
export function paretoFront<Value>(
  values: readonly Value[],
  options: {
    readonly cost: (value: Value) => number;
    readonly loss: (value: Value) => number;
    readonly tolerance?: number;
  },
): readonly Value[] {
  const { cost, loss, tolerance = 0.01 } = options;
  return values.filter((value) =>
    !values.some((other) =>
      loss(other) < loss(value) && cost(other) <= (1 + tolerance) * cost(value)
    )
  );
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
