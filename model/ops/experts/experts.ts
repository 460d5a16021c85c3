/**
 * The parts of every execution of the experts: tables of expert rows, products with the tokens, sums over the kept experts.
 *
 * Names, for a token `t` and its `j`-th kept expert `i` (an *assignment*; every head's kept experts one after another, M a token):
 *
 * ```
 * h_i = gelu(z_i W1)   or, context-aware, gelu(z_i W1z + c_t W1c)
 * p   = h_i · xp_t     a = gelu(p) · s       acc_t = Σ_j a h_i
 * da  = h_i · dacc_t   dp = da · s · gelu′(p)      ds = da · gelu(p)      dxp_t = Σ_j dp h_i
 * ```
 *
 * @module
 */

import activateSource from "../../../shaders/experts/experts_activate.wgsl" with { type: "text" };
import combineSource from "../../../shaders/experts/experts_combine.wgsl" with { type: "text" };
import projectSource from "../../../shaders/experts/experts_project.wgsl" with { type: "text" };
import geluSource from "../../../shaders/elementwise/gelu.wgsl" with { type: "text" };
import {
  type Binding,
  grid,
  read,
  readScalar,
  update,
  write,
  writeScalar,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type DType, type Tensor } from "../../gpu/tensor.ts";
import { cast } from "../elementwise/cast.ts";
import type { Matrix } from "../gemm/matrix.ts";
import { often } from "../often.ts";

/** Which experts the tokens keep, and how they weigh. */
export interface Kept {
  /** Expert numbers, u32 `[T, M]`. */
  readonly index: Tensor;
  /** f32 `[T, M]`. */
  readonly score: Tensor;
  /** Where a token may keep fewer than M experts; those that it keeps come first in its row. */
  readonly packed?: Packing;
}

/** Assignments without an expert, which add nothing and get no gradient. */
export interface Packing {
  /** The number that stands for no expert: N. */
  readonly none: number;
  /** Where each of the router's assignments is in its token's row, u32 `[T, M]`. */
  readonly place: Tensor;
}

/** The hypernetwork and what the tokens bring to it. */
export interface Generator {
  /** Latent codes `[N, d_latent]`, split by rows. */
  readonly z: readonly Tensor[];
  /** `[d_latent + d_context, d_hidden]`. */
  readonly w1: Tensor;
  /** `[T, d_hidden]`: `xp`; context-aware `[T, 2·d_hidden]`: `xp`, then `c W1c`. */
  readonly tokens: Tensor;
  /** Whether `tokens` holds the context's part. */
  readonly context: boolean;
}

/** Where a gradient goes, and whether what is there is kept. */
export interface Gradient {
  /** f32, shaped as what it is the gradient of. */
  readonly tensor: Tensor;
  /** Whether it is overwritten or added to. */
  readonly epilogue: "none" | "accumulate";
}

/** Sizes that follow from a {@linkcode Generator} and {@linkcode Kept}. */
export function sizesOf(generator: Generator, kept: Kept) {
  return {
    d_latent: generator.z[0]!.width,
    d_hidden: generator.w1.width,
    tokens: kept.index.rows,
    /** M. */
    per: kept.index.width,
  };
}

/** Consecutive experts in one part of the latent codes. */
export interface ExpertRange {
  /** Which part. */
  readonly part: number;
  /** First row in the part. */
  readonly row: number;
  /** First expert. */
  readonly first: number;
  /** Experts in the range. */
  readonly rows: number;
}

/** Cuts the experts so that a table `[rows, width]` of `dtype` takes at most `bytes`, and each piece lies in one part of `z`. */
export function expertRanges(
  plan: Plan,
  z: readonly Tensor[],
  table: { width: number; dtype: DType; bytes?: number },
): ExpertRange[] {
  const { max_binding_bytes, max_buffer_bytes } = plan.gpu.capabilities;
  const bytes = Math.min(table.bytes ?? Infinity, max_binding_bytes, max_buffer_bytes);
  const most = Math.max(1, Math.floor(bytes / (table.width * BYTES[table.dtype])));
  const ranges: ExpertRange[] = [];
  let first = 0;
  for (const [part, tensor] of z.entries()) {
    for (let row = 0; row < tensor.rows; row += most) {
      const rows = Math.min(most, tensor.rows - row);
      ranges.push({ part, row, first: first + row, rows });
    }
    first += tensor.rows;
  }
  return ranges;
}

/** Rows by expert, or one row for each assignment from `start` on. */
type ExpertRows =
  | { readonly rows: Matrix; readonly first: number; readonly index: Tensor }
  | { readonly rows: Matrix; readonly start: number };

function tableBindings(plan: Plan, table: ExpertRows, loads: number) {
  return {
    table: often(plan, table.rows.tensor, loads),
    ...("index" in table && { index: readScalar(table.index) }),
  };
}

function tableParams(table: ExpertRows) {
  const place = { ldh: table.rows.stride / 4, h_start: table.rows.start / 4 };
  return "index" in table ? { ...place, first: table.first, count: table.rows.rows } : place;
}

/** The operands of {@linkcode project}, without its results. */
interface Projection {
  readonly table: ExpertRows;
  readonly per: number;
  /** `[T, ≥ width]`. */
  readonly x: Tensor;
  /** Where in the rows of `x` the context's part begins. */
  readonly context?: number;
}

/**
 * Records `p = h · x` for each assignment whose row the table has, and `q = h · g` when `g` and `q` are given.
 *
 * @param input `p`, `q` f32 `[T, M]`.
 */
export function project(
  plan: Plan,
  label: string,
  input: Projection & { p: Tensor; pair?: { g: Tensor; q: Tensor } },
): void {
  const { p, pair } = input;
  recordProjection(plan, label, {
    ...input,
    assignments: p.size,
    ...(pair && { g: pair.g }),
    results: { p: writeScalar(p), ...(pair && { q: writeScalar(pair.q) }) },
  });
}

/**
 * Records {@linkcode project} and {@linkcode activate}, which is one dispatch on a software adapter: there an invocation has all of an assignment.
 *
 * @param input As for both. `p` and `q` are what passes from one to the other where there are two, in all tables' dispatches the same.
 */
export function projectActivated(
  plan: Plan,
  label: string,
  input: Projection & {
    p: Tensor;
    score: Tensor;
    entries: Tensor;
    backward?: { g: Tensor; q: Tensor; dscore: Tensor };
  },
): void {
  const { p, score, entries, backward } = input;
  if (!plan.gpu.capabilities.software) {
    project(plan, `${label}.project`, { ...input, ...(backward && { pair: backward }) });
    activate(plan, `${label}.activate`, input);
    return;
  }
  recordProjection(plan, `${label}.project`, {
    ...input,
    assignments: p.size,
    ...(backward && { g: backward.g }),
    results: {
      score: readScalar(score),
      entries: write(entries),
      ...(backward && { dscore: writeScalar(backward.dscore) }),
    },
    activate: true,
  });
}

function recordProjection(
  plan: Plan,
  label: string,
  input: Projection & {
    /** All that there are, whichever the table has. */
    assignments: number;
    g?: Tensor;
    results: Readonly<Record<string, Binding>>;
    activate?: boolean;
  },
): void {
  const { table, per, x, context, g, results, activate = false } = input;
  const { software } = plan.gpu.capabilities;
  const direct = !("index" in table);
  const n = direct ? table.rows.rows : input.assignments;
  const width = table.rows.columns / 4;
  plan.dispatch({
    label,
    name: "experts_project",
    source: projectSource,
    constants: {
      SOFTWARE: software,
      DIRECT: direct,
      CONTEXT: context !== undefined,
      PAIR: g !== undefined,
      ACTIVATE: activate,
      ...((context !== undefined || activate) && { GELU: geluSource }),
    },
    params: {
      n,
      per,
      width,
      start: direct ? table.start : 0,
      ldx: x.width / 4,
      ...tableParams(table),
      ...(g && { ldg: g.width / 4 }),
      ...(context !== undefined && { c_start: context / 4 }),
    },
    bindings: {
      ...tableBindings(plan, table, n * width),
      x: often(plan, x, n * width),
      ...(g && { g: often(plan, g, n * width) }),
      ...results,
    },
    workgroups: grid(Math.ceil(n / (software ? 64 : 16))),
    flops: 2 * n * 4 * width * (g ? 2 : 1),
    bytes: n * 4 * width * BYTES[table.rows.tensor.dtype],
  });
}

/**
 * Records the scalars of each assignment: `entries` f32 `[T, M, 4]` holds `a, dp, ds, p`, of which a forward pass sets `a` and `p`.
 *
 * @param input With `backward`: `q = h · dacc` is read and `dscore` (f32 `[T, M]`) written.
 */
export function activate(
  plan: Plan,
  label: string,
  input: {
    p: Tensor;
    score: Tensor;
    entries: Tensor;
    backward?: { q: Tensor; dscore: Tensor };
  },
): void {
  const { p, score, entries, backward } = input;
  const workgroup = 64;
  plan.dispatch({
    label,
    name: "experts_activate",
    source: activateSource,
    constants: { WORKGROUP: workgroup, MODE: backward ? "backward" : "forward", GELU: geluSource },
    params: { n: p.size },
    bindings: {
      p: readScalar(p),
      score: readScalar(score),
      ...(backward && { q: readScalar(backward.q), dscore: writeScalar(backward.dscore) }),
      entries: write(entries),
    },
    workgroups: grid(Math.ceil(p.size / workgroup)),
  });
}

/** Records `dscore = ds` from the entries of a backward pass. */
export function scoreGradient(
  plan: Plan,
  label: string,
  input: { entries: Tensor; dscore: Tensor },
): void {
  const workgroup = 64;
  plan.dispatch({
    label,
    name: "experts_activate",
    source: activateSource,
    constants: { WORKGROUP: workgroup, MODE: "scores", GELU: geluSource },
    params: { n: input.dscore.size },
    bindings: { entries: read(input.entries), dscore: writeScalar(input.dscore) },
    workgroups: grid(Math.ceil(input.dscore.size / workgroup)),
  });
}

/** The terms that {@linkcode combine} sums over a token's kept experts. */
type Combination =
  /** `a h` or `dp h`. */
  | { readonly kind: "weighted"; readonly by: "a" | "dp"; readonly entries: Tensor }
  /** `h`. */
  | { readonly kind: "plain" }
  /** `(a g + dp x) ⊙ gelu′(table + c)`. */
  | { readonly kind: "context"; readonly entries: Tensor; readonly g: Tensor };

/**
 * Records the sum of a token's kept experts' rows, of those that the table has.
 *
 * @param input `out` `[T, width]`; `initial`: overwrite it rather than add to it. `context`: where the context's part begins in
 * the rows of `x`.
 */
export function combine(
  plan: Plan,
  label: string,
  input: {
    table: ExpertRows;
    per: number;
    what: Combination;
    x?: Tensor;
    context?: number;
    out: Matrix;
    initial: boolean;
  },
): void {
  const { table, per, what, x, context, out } = input;
  const workgroup = 64;
  const direct = !("index" in table);
  const tokens = direct ? table.rows.rows / per : out.rows;
  const width = table.rows.columns / 4;
  const generated = context !== undefined && what.kind !== "context";
  plan.dispatch({
    label,
    name: "experts_combine",
    source: combineSource,
    constants: {
      WORKGROUP: workgroup,
      DIRECT: direct,
      CONTEXT: generated,
      KIND: what.kind,
      ...(what.kind === "weighted" && { COMPONENT: what.by === "a" ? 0 : 1 }),
      ...(context !== undefined && { GELU: geluSource }),
    },
    params: {
      tokens,
      per,
      width,
      start: direct ? table.start / per : 0,
      initial: input.initial ? 1 : 0,
      ldo: out.stride / 4,
      o_start: out.start / 4,
      ...tableParams(table),
      ...(x && context !== undefined && { ldx: x.width / 4, c_start: context / 4 }),
      ...(what.kind === "context" && { ldg: what.g.width / 4 }),
    },
    bindings: {
      ...tableBindings(plan, table, tokens * per * width),
      ...(what.kind !== "plain" && { entries: often(plan, what.entries, tokens * per * width) }),
      ...(x && context !== undefined && { x: read(x) }),
      ...(what.kind === "context" && { g: read(what.g) }),
      out: input.initial ? write(out.tensor) : update(out.tensor),
    },
    workgroups: grid(Math.ceil(tokens * width / workgroup)),
    flops: 2 * tokens * per * 4 * width,
    bytes: tokens * per * 4 * width * BYTES[table.rows.tensor.dtype],
  });
}

/**
 * A tensor that several dispatches add to, to be read in `dtype`: made in `dtype` when there is only one dispatch, else in f32.
 * Call `finish` when all were recorded.
 */
export function sumTensor(
  plan: Plan,
  name: string,
  options: { shape: readonly number[]; dtype: DType; dispatches: number },
): { tensor: Tensor; finish(): Tensor } {
  const dtype = options.dispatches === 1 ? options.dtype : "f32";
  const tensor = plan.tensor(name, options.shape, { dtype });
  return { tensor, finish: () => cast(plan, `${name}.cast`, tensor, options.dtype) };
}
