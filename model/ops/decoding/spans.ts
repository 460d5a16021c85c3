/**
 * Attention over a cache of positions that is cut into spans, which workgroups attend to apart and a second kernel puts together.
 *
 * @module
 */

import mergeSource from "../../../shaders/decoding/merge_spans.wgsl" with { type: "text" };
import spanSource from "../../../shaders/decoding/span_attention.wgsl" with { type: "text" };
import {
  type Binding,
  type Constants,
  f32,
  grid,
  read,
  readScalar,
  write,
  writeScalar,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Positions that a workgroup scores at a time. */
const LANES = 64;
/** Workgroups that keep a GPU busy: the cache is cut into spans until there are about so many. */
const BUSY = 1024;

/** Positions of a span and spans of a cache, for so many rows of scores. */
function spansOf(capacity: number, rows: number): { span: number; spans: number } {
  const wanted = Math.min(Math.ceil(capacity / LANES), Math.ceil(BUSY / rows));
  const span = Math.ceil(capacity / wanted / LANES) * LANES;
  return { span, spans: Math.ceil(capacity / span) };
}

/** Attention over a kind of cache. */
interface SpanAttention {
  /** The kernel's file name, and its text: how it reads the cache. */
  readonly kernel: { readonly name: string; readonly source: string };
  /** Widths that the kernel reads. */
  readonly constants: Constants;
  /** Counts that it reads beside those that all kinds read. */
  readonly params?: Readonly<Record<string, number>>;
  /** Queries and the cache. */
  readonly bindings: Readonly<Record<string, Binding>>;
  /** Width of a query as the scores are scaled: by 1 / √d. */
  readonly d_score: number;
  /** Floating-point operations. */
  readonly flops: number;
  /** New tokens. */
  readonly tokens: number;
  /** Heads of queries. */
  readonly heads: number;
  /** Positions of the cache. */
  readonly capacity: number;
  /** Width of a head's values. */
  readonly width: number;
  /** A u32: position of the first token. */
  readonly position: Tensor;
  /** `[tokens, heads·width]`. */
  readonly y: Tensor;
}

/**
 * Records attention with a workgroup for each token, head and span of the cache. Spans depend on the sizes alone, so the bits of a result do not
 * depend on the device's speed.
 */
export function attendSpans(plan: Plan, label: string, attention: SpanAttention): void {
  const { kernel, constants, bindings, tokens, heads, capacity, width, position, y } = attention;
  const { span, spans } = spansOf(capacity, tokens * heads);
  const pieces = tokens * heads * spans;
  const mixed = plan.tensor(`${label}.mixed`, [pieces, width]);
  const statistics = plan.tensor(`${label}.statistics`, [pieces, 2]);
  plan.dispatch({
    label,
    name: kernel.name,
    source: kernel.source + spanSource,
    constants: { LANES, ...constants },
    params: {
      tokens,
      heads,
      ...attention.params,
      span,
      spans,
      capacity,
      scale: f32(1 / Math.sqrt(attention.d_score)),
    },
    bindings: {
      ...bindings,
      position: readScalar(position),
      mixed: write(mixed),
      statistics: writeScalar(statistics),
    },
    workgroups: grid(pieces),
    flops: attention.flops,
  });
  plan.dispatch({
    label: `${label}.merge`,
    name: "merge_spans",
    source: mergeSource,
    constants: { LANES },
    params: { tokens, heads, span, spans, capacity, width4: width / 4 },
    bindings: {
      mixed: read(mixed),
      statistics: readScalar(statistics),
      position: readScalar(position),
      y: write(y),
    },
    workgroups: grid(Math.ceil(tokens * heads * width / 4 / LANES)),
    flops: 2 * pieces * width,
  });
}
