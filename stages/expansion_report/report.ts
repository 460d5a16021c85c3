/**
 * The stage `report` of Sparse Expansion: perplexity, storage and work of every cell, as one page and as Markdown.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { defineStage } from "../../pipeline/stage.ts";
import { md, type Report } from "../report/document.ts";
import { renderHtml } from "../report/html.ts";
import { renderMarkdown } from "../report/markdown.ts";
import { type ExpansionData, readExpansionData } from "./data.ts";
import { perplexitySection } from "./sections.ts";

const paramsSchema = z.strictObject({
  title: z.string().min(1),
  png_scale: z.number().min(1).max(8),
});

/** Parameters of the stage. */
export type ExpansionReportParams = z.infer<typeof paramsSchema>;

/** The `report` stage: `report/report.html` and `report/report.md`. */
export const expansionReport = defineStage<ExpansionReportParams>({
  name: "report",
  description: "Write report.html and report.md of the expanded models",
  module: import.meta.url,
  params: paramsSchema,
  outputs: { report: "directory" },
  readsMeasured: true,
  async run({ params, inputs, output, log, signal }) {
    const data = readExpansionData(inputs);
    signal.throwIfAborted();
    const document = composeExpansionReport(data, params);
    const folder = output("report");
    await Deno.writeTextFile(join(folder, "report.html"), await renderHtml(document));
    await Deno.writeTextFile(join(folder, "report.md"), renderMarkdown(document));
    log.info("Wrote report.html and report.md");
  },
});

/** The whole report. */
export function composeExpansionReport(
  data: ExpansionData,
  { title }: Pick<ExpansionReportParams, "title">,
): Report {
  const { model, texts, cells } = data;
  return {
    title,
    lead:
      md`**${model.name}** (${model.family}, ${model.parameters} parameters, of which ${model.mlp_parameters} in the matrices of its MLPs), measured on ${texts.evaluation.windows} windows of ${texts.evaluation.length} tokens of ${texts.evaluation.dataset}, and expanded in ${
        cells.length - 1
      } ways for ${texts.calibration.windows} windows of ${texts.calibration.length} tokens of ${texts.calibration.dataset}.`,
    sections: [perplexitySection(data)],
    colophon:
      md`Sparse Expansion: Sawmya, Kong, Markov, Alistarh, Shavit, arXiv 2405.15756. Licence: AGPL-3.0.`,
  };
}
