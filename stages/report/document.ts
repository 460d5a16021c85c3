/**
 * The report as a tree of Markdown nodes, which one renderer writes as Markdown and another as HTML: both say the same,
 * and both escape.
 *
 * Prose is written with {@linkcode md}: the literal parts are Markdown, a value that is put in is text, whatever it
 * contains.
 *
 * @module
 */

import type { BlockContent, PhrasingContent, RootContent, Table, TableCell } from "mdast";
import { fromMarkdown } from "mdast-util-from-markdown";
import { gfmTableFromMarkdown } from "mdast-util-gfm-table";
import { gfmTable } from "micromark-extension-gfm-table";
import type { RenderedFigure } from "./figures/render.ts";

/** Prose and tables. */
export interface Prose {
  readonly kind: "prose";
  readonly nodes: readonly RootContent[];
}

/** A figure with its caption. */
export interface FigureBlock {
  readonly kind: "figure";
  readonly figure: RenderedFigure;
  readonly number: number;
  readonly title: string;
  readonly alt: string;
  readonly caption: Prose;
  readonly provenance: string;
}

/** A table with its caption. */
export interface TableBlock {
  readonly kind: "table";
  readonly title: string;
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Columns that hold numbers are aligned to the right: from this one on. */
  readonly numbersFrom?: number;
}

/** A part of a section. */
export type Block = Prose | FigureBlock | TableBlock;

/** A section with a heading. */
export interface Section {
  /** Anchor. */
  readonly id: string;
  readonly title: string;
  readonly blocks: readonly Block[];
}

/** The report. */
export interface Report {
  readonly title: string;
  readonly lead: Prose;
  readonly sections: readonly Section[];
  /** Last lines: its origin. */
  readonly colophon: Prose;
}

/** A value put into prose: text, a number, or a finished inline node. */
type Inserted = string | number | PhrasingContent;

/** Placeholders are private-use characters; literal prose has none, and values are put in after parsing. */
const FIRST = 0xe000;
const PLACEHOLDER = /[\ue000-\uf8ff]/;

/**
 * Prose from a template: literal parts are Markdown, values are text.
 *
 * @example
 * ```ts
 * import { md } from "./document.ts";
 * const prose = md`Loss of **${"<b>"}** fell.`;
 * console.assert(prose.nodes[0]?.type === "paragraph");
 * ```
 */
export function md(literals: TemplateStringsArray, ...values: readonly Inserted[]): Prose {
  const source = literals.map((part, i) =>
    i < values.length ? part + String.fromCharCode(FIRST + i) : part
  ).join("").replaceAll(/\n[ \t]+/g, "\n").replaceAll(/([\d\ue000-\uf8ff]) %/g, "$1\u00a0%");
  const tree = fromMarkdown(source, {
    extensions: [gfmTable()],
    mdastExtensions: [gfmTableFromMarkdown()],
  });
  const nodes = tree.children.map((node) => insert(node, values) as RootContent);
  return { kind: "prose", nodes };
}

/** Several pieces of prose as one. */
export function join(...parts: readonly (Prose | undefined)[]): Prose {
  return { kind: "prose", nodes: parts.flatMap((p) => p?.nodes ?? []) };
}

/** A node of the parsed tree, as far as putting values in needs to know it. */
interface AnyNode {
  readonly type: string;
  readonly value?: string;
  readonly children?: readonly AnyNode[];
  readonly position?: unknown;
}

function insert(node: AnyNode, values: readonly Inserted[]): AnyNode {
  const { position: _, ...rest } = node;
  if (node.children) {
    return { ...rest, children: node.children.flatMap((child) => insertInto(child, values)) };
  }
  return node.value === undefined ? rest : { ...rest, value: plain(node.value, values) };
}

function insertInto(node: AnyNode, values: readonly Inserted[]): readonly AnyNode[] {
  if (node.type !== "text" || !PLACEHOLDER.test(node.value!)) return [insert(node, values)];
  const parts: AnyNode[] = [];
  let text = "";
  for (const char of node.value!) {
    const value = PLACEHOLDER.test(char) ? values[char.charCodeAt(0) - FIRST] : char;
    if (typeof value === "object") {
      if (text) parts.push({ type: "text", value: text });
      text = "";
      parts.push(value);
    } else text += value;
  }
  if (text) parts.push({ type: "text", value: text });
  return parts;
}

function plain(text: string, values: readonly Inserted[]): string {
  return [...text].map((char) => {
    const value = PLACEHOLDER.test(char) ? values[char.charCodeAt(0) - FIRST] : char;
    return typeof value === "object" && "value" in value ? value.value : String(value);
  }).join("");
}

/** A table block as Markdown nodes. */
export function tableNodes(table: TableBlock): readonly RootContent[] {
  const title: BlockContent = {
    type: "paragraph",
    children: [{ type: "strong", children: [{ type: "text", value: table.title }] }],
  };
  return [title, tableNode(table)];
}

/** A table without its title. */
function tableNode(
  { header, rows, numbersFrom = Infinity }: Pick<TableBlock, "header" | "rows" | "numbersFrom">,
): Table {
  const row = (cells: readonly string[]) => ({
    type: "tableRow" as const,
    children: cells.map((value): TableCell => ({
      type: "tableCell",
      children: [{ type: "text", value }],
    })),
  });
  return {
    type: "table",
    align: header.map((_, i) => i >= numbersFrom ? "right" : "left"),
    children: [row(header), ...rows.map(row)],
  };
}
