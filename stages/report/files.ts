/**
 * The files of a report: the page, the Markdown, and each figure as a drawing, a raster image, its data and its specification.
 *
 * @module
 */

import { join } from "@std/path";
import type { Report } from "./document.ts";
import { renderHtml } from "./html.ts";
import { renderMarkdown } from "./markdown.ts";
import type { FigureList } from "./sections/context.ts";

/** Text or bytes by path inside a report's folder. */
export type ReportFiles = ReadonlyMap<string, string | Uint8Array<ArrayBuffer>>;

/** A finished report. */
export interface ComposedReport {
  readonly files: ReportFiles;
  /** Number of figures. */
  readonly figures: number;
}

/** Renders a report with the figures that were drawn for it. */
export async function reportFiles(document: Report, figures: FigureList): Promise<ReportFiles> {
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
  return files;
}

/** Writes the files into a folder. */
export async function writeReport(folder: string, files: ReportFiles): Promise<void> {
  await Deno.mkdir(join(folder, "figures"), { recursive: true });
  for (const [path, content] of files) {
    const target = join(folder, path);
    if (typeof content === "string") await Deno.writeTextFile(target, content);
    else await Deno.writeFile(target, content);
  }
}
