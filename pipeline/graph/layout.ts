/**
 * Where the nodes of a graph are drawn.
 *
 * @module
 */

import dagre from "@dagrejs/dagre";

const CHARACTER_WIDTH = 7.3;
const HEIGHT = 30;
const MARGIN = 12;

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
  layout.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 48 });
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
  const boxes = nodes.map(({ name }) => {
    const { x = 0, y = 0, width, height } = layout.node(id.get(name)!);
    return { name, x, y, width, height };
  });
  const edges = layout.edges().map((edge) => layout.edge(edge).points ?? []);
  return framed(boxes, edges);
}

/** Moves a drawing to the upper left: an edge may leave the frame that the boxes have. */
function framed(boxes: Layout["nodes"], edges: Layout["edges"]): Layout {
  let [left, top, right, bottom] = [Infinity, Infinity, 0, 0];
  const include = (x: number, y: number) => {
    left = Math.min(left, x);
    top = Math.min(top, y);
    right = Math.max(right, x);
    bottom = Math.max(bottom, y);
  };
  for (const { x, y, width, height } of boxes) {
    include(x - width / 2, y - height / 2);
    include(x + width / 2, y + height / 2);
  }
  for (const points of edges) for (const { x, y } of points) include(x, y);
  if (boxes.length === 0) return { width: 0, height: 0, nodes: [], edges: [] };
  const moved = <Place extends { x: number; y: number }>(place: Place) => ({
    ...place,
    x: place.x - left + MARGIN,
    y: place.y - top + MARGIN,
  });
  return {
    width: right - left + 2 * MARGIN,
    height: bottom - top + 2 * MARGIN,
    nodes: boxes.map(moved),
    edges: edges.map((points) => points.map(moved)),
  };
}
