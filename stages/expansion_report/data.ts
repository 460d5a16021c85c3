/**
 * The data of the report of Sparse Expansion: the inputs of its node, checked.
 *
 * @module
 */

import type { NodeOutput } from "../../pipeline/stage.ts";
import { type TextsResult, textsSchema } from "../calibrate/result.ts";
import { type NeuronsResult, neuronsSchema } from "../expand/neurons_result.ts";
import {
  type ExpandTimings,
  expandTimingsSchema,
  type ExpansionResult,
  expansionSchema,
} from "../expand/result.ts";
import { parseOutput } from "../parse_output.ts";
import {
  type CellLabels,
  cellLabelsSchema,
  type PerplexityResult,
  perplexitySchema,
  type PerplexityTimings,
  perplexityTimingsSchema,
} from "../perplexity/result.ts";
import { type DenseModelResult, denseModelSchema } from "../pretrained/result.ts";
import { measured, type Published, published } from "../report/data.ts";

/** An expanded model. */
export interface ExpandedCell extends Published<ExpansionResult> {
  readonly cell: string;
  readonly neurons: NeuronsResult;
  readonly timings: ExpandTimings;
}

/** A measured model: the dense one, or an expanded one. */
export interface MeasuredCell extends Published<PerplexityResult> {
  readonly labels: CellLabels;
  readonly timings: PerplexityTimings;
}

/** Everything that the report is drawn from. */
export interface ExpansionData {
  readonly model: Published<DenseModelResult> | undefined;
  readonly texts: Published<TextsResult> | undefined;
  /** In the order of the experiment. */
  readonly expanded: readonly ExpandedCell[];
  readonly measured: readonly MeasuredCell[];
}

/** Reads the inputs of the report's node: `model`, `calibrate`, `expand` (one a cell), `perplexity` (one a cell and one of the dense model). */
export function readExpansion(
  inputs: Readonly<Record<string, readonly NodeOutput[]>>,
): ExpansionData {
  const [model] = inputs.model ?? [];
  const [texts] = inputs.calibrate ?? [];
  return {
    model: model && published(model, "model", denseModelSchema),
    texts: texts && published(texts, "texts", textsSchema),
    expanded: (inputs.expand ?? []).map((node) => ({
      ...published(node, "expansion", expansionSchema),
      cell: labelsOf(node).cell,
      neurons: published(node, "neurons", neuronsSchema).result,
      timings: measured(node, "timings", expandTimingsSchema),
    })),
    measured: (inputs.perplexity ?? []).map((node) => ({
      ...published(node, "perplexity", perplexitySchema),
      labels: labelsOf(node),
      timings: measured(node, "timings", perplexityTimingsSchema),
    })),
  };
}

function labelsOf({ labels, name }: NodeOutput): CellLabels {
  return parseOutput({ ...labels }, { schema: cellLabelsSchema, what: `labels of ${name}` });
}
