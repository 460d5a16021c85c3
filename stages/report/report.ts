/**
 * `report`: a run's figures, tables and words, as one page, as Markdown and as a paper.
 *
 * Writes `report.html` (self-contained), `report.md`, `report.pdf`, and `figures/` with each figure as SVG, PNG, its data and its
 * specification. Inputs by name, each optional: `download`, `dataset`, `train` (one a model), `evaluate`, `ablate`,
 * `benchmark`. A section whose input is absent says so.
 *
 * @module
 */

import { z } from "zod";
import { kindModules, type LoadOptions } from "../../model/load.ts";
import { defineStage } from "../../pipeline/stage.ts";
import { readInputs, type ReportData } from "./data.ts";
import { md, type Report } from "./document.ts";
import { runFacts } from "./facts.ts";
import { composed, type ComposedReport, writeReport } from "./files.ts";
import { ablationSection } from "./sections/ablations.ts";
import { architectureSections } from "./sections/architectures.ts";
import { budgetSections } from "./sections/budget.ts";
import { claimsSection } from "./sections/claims.ts";
import { FigureList, type SectionContext } from "./sections/context.ts";
import { executionSection } from "./sections/execution.ts";
import { latentLawSections } from "./sections/latent_law.ts";
import { lead, runSection } from "./sections/run.ts";
import { speedSections } from "./sections/speed.ts";
import { cacheSection, memorySection, modelSection, parametersSection } from "./sections/theory.ts";
import { trainingSection, usageSection } from "./sections/training.ts";
import { reportSchema, type ReportSection } from "./config.ts";
import { loadPaper, PAPER_MODULES } from "./theory/arithmetic.ts";
import { PAPER_REFERENCE } from "./theory/paper.ts";

/** The \`model\` section of a \`train\` node. */
const modelledSchema = z.object({ model: z.unknown() });

/** The stage. */
export const report = defineStage<ReportSection>({
  name: "report",
  description: "Draws figures and tables and writes report.html, report.md and report.pdf",
  module: import.meta.url,
  modules: ({ inputs }) => [
    ...PAPER_MODULES,
    ...(inputs.train ?? []).flatMap(({ params }) =>
      kindModules(modelledSchema.parse(params).model)
    ),
  ],
  params: reportSchema,
  outputs: { report: "directory" },
  readsMeasured: true,
  async run({ params, inputs, output, progress, assertInKey, log, signal }) {
    const data = await readInputs(inputs);
    signal.throwIfAborted();
    const bar = progress(1, { unit: "report" });
    const composition = await composeReport(data, params, { onLoad: assertInKey });
    signal.throwIfAborted();
    const written = await writeReport(output("report"), composition, params);
    bar.update(1);
    log.info(`Wrote ${written} and ${composition.figures} figures`);
  },
});

/** The report that the stage writes, without writing it. */
export async function composeReport(
  data: ReportData,
  params: ReportSection,
  options: LoadOptions = {},
): Promise<ComposedReport> {
  const figures = new FigureList({ pngScale: params.png_scale });
  const context: SectionContext = {
    data,
    facts: await runFacts(data, options),
    paper: await loadPaper(options),
    figures,
    latentTolerance: params.latent_tolerance,
    gpuHourPrice: params.gpu_hour_price,
  };
  const document: Report = {
    title: params.title,
    lead: lead(context),
    sections: [
      runSection(context),
      await trainingSection(context),
      await usageSection(context),
      await ablationSection(context),
      ...await architectureSections(context),
      ...await latentLawSections(context),
      await executionSection(context),
      ...speedSections(context),
      ...budgetSections(context),
      await modelSection(context),
      parametersSection(context),
      claimsSection(context),
      await memorySection(context),
      await cacheSection(context),
    ],
    colophon:
      md`Reproduction of ${PAPER_REFERENCE}. Every figure has its data and specification beside it, in \`figures/\`. Intervals are two-sided 95 % t-intervals over seeds. Licence: AGPL-3.0.`,
  };
  return await composed(document, figures);
}
