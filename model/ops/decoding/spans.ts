/**
 * Attention over caches of positions that are cut into spans, which workgroups attend to apart and a second kernel puts together.
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
/** Heads that a workgroup takes at once: it reads the cache once for them. A GPU is to have enough workgroups without that. */
const HEADS = 4;

/** Positions of a span and spans of a cache, for so many rows of scores. */
function spansOf(capacity: number, rows: number): { span: number; spans: number } {
  const wanted = Math.min(Math.ceil(capacity / LANES), Math.ceil(BUSY / rows));
  const span = Math.ceil(capacity / wanted / LANES) * LANES;
  return { span, spans: Math.ceil(capacity / span) };
}

/** How rows and a cache fall to sequences. */
interface Sequences {
  readonly sequences: number;
  /** Rows of each. */
  readonly length: number;
  /** Positions of the cache of each. */
  readonly capacity: number;
}

/**
 * The sequences that follow one another in rows and in a cache.
 *
 * @param tensors `position` has a number a sequence.
 * @throws {RangeError} If rows or the cache do not fall to the sequences evenly.
 */
export function sequencesOf(
  label: string,
  { position, rows, cache }: Record<"position" | "rows" | "cache", Tensor>,
): Sequences {
  const sequences = position.size;
  const [length, capacity] = [rows.rows / sequences, cache.rows / sequences];
  if (!Number.isInteger(length) || !Number.isInteger(capacity)) {
    throw new RangeError(
      `${label}: ${rows.rows} rows of ${rows.name} and ${cache.rows} of ${cache.name} do not fall to ${sequences} sequences`,
    );
  }
  return { sequences, length, capacity };
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
  /** Heads of queries. */
  readonly heads: number;
  /** Heads that follow one another and read the same keys and values. */
  readonly shared: number;
  readonly of: Sequences;
  /** Width of a head's values. */
  readonly width: number;
  /** `[sequences]` u32: position of the first token of each. */
  readonly position: Tensor;
  /** `[tokens, heads·width]`. */
  readonly y: Tensor;
}

/**
 * Records attention with a workgroup for each token, head and span of its sequence's cache; on a software adapter and of several sequences for
 * {@linkcode HEADS} heads. Spans depend on the sizes of one sequence alone, so the bits of a result depend neither on the device's speed nor on the number of
 * sequences.
 */
export function attendSpans(plan: Plan, label: string, attention: SpanAttention): void {
  const { kernel, constants, bindings, heads, width, position, y } = attention;
  const { sequences, length, capacity } = attention.of;
  const tokens = sequences * length;
  const { span, spans } = spansOf(capacity, length * heads);
  const pieces = tokens * heads * spans;
  const enough = plan.gpu.capabilities.software || sequences >= HEADS;
  const together = enough && attention.shared % HEADS === 0 ? HEADS : 1;
  const mixed = plan.tensor(`${label}.mixed`, [pieces, width]);
  const statistics = plan.tensor(`${label}.statistics`, [pieces, 2]);
  plan.dispatch({
    label,
    name: kernel.name,
    source: kernel.source + spanSource,
    constants: { LANES, HEADS: together, ...constants },
    params: {
      tokens,
      length,
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
    workgroups: grid(pieces / together),
    flops: attention.flops,
  });
  plan.dispatch({
    label: `${label}.merge`,
    name: "merge_spans",
    source: mergeSource,
    constants: { LANES },
    params: { tokens, length, heads, span, spans, capacity, width4: width / 4 },
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
