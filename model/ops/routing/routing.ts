/**
 * Product-key routing: scores of sub-keys, the choice of experts, its gradient, and the load-balance term.
 *
 * The scores `[T·H, K]` of both axes are made for a chunk of tokens at a time, so that they fit a binding whatever `T`. They are
 * not kept: the choice is not differentiated, and the load-balance term makes them again.
 *
 * @module
 */

import balanceSource from "../../../shaders/routing/routing_balance.wgsl" with { type: "text" };
import countsSource from "../../../shaders/routing/routing_counts.wgsl" with { type: "text" };
import queryGradientSource from "../../../shaders/routing/routing_query_gradient.wgsl" with {
  type: "text",
};
import querySource from "../../../shaders/routing/routing_query.wgsl" with { type: "text" };
import scatterSource from "../../../shaders/routing/routing_scatter.wgsl" with { type: "text" };
import { atomic, f32, grid, read, readFields, readScalar, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { roundUp, type Tensor } from "../../gpu/tensor.ts";
import { CONTROL } from "../control.ts";
import { type Epilogue, gemm } from "../gemm/gemm.ts";
import { matrix } from "../gemm/matrix.ts";
import { often } from "../often.ts";
import { sumBalance } from "./balance_sum.ts";
import { keepExperts, type KeepRule, type KeptNumber } from "./routing_keep.ts";
import { selectExperts } from "./routing_select.ts";
import { softmaxBackward } from "./softmax.ts";

/** Sizes of a router. */
export interface RoutingSizes {
  /** Tokens, T. */
  readonly tokens: number;
  /** Routing heads, H. */
  readonly heads: number;
  /** Experts kept per head, k; at most 64. */
  readonly top_k: number;
  /** Sub-keys on an axis, K; at most 1024 where there is workgroup memory to use. */
  readonly sub_keys: number;
  /** Query width per head, both halves together. */
  readonly d_query: number;
}

/** Queries and sub-keys. */
interface RoutingInput {
  /** The sizes. */
  readonly sizes: RoutingSizes;
  /** `[T, H·d_query]`. */
  readonly query: Tensor;
  /** Sub-keys of the two axes, `[K, d_query/2]` each. */
  readonly sub_keys: readonly [Tensor, Tensor];
  /** Which of the k best a token keeps; all of them unless given. */
  readonly keep?: KeepRule;
  /** Bytes that the scores of an axis may take at a time; defaults to 128 MiB or what a binding can have. */
  readonly score_bytes?: number;
}

/** The load-balance term of one pass. */
interface Balance {
  /** The term with its coefficient, f32 `[1]`. */
  readonly value: Tensor;
  /** How often each sub-key was kept, u32 `[2, K]`; with a {@linkcode KeepRule} `[2·K + 1]`, the last the number of all kept experts. */
  readonly counts: Tensor;
  /** Per axis and row: the softmax's maximum and inverse sum, `Σ f p`, the row's part of the loss. f32 `[2, T·H, 4]`. */
  readonly statistics: Tensor;
}

/** The kept experts, best first. */
export interface Routed {
  /** Expert numbers, u32 `[T, H·k]`. */
  readonly index: Tensor;
  /** Their weights, which sum to one per head, f32 `[T, H·k]`; 0 for an expert that a {@linkcode KeepRule} drops. */
  readonly score: Tensor;
  /** The experts that a {@linkcode KeepRule} kept. */
  readonly kept?: KeptNumber;
  /** The load-balance term, when it was asked for. */
  readonly balance?: Balance;
}

/** Bytes of scores that are made at a time. */
const SCORE_BYTES = 128 * 2 ** 20;
/** Rows that a product may sum over on software adapters, which cut loops short after 65,535 rounds. */
const SOFTWARE_ROWS = 32768;
const AXES = [0, 1] as const;
/** Rows of `ds` that a workgroup makes in its memory, at most, and the bytes that they may take. */
const ROWS = 4;
const ROW_BYTES = 16 * 2 ** 10;

interface Chunk {
  /** First row (token and head) of all rows. */
  readonly first: number;
  readonly rows: number;
}

class Router {
  readonly plan: Plan;
  readonly label: string;
  readonly input: RoutingInput;
  /** Elements of a row of scores in memory. */
  readonly stride: number;
  readonly rows: number;
  readonly chunks: readonly Chunk[];
  readonly workgroup: number;

  constructor(plan: Plan, label: string, input: RoutingInput) {
    const { sizes } = input;
    this.plan = plan;
    this.label = label;
    this.input = input;
    this.stride = roundUp(sizes.sub_keys, 4);
    this.rows = sizes.tokens * sizes.heads;
    this.workgroup = 64;
    const bytes = Math.min(
      input.score_bytes ?? SCORE_BYTES,
      plan.gpu.capabilities.max_binding_bytes,
    );
    const rows = Math.min(
      Math.floor(bytes / (4 * this.stride)),
      plan.gpu.capabilities.software ? SOFTWARE_ROWS : Infinity,
    );
    const tokens = Math.max(1, Math.floor(rows / sizes.heads));
    const chunks: Chunk[] = [];
    for (let token = 0; token < sizes.tokens; token += tokens) {
      chunks.push({
        first: token * sizes.heads,
        rows: Math.min(tokens, sizes.tokens - token) * sizes.heads,
      });
    }
    this.chunks = chunks;
  }

  groups(invocations: number): [number, number, number] {
    return grid(Math.ceil(invocations / this.workgroup));
  }

  /** One axis' half of a chunk of `[T, H·d_query]`, as rows of tokens and heads. */
  half(tensor: Tensor, chunk: Chunk, axis: 0 | 1) {
    const { d_query } = this.input.sizes;
    return matrix(tensor, {
      start: chunk.first * d_query + axis * d_query / 2,
      stride: d_query,
      rows: chunk.rows,
      columns: d_query / 2,
    });
  }

  /** A chunk's scores on an axis as a matrix without its padding. */
  scoreMatrix(s: Tensor) {
    return matrix(s, { stride: this.stride, columns: this.input.sizes.sub_keys });
  }

  scores(chunk: Chunk, axis: 0 | 1): Tensor {
    const s = this.plan.tensor(`${this.label}.s${axis + 1}`, [chunk.rows, this.stride]);
    gemm(this.plan, `${this.label}.s${axis + 1}`, {
      a: this.half(this.input.query, chunk, axis),
      b: this.input.sub_keys[axis],
      c: this.scoreMatrix(s),
      layout: "nt",
    });
    return s;
  }

  balanceRows(
    chunk: Chunk,
    s: readonly [Tensor, Tensor],
    options: { counts: Tensor; statistics: Tensor; coefficient: number },
  ): void {
    const { tokens, heads, top_k, sub_keys } = this.input.sizes;
    for (const axis of AXES) {
      this.plan.dispatch({
        label: `${this.label}.balance${axis + 1}`,
        name: "routing_balance",
        source: balanceSource,
        constants: { WORKGROUP: this.workgroup, TOTAL: this.input.keep !== undefined },
        params: {
          rows: chunk.rows,
          first_row: chunk.first,
          all_rows: this.rows,
          stride: this.stride,
          keys: sub_keys,
          axis,
          fraction: f32(1 / (tokens * heads * top_k)),
          weight: f32(options.coefficient * sub_keys / this.rows),
        },
        bindings: {
          s: readScalar(s[axis]),
          counts: readScalar(options.counts),
          statistics: write(options.statistics),
        },
        workgroups: this.groups(chunk.rows),
      });
    }
  }
}

/**
 * Records the choice of experts.
 *
 * @param options `balance`: the coefficient of the load-balance term; without it the term is not computed.
 */
export function route(
  plan: Plan,
  label: string,
  input: RoutingInput & { balance?: number },
): Routed {
  const { sizes } = input;
  const router = new Router(plan, label, input);
  const kept = [sizes.tokens, sizes.heads * sizes.top_k];
  const index = plan.tensor(`${label}.index`, kept, { dtype: "u32" });
  const score = plan.tensor(`${label}.score`, kept);
  let last: readonly [Tensor, Tensor] | undefined;
  for (const chunk of router.chunks) {
    last = [router.scores(chunk, 0), router.scores(chunk, 1)];
    selectExperts(plan, `${label}.select`, {
      scores: last,
      rows: chunk.rows,
      stride: router.stride,
      first: chunk.first,
      top_k: sizes.top_k,
      sub_keys: sizes.sub_keys,
      index,
      score,
    });
  }
  const { keep: rule, balance } = input;
  const shape = rule ? [2 * sizes.sub_keys + 1] : [2, sizes.sub_keys];
  const counts = plan.tensor(`${label}.counts`, shape, { dtype: "u32" });
  if (balance) plan.clear(counts);
  const chosen = rule && keepExperts(plan, label, {
    ...{ rule, index, score, heads: sizes.heads, sub_keys: sizes.sub_keys },
    ...(balance && { counts }),
  });
  if (!balance) return { index, score, ...(chosen && { kept: chosen }) };
  const statistics = plan.tensor(`${label}.balance.rows`, [2, router.rows, 4]);
  const value = plan.tensor(`${label}.balance.value`, [1]);
  if (!chosen) {
    plan.dispatch({
      label: `${label}.counts`,
      name: "routing_counts",
      source: countsSource,
      constants: { WORKGROUP: router.workgroup, SUB_KEYS: true },
      params: { n: index.size, keys: sizes.sub_keys },
      bindings: { index: readScalar(index), counts: atomic(counts) },
      workgroups: router.groups(index.size),
    });
  }
  const options = { counts, statistics, coefficient: balance };
  for (const chunk of router.chunks) {
    const s = router.chunks.length === 1 && last
      ? last
      : [router.scores(chunk, 0), router.scores(chunk, 1)] as const;
    router.balanceRows(chunk, s, options);
  }
  sumBalance(plan, `${label}.balance`, { rows: statistics, value });
  return {
    ...{ index, score, balance: { value, counts, statistics } },
    ...(chosen && { kept: chosen }),
  };
}

/** The operands of {@linkcode routeBackward}. */
interface RoutingGradients extends RoutingInput {
  /** The result of the forward pass. */
  readonly routed: Routed;
  /** Gradient of the scores, f32 `[T, H·k]`. */
  readonly dscore: Tensor;
  /** Gradient of the queries, `[T, H·d_query]`, written. */
  readonly dquery: Tensor;
  /** Gradients of the sub-keys. */
  readonly gradients: readonly [
    { tensor: Tensor; epilogue: "none" | "accumulate" },
    { tensor: Tensor; epilogue: "none" | "accumulate" },
  ];
  /** Factor of the load-balance gradient: the coefficient given forward over the micro-batches of the update. */
  readonly balance?: number;
  /** The {@linkcode CONTROL} tensor: its loss scale multiplies the load-balance gradient. */
  readonly loss_scale?: Tensor;
}

/** Records the gradients of {@linkcode route}: of the queries, of the sub-keys. */
export function routeBackward(plan: Plan, label: string, input: RoutingGradients): void {
  const { sizes, routed, dscore, loss_scale } = input;
  const { top_k, sub_keys } = sizes;
  const router = new Router(plan, label, input);
  const dtotal = softmaxBackward(plan, label, {
    score: routed.score,
    dscore,
    top_k,
    dropped: input.keep !== undefined,
  });
  const balance = input.balance ? routed.balance : undefined;
  if (!balance) {
    const half = sizes.d_query / 8;
    plan.dispatch({
      label: `${label}.dquery`,
      name: "routing_query_gradient",
      source: queryGradientSource,
      constants: { WORKGROUP: router.workgroup, TOP: top_k, KEYS: sub_keys },
      params: { rows: router.rows, half },
      bindings: {
        index: readScalar(routed.index),
        dtotal: readScalar(dtotal),
        k1: often(plan, input.sub_keys[0], router.rows * half * top_k),
        k2: often(plan, input.sub_keys[1], router.rows * half * top_k),
        dquery: write(input.dquery),
      },
      workgroups: router.groups(router.rows * 2 * half),
      flops: 2 * router.rows * top_k * sizes.d_query,
      bytes: input.dquery.bytes + dtotal.bytes + routed.index.bytes,
    });
  }
  // The balance's gradient is too small for halves.
  const dtype = balance ? "f32" : input.query.dtype;
  const most = Math.min(ROWS, Math.floor(ROW_BYTES / (4 * router.stride + 8 * top_k)));
  const software = plan.gpu.capabilities.software || most < 1;
  // One dispatch makes both axes' where nothing differs between them but a division.
  const joint = software && !balance;
  for (const [i, chunk] of router.chunks.entries()) {
    const gradients = AXES.map((axis) =>
      plan.tensor(`${label}.ds${axis + 1}`, [chunk.rows, router.stride], { dtype })
    );
    const scatter = (name: string, axis: 0 | 1) => {
      const base = {
        rows: chunk.rows,
        first_row: chunk.first,
        stride: router.stride,
        keys: sub_keys,
        axis,
      };
      plan.dispatch({
        label: `${label}.${name}`,
        name: "routing_scatter",
        source: scatterSource,
        constants: {
          SOFTWARE: software,
          TOP: top_k,
          WIDTH: router.stride / 4,
          ...(software ? { KEYS: sub_keys, AXIS: axis, JOINT: joint } : { ROWS: most }),
          BALANCE: balance !== undefined,
          TOTAL: input.keep !== undefined,
          SCALED: loss_scale !== undefined,
        },
        params: balance
          ? {
            ...base,
            all_rows: router.rows,
            fraction: f32(1 / routed.index.size),
            weight: f32((input.balance ?? 0) * sub_keys / router.rows),
          }
          : base,
        bindings: {
          index: readScalar(routed.index),
          dtotal: readScalar(dtotal),
          ds: write(gradients[axis]!),
          ...(joint && { ds_1: write(gradients[1]!) }),
          ...(balance && {
            s: read(router.scores(chunk, axis)),
            counts: readScalar(balance.counts),
            statistics: read(balance.statistics),
            ...(loss_scale && { control: readFields(loss_scale, CONTROL) }),
          }),
        },
        workgroups: grid(
          Math.ceil(software ? chunk.rows * router.stride / 256 : chunk.rows / most),
        ),
      });
    };
    if (joint) scatter("scatter", 0);
    for (const axis of AXES) {
      const ds = gradients[axis]!;
      if (!joint) scatter(`scatter${axis + 1}`, axis);
      if (balance) {
        gemm(plan, `${label}.dquery${axis + 1}`, {
          a: router.scoreMatrix(ds),
          b: input.sub_keys[axis],
          c: router.half(input.dquery, chunk, axis),
        });
      }
      const target = input.gradients[axis];
      const epilogue: Epilogue = i === 0 ? target.epilogue : "accumulate";
      gemm(plan, `${label}.dk${axis + 1}`, {
        a: router.scoreMatrix(ds),
        b: router.half(input.query, chunk, axis),
        c: target.tensor,
        layout: "tn",
        epilogue,
      });
    }
  }
}

/**
 * Records mean and standard deviation (biased) over tokens and heads of the norm of a head's query.
 *
 * @param input `query` `[T, H·d_query]`.
 * @returns f32 `[4]`: mean, standard deviation, 0, 0.
 */
export function queryStatistics(
  plan: Plan,
  label: string,
  input: { query: Tensor; d_query: number },
): Tensor {
  const { query, d_query } = input;
  const workgroup = 64;
  const rows = query.size / d_query;
  const run = Math.max(16, Math.ceil(rows / 4096));
  const runs = Math.ceil(rows / run);
  const partial = plan.tensor(`${label}.partial`, [runs, 4]);
  const out = plan.tensor(`${label}.norm`, [4]);
  plan.dispatch({
    label: `${label}.norms`,
    name: "routing_query",
    source: querySource,
    constants: { WORKGROUP: workgroup, MERGE: false },
    params: { rows, run, runs, width: d_query / 4 },
    bindings: { query: read(query), partial: write(partial) },
    workgroups: grid(Math.ceil(runs / workgroup)),
  });
  plan.dispatch({
    label: `${label}.merge`,
    name: "routing_query",
    source: querySource,
    constants: { WORKGROUP: 1, MERGE: true },
    params: { runs },
    bindings: { partial: read(partial), out: write(out) },
    workgroups: [1, 1, 1],
  });
  return out;
}
