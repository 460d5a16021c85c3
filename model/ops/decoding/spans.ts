/**
 * A cache of positions cut into spans, which workgroups attend to apart, and what the spans come to together.
 *
 * @module
 */

import mergeSource from "../../../shaders/decoding/merge_spans.wgsl" with { type: "text" };
import { grid, read, readScalar, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Positions that a workgroup scores at a time. */
export const LANES = 64;
/** Workgroups that keep a GPU busy: the cache is cut into spans until there are about so many. */
const BUSY = 1024;

/** Positions of a span and spans of a cache, for so many rows of scores. */
export function spansOf(capacity: number, rows: number): { span: number; spans: number } {
  const wanted = Math.min(Math.ceil(capacity / LANES), Math.ceil(BUSY / rows));
  const span = Math.ceil(capacity / wanted / LANES) * LANES;
  return { span, spans: Math.ceil(capacity / span) };
}

/** Records what the spans of every token and head come to. */
export function mergeSpans(plan: Plan, label: string, operands: {
  readonly tokens: number;
  readonly heads: number;
  readonly capacity: number;
  /** Weighted sums `[tokens·heads·spans, width]`. */
  readonly mixed: Tensor;
  /** Largest score and sum of exponentials of each `[tokens·heads·spans, 2]`. */
  readonly statistics: Tensor;
  /** A u32: position of the first token. */
  readonly position: Tensor;
  /** `[tokens, heads·width]`. */
  readonly y: Tensor;
}): void {
  const { tokens, heads, capacity, mixed, statistics, position, y } = operands;
  const { span, spans } = spansOf(capacity, tokens * heads);
  plan.dispatch({
    label: `${label}.merge`,
    name: "merge_spans",
    source: mergeSource,
    constants: { LANES },
    params: { tokens, heads, span, spans, capacity, width4: mixed.width / 4 },
    bindings: {
      mixed: read(mixed),
      statistics: readScalar(statistics),
      position: readScalar(position),
      y: write(y),
    },
    workgroups: grid(Math.ceil(tokens * heads * mixed.width / 4 / LANES)),
    flops: 2 * tokens * heads * spans * mixed.width,
  });
}
