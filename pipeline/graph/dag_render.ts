/**
 * Pictures of a graph: text, Mermaid, SVG.
 *
 * @module
 */

import { foldNames, foldNodes } from "./fold.ts";
import type { Graph, GraphNode } from "./graph.ts";
import { type Layout, layOut } from "./layout.ts";

/** Lists each node and the nodes that it reads; nodes of one stage that read the same share a line. */
export function renderText(graph: Graph): string {
  const lines = graph.nodes.map((node) => {
    const inputs = Object.entries(node.inputs).filter(([, list]) => list.length > 0)
      .map(([name, list]) => `${name}: ${foldNames(list.map((input) => input.name)).join(", ")}`);
    return { node: node.name, stage: node.stage.name, state: "", note: inputs.join("; ") };
  });
  return foldNodes(lines).map(({ node, note }) => note === "" ? node : `${node}  ←  ${note}`)
    .join("\n");
}

/** A Mermaid flowchart. */
export function renderMermaid(graph: Graph): string {
  const id = new Map(graph.nodes.map((node, i) => [node, `n${i}`]));
  const lines = ["flowchart LR"];
  for (const node of graph.nodes) lines.push(`  ${id.get(node)}["${escapeXml(node.name)}"]`);
  for (const node of graph.nodes) {
    for (const input of node.dependencies) lines.push(`  ${id.get(input)} --> ${id.get(node)}`);
  }
  return lines.join("\n");
}

const FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace";

/** An SVG image, laid out in layers from left to right; `gpu` nodes have a heavier border. */
export function renderSvg(graph: Graph): string {
  const { width, height, ...layout } = layOut(
    graph.nodes.map(({ name, dependencies }) => ({
      name,
      inputs: dependencies.map((input) => input.name),
    })),
  );
  const edges = layout.edges.map((points) => {
    const path = points.map(({ x, y }, i) => `${i === 0 ? "M" : "L"}${round(x)} ${round(y)}`);
    return `<path d="${path.join(" ")}" class="edge" marker-end="url(#arrow)"/>`;
  });
  const boxes = graph.nodes.map((node, i) => box(node, layout.nodes[i]!));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${round(width)} ${round(height)}" ` +
    `width="${round(width)}" height="${
      round(height)
    }" font-family="${FONT}" font-size="12" role="img">`,
    "<title>Stages and what they read</title>",
    "<style>.edge{fill:none;stroke:#8a8f98}.node{fill:#f4f6f8;stroke:#5b6470}.gpu{stroke:#1f6f5c;stroke-width:2}" +
    "text{fill:#1c2128}@media(prefers-color-scheme:dark){.node{fill:#262c36}.edge{stroke:#6b7480}text{fill:#e6edf3}}</style>",
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">' +
    '<path d="M0 0L8 4L0 8z" fill="#8a8f98"/></marker></defs>',
    ...edges,
    ...boxes,
    "</svg>",
  ].join("\n");
}

function box(node: GraphNode, at: Layout["nodes"][number]) {
  const { x, y, width, height } = at;
  const gpu = node.stage.resource === "gpu" ? " gpu" : "";
  return `<g><title>${escapeXml(node.stage.description)}</title>` +
    `<rect x="${round(x - width / 2)}" y="${
      round(y - height / 2)
    }" width="${width}" height="${height}" ` +
    `rx="6" class="node${gpu}"/>` +
    `<text x="${round(x)}" y="${round(y + 4)}" text-anchor="middle">${
      escapeXml(node.name)
    }</text></g>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
