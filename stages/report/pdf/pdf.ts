/**
 * The report as a paper in PDF: the same tree as the page and the Markdown, set by Typst. Tagged, with bookmarks and
 * figures as vectors; the same bytes for the same report.
 *
 * `paper.typ` says how it looks. It reads the tree as JSON, so no text of a report is ever source.
 *
 * @module
 */

import type { Block, FigureBlock, Report, TableBlock } from "../document.ts";
import { columnWeights } from "./columns.ts";
import { drawable } from "./glyphs.ts";
import paper from "./paper.typ" with { type: "text" };
import { typeset } from "./typesetter.ts";

/** Width of the text in points. */
const TEXT_WIDTH = 476;

/** The largest drawing in points: into the margins, and as high as leaves room for a caption. */
const LARGEST = { width: 552, height: 540 };

/** A drawing is set smaller where it then leaves room for another on its page: to this height, or this factor. */
const SMALLER = { height: 290, factor: 0.8 };

/** Points of a pixel: text of 12 pixels is set in 9 points. */
const POINTS_PER_PIXEL = 0.75;

/** A table of at most so many rows and characters is not divided between pages. */
const TOGETHER = { rows: 10, characters: 1500 };

/**
 * Renders the whole report.
 *
 * @throws {Error} When the tree has a node that the paper has no form for, or a drawing says no size.
 */
export async function renderPdf(report: Report): Promise<Uint8Array<ArrayBuffer>> {
  const tree = {
    width: TEXT_WIDTH,
    title: report.title,
    lead: report.lead.nodes,
    sections: report.sections.map(({ title, blocks }) => ({ title, blocks: blocks.map(part) })),
    colophon: report.colophon.nodes,
  };
  const json = JSON.stringify(
    tree,
    (_, value) => typeof value === "string" ? drawable(value) : value,
  );
  const drawings = report.sections.flatMap(({ blocks }) => blocks)
    .filter((block) => block.kind === "figure")
    .map(({ figure }) => [drawing(figure.name), figure.svg] as const);
  return await typeset(paper, new Map([...drawings, ["/report.json", json]]));
}

/** Path under which the typesetter finds a drawing. */
const drawing = (name: string) => `/figures/${name}.svg`;

/** A part of a section as `paper.typ` reads it. */
function part(block: Block) {
  switch (block.kind) {
    case "prose":
      return block;
    case "table":
      return table(block);
    case "figure":
      return figure(block);
  }
}

function table({ kind, title, header, rows, numbersFrom = header.length }: TableBlock) {
  const characters = rows.flat().reduce((sum, cell) => sum + cell.length, 0);
  return {
    kind,
    title,
    header,
    rows,
    numbersFrom,
    columns: columnWeights([header, ...rows], { width: TEXT_WIDTH }),
    whole: rows.length <= TOGETHER.rows && characters <= TOGETHER.characters,
  };
}

function figure({ kind, figure, number, title, alt, caption, provenance }: FigureBlock) {
  const { name, svg, sources } = figure;
  return {
    kind,
    drawing: drawing(name),
    width: drawnWidth(svg, name),
    number,
    title,
    alt,
    caption: caption.nodes,
    provenance,
    files: ["svg", ...Object.keys(sources)].map((extension) => `figures/${name}.${extension}`),
  };
}

/** Width of a drawing on the page, in points. */
function drawnWidth(svg: string, name: string): number {
  const side = (side: string) =>
    Number(new RegExp(`^<svg[^>]* ${side}="([\\d.]+)"`).exec(svg)?.[1]) * POINTS_PER_PIXEL;
  const [width, height] = [side("width"), side("height")];
  if (!(width > 0 && height > 0)) throw new Error(`The drawing ${name} says no width and height`);
  const smaller = Math.max(SMALLER.factor, SMALLER.height / height);
  return width * Math.min(1, smaller, LARGEST.width / width, LARGEST.height / height);
}
