/**
 * `report` of Sparse Expansion: figures, tables and words, as one page, as Markdown and as a paper.
 *
 * Inputs by name, each optional: `model`, `calibrate`, `expand` (one a cell), `perplexity` (one a cell, and one of the dense model).
 *
 * @module
 */

import { defineStage } from "../../pipeline/stage.ts";
import { md, type Report } from "../report/document.ts";
import { composed, type ComposedReport, writeReport } from "../report/files.ts";
import { FigureList } from "../report/sections/context.ts";
import { compareCells } from "./cells.ts";
import { expansionReportSchema, type ExpansionReportSection } from "./config.ts";
import { type ExpansionData, readExpansion } from "./data.ts";
import type { ExpansionContext } from "./sections/context.ts";
import { neuronsSection, sizesSection } from "./sections/inside.ts";
import { lead, runSection } from "./sections/overview.ts";
import { perplexitySections } from "./sections/perplexity.ts";
import { reproduceSection } from "./sections/reproduce.ts";

/** The stage. */
export const expansionReport = defineStage<ExpansionReportSection>({
  name: "report",
  description:
    "Draws figures and tables of Sparse Expansion and writes report.html, report.md and report.pdf",
  module: import.meta.url,
  params: expansionReportSchema,
  outputs: { report: "directory" },
  readsMeasured: true,
  async run({ params, inputs, output, progress, log, signal }) {
    const bar = progress(1, { unit: "report" });
    const composition = await composeExpansionReport(readExpansion(inputs), params);
    signal.throwIfAborted();
    const written = await writeReport(output("report"), composition, params);
    bar.update(1);
    log.info(`Wrote ${written} and ${composition.figures} figures`);
  },
});

/** The report that the stage writes, without writing it. */
export async function composeExpansionReport(
  data: ExpansionData,
  params: ExpansionReportSection,
): Promise<ComposedReport> {
  const figures = new FigureList({ pngScale: params.png_scale });
  const context: ExpansionContext = { data, comparison: compareCells(data), figures };
  const document: Report = {
    title: params.title,
    lead: lead(context),
    sections: [
      runSection(context),
      ...await perplexitySections(context),
      ...await neuronsSection(context),
      ...await sizesSection(context),
      reproduceSection(context),
    ],
    colophon:
      md`Method: Sawmya, Kong, Markov, Alistarh and Shavit, "Wasserstein Distances, Neuronal Entanglement, and Sparsity" (ICLR 2025, arXiv 2405.15756); pruning by SparseGPT (arXiv 2301.00774). Every figure has its data and specification beside it, in \`figures/\`. Licence: AGPL-3.0.`,
  };
  return await composed(document, figures);
}
