/**
 * Figures to files: SVG, PNG (at twice the size unless told otherwise), the table as CSV and the specification, byte-identical from run to run.
 *
 * @module
 */

import { initWasm, Resvg } from "@resvg/resvg-wasm";
import { stringify } from "@std/csv";
import { parse, resetSVGDefIds, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { Chart, Figure, Row } from "./figure.ts";
import { FONT_FAMILY, fontData, packageFile, useFontMetrics } from "./fonts.ts";
import { COLOR, VEGA_CONFIG } from "./style.ts";

/** The files of one figure. */
export interface RenderedFigure {
  /** File name without extension. */
  readonly name: string;
  /** Drawing with a white background. */
  readonly svg: string;
  /** Pixels a unit of the raster image. */
  readonly pngScale: number;
  /** The same, rasterised. */
  readonly png: Uint8Array<ArrayBuffer>;
  /** Extension of each further file and its text: `csv` and `vl.json`, or `json` for a diagram. */
  readonly sources: Readonly<Record<string, string>>;
}

const RASTERIZER_FILE = packageFile("@resvg/resvg-wasm/index_bg.wasm");

/** Schema that the written specifications name. */
const VEGA_LITE_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json";

/**
 * The table as CSV. Numbers are written in full, so that the file has exactly the numbers drawn.
 *
 * @throws {Error} When the table is empty, or a row's columns differ from the first row's.
 */
function toCsv(name: string, rows: readonly Row[]): string {
  const columns = Object.keys(rows[0] ?? {});
  if (columns.length === 0) throw new Error(`Figure ${name} has no data`);
  for (const [i, row] of rows.entries()) {
    const own = Object.keys(row);
    if (own.length !== columns.length || !columns.every((c) => c in row)) {
      throw new Error(
        `Row ${i + 1} of figure ${name} has the columns ${own.join(", ")}; expected ${
          columns.join(", ")
        }`,
      );
    }
  }
  return stringify(rows, { columns }).replaceAll("\r\n", "\n");
}

/**
 * Draws a figure.
 *
 * @throws {Error} When the specification is faulty: warnings of the compiler count as errors.
 */
export async function renderFigure(
  figure: Figure,
  options: { pngScale?: number } = {},
): Promise<RenderedFigure> {
  const { name } = figure;
  const { pngScale = 2 } = options;
  if (figure.kind === "diagram") {
    const sources = { json: JSON.stringify(figure.description, null, 2) + "\n" };
    return { name, pngScale, svg: figure.svg, png: await rasterize(figure.svg, pngScale), sources };
  }
  const csv = toCsv(name, figure.rows);
  const svg = await drawChart(figure, csv);
  const written = {
    $schema: VEGA_LITE_SCHEMA,
    description: figure.alt,
    data: { url: `${name}.csv`, format: csvFormat(figure.rows) },
    ...figure.spec,
    config: VEGA_CONFIG,
  };
  const sources = { "csv": csv, "vl.json": JSON.stringify(written, null, 2) + "\n" };
  return { name, pngScale, svg, png: await rasterize(svg, pngScale), sources };
}

/** Says which columns are numbers, so that filters compare numbers whether a column is drawn or not. */
function csvFormat(
  rows: readonly Row[],
): { type: "csv"; parse: Record<string, "number" | "string"> } {
  const kinds = Object.keys(rows[0] ?? {}).map((column) => {
    const texts = rows.some((row) => typeof row[column] === "string");
    return [column, texts ? "string" : "number"] as const;
  });
  return { type: "csv", parse: Object.fromEntries(kinds) };
}

/** Drawn from the text of the CSV itself, so that file and figure cannot differ. */
async function drawChart(figure: Chart, csv: string): Promise<string> {
  useFontMetrics();
  resetSVGDefIds();
  const spec = {
    data: { values: csv, format: csvFormat(figure.rows) },
    ...figure.spec,
  } as unknown as TopLevelSpec;
  const refuse = (...messages: readonly unknown[]) => {
    throw new Error(`Figure ${figure.name}: ${messages.join(" ")}`);
  };
  const logger = {
    level: () => logger,
    error: refuse,
    warn: refuse,
    info: () => logger,
    debug: () => logger,
  };
  // deno-lint-ignore no-explicit-any -- the logger's overloads cannot be written as one function
  const compiled = compile(spec, { config: VEGA_CONFIG, logger: logger as any }).spec;
  const view = new View(parse(compiled), { renderer: "none" });
  try {
    return scopeIds(await view.toSVG(), figure.name) + "\n";
  } finally {
    view.finalize();
  }
}

/** Identifiers count from zero in every drawing; several of them share a page. */
function scopeIds(svg: string, name: string): string {
  return svg.replaceAll(/(\bid="|url\(#)/g, `$1${name}-`);
}

/** The rasteriser, loaded once: compiled code that needs no native library, so its bytes are the same on every machine. */
let rasterizer: Promise<void> | undefined;

async function rasterize(svg: string, scale: number): Promise<Uint8Array<ArrayBuffer>> {
  await (rasterizer ??= Deno.readFile(RASTERIZER_FILE).then((code) => initWasm(code)));
  const image = new Resvg(svg, {
    font: { fontBuffers: fontData(), loadSystemFonts: false, defaultFontFamily: FONT_FAMILY },
    fitTo: { mode: "zoom", value: scale },
    background: COLOR.paper,
  });
  try {
    return Uint8Array.from(image.render().asPng());
  } finally {
    image.free();
  }
}
