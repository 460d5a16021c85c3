/**
 * The files of a report: the page, the Markdown, the paper, and each figure as a drawing, a raster image, its data and its
 * specification.
 *
 * @module
 */

import { join } from "@std/path";
import type { Report } from "./document.ts";
import { renderHtml } from "./html.ts";
import { renderMarkdown } from "./markdown.ts";
import { renderPdf } from "./pdf/pdf.ts";
import type { FigureList } from "./sections/context.ts";

/** Text or bytes by path inside a report's folder. */
export type ReportFiles = ReadonlyMap<string, string | Uint8Array<ArrayBuffer>>;

/** A finished report. */
export interface ComposedReport {
  readonly document: Report;
  /** All but the paper, which takes seconds and is set when the report is written. */
  readonly files: ReportFiles;
  /** Number of figures. */
  readonly figures: number;
}

/** Renders a report with the figures that were drawn for it. */
export async function composed(document: Report, figures: FigureList): Promise<ComposedReport> {
  const files = new Map<string, string | Uint8Array<ArrayBuffer>>();
  files.set("report.html", await renderHtml(document));
  files.set("report.md", renderMarkdown(document));
  for (const { name, pngScale, svg, png, sources } of figures.rendered) {
    files.set(`figures/${name}.svg`, svg);
    files.set(`figures/${name}@${pngScale}x.png`, png);
    for (const [extension, text] of Object.entries(sources)) {
      files.set(`figures/${name}.${extension}`, text);
    }
  }
  return { document, files, figures: figures.rendered.length };
}

/**
 * Writes a report into a folder.
 *
 * @param options.pdf Whether `report.pdf` is written, too.
 * @returns The names of its renderings, for a line of a log.
 */
export async function writeReport(
  folder: string,
  report: ComposedReport,
  options: { pdf: boolean },
): Promise<string> {
  const files = new Map(report.files);
  if (options.pdf) files.set("report.pdf", await renderPdf(report.document));
  await Deno.mkdir(join(folder, "figures"), { recursive: true });
  for (const [path, content] of files) {
    const target = join(folder, path);
    if (typeof content === "string") await Deno.writeTextFile(target, content);
    else await Deno.writeFile(target, content);
  }
  return [...files.keys()].filter((path) => !path.includes("/")).join(", ");
}
