/**
 * Places for labels beside points, so that labels cover neither each other nor the points.
 *
 * @module
 */

import { textWidth } from "./fonts.ts";

/** Size of a label's text in pixels. */
export const LABEL_SIZE = 11.5;

/** Height that a label takes. */
const LINE = 14;

/** Distances of a label from its point, sideways, in pixels. */
const SIDEWAYS = [7, 14, 24, 38, 58, 85, 120, 165, 220] as const;

/** A point in a panel, in pixels from its upper left corner. */
export interface LabelledPoint {
  readonly text: string;
  readonly x: number;
  readonly y: number;
}

/** A line along an axis that labels leave free, from one end to the other, in pixels. */
export type Segment = readonly [x1: number, y1: number, x2: number, y2: number];

/** The place of a label: where its text begins, at half of its height. */
export interface LabelPlace {
  readonly x: number;
  readonly y: number;
}

/** A rectangle in pixels. */
interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/**
 * Places labels right or left of their points, each as near as is free, in the order of their heights.
 *
 * @example
 * ```ts
 * import { placeLabels } from "./labels.ts";
 * const points = [{ text: "a", x: 50, y: 50 }, { text: "b", x: 50, y: 52 }];
 * const [a, b] = placeLabels(points, { width: 200, height: 100 });
 * console.assert(a!.x > 50 && (b!.x < 50 || Math.abs(a!.y - b!.y) >= 14));
 * ```
 *
 * @returns A place a point, in their order.
 */
export function placeLabels(
  points: readonly LabelledPoint[],
  panel: {
    readonly width: number;
    readonly height: number;
    readonly lines?: readonly Segment[];
  },
): readonly LabelPlace[] {
  const around = ([x1, y1, x2, y2]: Segment, distance: number): Box => ({
    left: Math.min(x1, x2) - distance,
    right: Math.max(x1, x2) + distance,
    top: Math.min(y1, y2) - distance,
    bottom: Math.max(y1, y2) + distance,
  });
  const taken = [
    ...points.map(({ x, y }) => around([x, y, x, y], 5)),
    ...(panel.lines ?? []).map((line) => around(line, 1)),
  ];
  const places: LabelPlace[] = [];
  const order = points.map((_, i) => i).toSorted((a, b) => points[a]!.y - points[b]!.y);
  for (const index of order) {
    const { text, x, y } = points[index]!;
    const width = textWidth(text, LABEL_SIZE);
    const candidates = shifts(panel.height).map(({ dx, dy }) => ({
      left: dx > 0 ? x + dx : x + dx - width,
      y: y + dy,
    }));
    const boxOf = ({ left, y }: typeof candidates[number]): Box => ({
      left,
      right: left + width,
      top: y - LINE / 2,
      bottom: y + LINE / 2,
    });
    const inside = (box: Box) =>
      box.left >= 0 && box.right <= panel.width && box.top >= 0 && box.bottom <= panel.height;
    const free = candidates.find((candidate) => {
      const box = boxOf(candidate);
      return inside(box) && !taken.some((other) => overlap(box, other));
    });
    const chosen = free ?? candidates[0]!;
    taken.push(boxOf(chosen));
    places[index] = { x: chosen.left, y: chosen.y };
  }
  return places;
}

/** From a point to the near end of its label: the nearest place first, and of equals the right and the lower one. */
function shifts(height: number): { dx: number; dy: number }[] {
  const step = LINE / 3;
  const count = Math.ceil(height / step);
  const down = Array.from({ length: 2 * count + 1 }, (_, i) => (i - count) * step);
  const all = SIDEWAYS.flatMap((dx) => [dx, -dx]).flatMap((dx) =>
    down.toReversed().map((dy) => ({ dx, dy }))
  );
  return all.toSorted((a, b) => Math.hypot(a.dx, a.dy) - Math.hypot(b.dx, b.dy));
}

/**
 * Heights for labels in one column: each as near to its point as their distance of a line allows, none above 0.
 *
 * @param heights Of the points, in pixels from the top.
 */
export function spreadHeights(heights: readonly number[], panelHeight: number): readonly number[] {
  const order = heights.map((_, i) => i).toSorted((a, b) => heights[a]! - heights[b]!);
  const placed: number[] = [];
  let last = -LINE;
  for (const index of order) {
    last = Math.max(heights[index]!, last + LINE);
    placed[index] = last;
  }
  // Labels that went below the panel come back, and pushes those above it.
  let limit = panelHeight;
  for (const index of order.toReversed()) {
    placed[index] = Math.min(placed[index]!, limit);
    limit = placed[index]! - LINE;
  }
  return placed;
}

function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
