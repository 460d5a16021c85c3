/**
 * The report as Markdown for a repository's browser, figures as relative images.
 *
 * @module
 */

import type { Image, Paragraph, Root, RootContent } from "mdast";
import { gfmTableToMarkdown } from "mdast-util-gfm-table";
import { toMarkdown } from "mdast-util-to-markdown";
import { type Block, type Report, tableNodes } from "./document.ts";

/** Renders the whole report. */
export function renderMarkdown(report: Report): string {
  const children: RootContent[] = [
    heading(1, report.title),
    ...report.lead.nodes,
    ...report.sections.flatMap((section) => [
      heading(2, section.title),
      ...section.blocks.flatMap(blockNodes),
    ]),
    { type: "thematicBreak" },
    ...report.colophon.nodes,
  ];
  const root: Root = { type: "root", children };
  return toMarkdown(root, {
    extensions: [gfmTableToMarkdown({ tablePipeAlign: false })],
    bullet: "-",
    emphasis: "_",
    rule: "-",
  });
}

function blockNodes(block: Block): readonly RootContent[] {
  switch (block.kind) {
    case "prose":
      return block.nodes;
    case "table":
      return tableNodes(block);
    case "figure": {
      const { name, pngScale, sources } = block.figure;
      const image: Image = { type: "image", url: `figures/${name}.svg`, alt: block.alt };
      const files = [
        `${name}@${pngScale}x.png`,
        ...Object.keys(sources).map((ext) => `${name}.${ext}`),
      ];
      const title: Paragraph = {
        type: "paragraph",
        children: [{
          type: "strong",
          children: [{ type: "text", value: `Figure ${block.number}. ${block.title}.` }],
        }],
      };
      const links: Paragraph = {
        type: "paragraph",
        children: [
          { type: "emphasis", children: [{ type: "text", value: block.provenance }] },
          { type: "text", value: " Files: " },
          ...files.flatMap((file, i) => [
            ...(i > 0 ? [{ type: "text" as const, value: ", " }] : []),
            {
              type: "link" as const,
              url: `figures/${file}`,
              children: [{ type: "text" as const, value: file }],
            },
          ]),
        ],
      };
      return [{ type: "paragraph", children: [image] }, title, ...block.caption.nodes, links];
    }
  }
}

function heading(depth: 1 | 2, text: string): RootContent {
  return { type: "heading", depth, children: [{ type: "text", value: text }] };
}
