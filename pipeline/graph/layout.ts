/**
 * Where the nodes of a graph are drawn.
 *
 * @module
 */

import dagre from "@dagrejs/dagre";

const CHARACTER_WIDTH = 7.3;
const HEIGHT = 30;

/** Places in a drawing, pixels. */
export interface Layout {
  readonly width: number;
  readonly height: number;
  /** Centres and sizes of boxes. */
  readonly nodes: readonly {
    readonly name: string;
    readonly x: number;
    readonly y: number;
    readonly width: number;
    readonly height: number;
  }[];
  /** Points along each edge. */
  readonly edges: readonly (readonly { readonly x: number; readonly y: number }[])[];
}

/** Lays nodes out in layers from left to right, each behind those that it reads. */
export function layOut(
  nodes: readonly { readonly name: string; readonly inputs: readonly string[] }[],
): Layout {
  const layout = new dagre.graphlib.Graph();
  layout.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 48, marginx: 12, marginy: 12 });
  layout.setDefaultEdgeLabel(() => ({}));
  const id = new Map(nodes.map(({ name }, i) => [name, `n${i}`]));
  for (const { name } of nodes) {
    const width = Math.ceil(name.length * CHARACTER_WIDTH) + 20;
    layout.setNode(id.get(name)!, { width, height: HEIGHT });
  }
  for (const { name, inputs } of nodes) {
    for (const input of inputs) {
      const from = id.get(input);
      if (from !== undefined) layout.setEdge(from, id.get(name)!);
    }
  }
  dagre.layout(layout);
  const { width = 0, height = 0 } = layout.graph();
  return {
    width,
    height,
    nodes: nodes.map(({ name }) => {
      const { x = 0, y = 0, width, height } = layout.node(id.get(name)!);
      return { name, x, y, width, height };
    }),
    edges: layout.edges().map((edge) => layout.edge(edge).points ?? []),
  };
}
