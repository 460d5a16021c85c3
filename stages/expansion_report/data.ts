/**
 * The inputs of the report of Sparse Expansion, checked.
 *
 * @module
 */

import type { NodeOutput } from "../../pipeline/stage.ts";
import { type TextsResult, textsSchema } from "../calibrate/result.ts";
import { type ExpansionResult, expansionSchema } from "../expand/result.ts";
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

/** One cell. */
export interface MeasuredCell {
  readonly labels: CellLabels;
  readonly result: PerplexityResult;
  readonly timings: PerplexityTimings;
  /** None for the dense model. */
  readonly expansion: ExpansionResult | undefined;
}

/** Everything that the report says. */
export interface ExpansionData {
  readonly model: DenseModelResult;
  readonly texts: TextsResult;
  /** The dense model first. */
  readonly cells: readonly MeasuredCell[];
}

/** Reads the inputs of the report's node. */
export function readExpansionData(
  inputs: Readonly<Record<string, readonly NodeOutput[]>>,
): ExpansionData {
  const [model] = inputs.model ?? [];
  const [calibrate] = inputs.calibrate ?? [];
  if (!model || !calibrate) throw new Error("The report has no model or no texts");
  const expansions = new Map((inputs.expand ?? []).map((node) => [
    cellLabelsSchema.parse(node.labels).cell,
    parseOutput(node.json("expansion"), { schema: expansionSchema, what: "expansion" }),
  ]));
  return {
    model: parseOutput(model.json("model"), { schema: denseModelSchema, what: "model" }),
    texts: parseOutput(calibrate.json("texts"), { schema: textsSchema, what: "texts" }),
    cells: (inputs.perplexity ?? []).map((node) => {
      const labels = cellLabelsSchema.parse(node.labels);
      return {
        labels,
        result: parseOutput(node.json("perplexity"), {
          schema: perplexitySchema,
          what: "perplexity",
        }),
        timings: parseOutput(node.measured("timings"), {
          schema: perplexityTimingsSchema,
          what: "timings",
        }),
        expansion: expansions.get(labels.cell),
      };
    }),
  };
}
