/**
 * Diagrams from a description: boxes and arrows, laid out by dagre, text measured with the figures' typeface.
 *
 * @module
 */

import dagre from "@dagrejs/dagre";
import type { JsonValue } from "../../../pipeline/stage.ts";
import type { Diagram } from "./figure.ts";
import { FONT_FAMILY, textWidth } from "./fonts.ts";
import { COLOR } from "./style.ts";

/** A box stands for a tensor that flows, a computation, or numbers that are stored and trained. */
type BoxKind = "data" | "compute" | "stored";

/** One box. */
export interface Box {
  /** Name that arrows use. */
  readonly id: string;
  /** First line, semi-bold. */
  readonly label: string;
  /** Further lines: equations, shapes. */
  readonly notes?: readonly string[];
  readonly kind: BoxKind;
  /** Frame that it stands in. */
  readonly group?: string;
}

/** One arrow, from box to box. */
export interface Arrow {
  /** Where it starts. */
  readonly from: string;
  /** Where it points. */
  readonly to: string;
  /** Words on it. */
  readonly label?: string;
  /** A dashed arrow passes something by: a residual, a choice. */
  readonly dashed?: boolean;
}

/** A diagram's description. */
export interface DiagramSpec {
  /** File name without extension. */
  readonly name: string;
  /** Heading of the caption. */
  readonly title: string;
  /** Text for a reader who cannot see it. */
  readonly alt: string;
  /** Where arrows mostly point. */
  readonly direction: "down" | "right";
  /** The boxes. */
  readonly boxes: readonly Box[];
  /** The arrows. */
  readonly arrows: readonly Arrow[];
  /** Frames by name, with their captions. */
  readonly groups?: Readonly<Record<string, string>>;
}

const LABEL_SIZE = 13;
const NOTE_SIZE = 11.5;
const LINE = 16;
const PAD = { x: 12, y: 8 };
const MARGIN = 18;

const FILL: Readonly<Record<BoxKind, string>> = {
  data: COLOR.paper,
  compute: COLOR.tint,
  stored: COLOR.warm,
};
const STROKE: Readonly<Record<BoxKind, string>> = {
  data: COLOR.muted,
  compute: COLOR.blue,
  stored: COLOR.orange,
};

interface Point {
  readonly x: number;
  readonly y: number;
}

interface Placed extends Point {
  readonly width: number;
  readonly height: number;
}

/**
 * Lays a diagram out and draws it.
 *
 * @throws {Error} When two boxes share a name, or an arrow or a frame names a box that is not there.
 */
export function diagram(spec: DiagramSpec): Diagram {
  validate(spec);
  const graph = new dagre.graphlib.Graph({ compound: true, multigraph: true });
  graph.setGraph({
    rankdir: spec.direction === "down" ? "TB" : "LR",
    nodesep: 26,
    ranksep: 34,
    marginx: MARGIN,
    marginy: MARGIN,
  });
  for (const name of Object.keys(spec.groups ?? {})) graph.setNode(`group:${name}`, {});
  for (const box of spec.boxes) {
    graph.setNode(box.id, { ...boxSize(box) });
    if (box.group !== undefined) graph.setParent(box.id, `group:${box.group}`);
  }
  for (const [i, arrow] of spec.arrows.entries()) {
    const width = arrow.label ? textWidth(arrow.label, NOTE_SIZE) + 10 : 0;
    const label = { width, height: arrow.label ? LINE : 0, labelpos: "c" };
    graph.setEdge(arrow.from, arrow.to, label, String(i));
  }
  dagre.layout(graph);
  const size = graph.graph() as unknown as { width: number; height: number };
  const parts = [
    ...Object.entries(spec.groups ?? {}).map(([name, caption]) =>
      drawGroup(graph.node(`group:${name}`) as Placed, caption)
    ),
    ...spec.arrows.map((arrow, i) => {
      const edge = graph.edge({ v: arrow.from, w: arrow.to, name: String(i) }) as unknown as {
        points: Point[];
        x?: number;
        y?: number;
      };
      return drawArrow(arrow, edge.points, edge);
    }),
    ...spec.boxes.map((box) => drawBox(box, graph.node(box.id) as Placed)),
  ];
  const width = Math.ceil(size.width);
  const height = Math.ceil(size.height);
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `font-family="${FONT_FAMILY}, sans-serif"><rect width="${width}" height="${height}" fill="${COLOR.paper}"/>` +
    `${parts.join("")}</svg>\n`;
  const { name, title, alt, ...description } = spec;
  return {
    kind: "diagram",
    name,
    title,
    alt,
    description: JSON.parse(JSON.stringify(description)) as JsonValue,
    svg,
  };
}

function validate(spec: DiagramSpec): void {
  const ids = new Set<string>();
  for (const { id, group } of spec.boxes) {
    if (ids.has(id)) throw new Error(`Diagram ${spec.name} has two boxes called ${id}`);
    ids.add(id);
    if (group !== undefined && spec.groups?.[group] === undefined) {
      throw new Error(
        `Box ${id} of diagram ${spec.name} stands in frame ${group}, which is not there`,
      );
    }
  }
  for (const { from, to } of spec.arrows) {
    for (const end of [from, to]) {
      if (!ids.has(end)) {
        throw new Error(`An arrow of diagram ${spec.name} names box ${end}, which is not there`);
      }
    }
  }
}

function boxSize(box: Box): { width: number; height: number } {
  const notes = box.notes ?? [];
  const text = Math.max(
    textWidth(box.label, LABEL_SIZE, { bold: true }),
    ...notes.map((note) => textWidth(note, NOTE_SIZE)),
  );
  return {
    width: Math.ceil(text) + 2 * PAD.x,
    height: LINE * (1 + notes.length) + 2 * PAD.y,
  };
}

function drawBox(box: Box, { x, y, width, height }: Placed): string {
  const radius = box.kind === "data" ? Math.min(height / 2, 14) : 5;
  const top = y - height / 2 + PAD.y;
  const line = (text: string, i: number) =>
    `<text x="${n(x)}" y="${n(top + LINE * i + 12)}" text-anchor="middle" ` +
    (i === 0
      ? `font-size="${LABEL_SIZE}" font-weight="600" fill="${COLOR.ink}"`
      : `font-size="${NOTE_SIZE}" fill="${COLOR.muted}"`) +
    `>${escapeXml(text)}</text>`;
  return `<rect x="${n(x - width / 2)}" y="${n(y - height / 2)}" width="${n(width)}" height="${
    n(height)
  }" rx="${n(radius)}" fill="${FILL[box.kind]}" stroke="${STROKE[box.kind]}" stroke-width="1.2"/>` +
    [box.label, ...(box.notes ?? [])].map(line).join("");
}

function drawGroup({ x, y, width, height }: Placed, caption: string): string {
  const left = x - width / 2;
  const top = y - height / 2;
  return `<rect x="${n(left)}" y="${n(top)}" width="${n(width)}" height="${
    n(height)
  }" rx="8" fill="none" stroke="${COLOR.muted}" stroke-dasharray="4 4"/>` +
    `<text x="${n(left + 6)}" y="${n(top - 5)}" font-size="${NOTE_SIZE}" fill="${COLOR.muted}">${
      escapeXml(caption)
    }</text>`;
}

function drawArrow(
  arrow: Arrow,
  points: readonly Point[],
  label: { x?: number; y?: number },
): string {
  const end = points.at(-1)!;
  const before = points.at(-2)!;
  const angle = Math.atan2(end.y - before.y, end.x - before.x);
  const tip = (turn: number) =>
    `${n(end.x - 8 * Math.cos(angle + turn))},${n(end.y - 8 * Math.sin(angle + turn))}`;
  const dash = arrow.dashed ? ` stroke-dasharray="5 4"` : "";
  const line =
    `<path d="${smooth(points)}" fill="none" stroke="${COLOR.muted}" stroke-width="1.3"${dash}/>` +
    `<path d="M${n(end.x)},${n(end.y)}L${tip(0.4)}L${tip(-0.4)}Z" fill="${COLOR.muted}"/>`;
  if (!arrow.label || label.x === undefined || label.y === undefined) return line;
  const width = textWidth(arrow.label, NOTE_SIZE) + 6;
  return line +
    `<rect x="${n(label.x - width / 2)}" y="${n(label.y - LINE / 2)}" width="${
      n(width)
    }" height="${LINE}" fill="${COLOR.paper}"/>` +
    `<text x="${n(label.x)}" y="${
      n(label.y + 4)
    }" text-anchor="middle" font-size="${NOTE_SIZE}" fill="${COLOR.muted}">${
      escapeXml(arrow.label)
    }</text>`;
}

/** A curve through the middles of the layout's segments, straight at both ends. */
function smooth(points: readonly Point[]): string {
  const [first, ...rest] = points;
  let path = `M${n(first!.x)},${n(first!.y)}`;
  for (const [i, point] of rest.entries()) {
    const next = rest[i + 1];
    path += next === undefined
      ? `L${n(point.x)},${n(point.y)}`
      : `Q${n(point.x)},${n(point.y)} ${n((point.x + next.x) / 2)},${n((point.y + next.y) / 2)}`;
  }
  return path;
}

/** Two decimals are plenty for a drawing, and the same everywhere. */
function n(value: number): string {
  return String(Math.round(value * 100) / 100);
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
