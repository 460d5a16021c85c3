/**
 * Stored experts: rows `u_i` and `v_i` of two tables for each expert, as PEER has them.
 *
 * ```
 * p  = u_i · x_t      a  = gelu(p) · s       y_t  = Σ a v_i
 * da = v_i · dy_t     dp = da · s · gelu′(p)  dx_t = Σ dp u_i     ds = da · gelu(p)
 * du_i = Σ dp x_t     dv_i = Σ a dy_t         over the assignments of expert i
 * ```
 *
 * Nothing has a row for each assignment: a pass reads a row where it is used. A token's experts are taken in ascending order, so that a sum has one order
 * whatever parts the tables lie in: tables in parts give the bits that whole ones give.
 *
 * @module
 */

import entrySource from "../../../shaders/experts/experts_stored_entry.wgsl" with { type: "text" };
import geluSource from "../../../shaders/elementwise/gelu.wgsl" with { type: "text" };
import scoreSource from "../../../shaders/experts/experts_score_gradient.wgsl" with {
  type: "text",
};
import source from "../../../shaders/experts/experts_stored.wgsl" with { type: "text" };
import subgroupSource from "../../../shaders/experts/experts_stored_subgroup.wgsl" with {
  type: "text",
};
import sumsSource from "../../../shaders/experts/experts_quarter_sums.wgsl" with { type: "text" };
import { Template } from "@huggingface/jinja";
import type { Capabilities } from "../../gpu/capabilities.ts";
import { grid, read, readBits, readScalar, update, write, writeScalar } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type Tensor } from "../../gpu/tensor.ts";
import { matrix } from "../gemm/matrix.ts";
import { segmentSum } from "../routing/segment_sum.ts";
import { sortByKey } from "../routing/sort.ts";
import { subgroupSize } from "../subgroup.ts";
import { activate, combine, type Gradient, type Kept, project } from "./experts.ts";
import { recordOrder } from "./experts_packed.ts";

/** The tables, `[N, D]`, split by the same rows. */
export interface StoredTables {
  readonly u: readonly Tensor[];
  readonly v: readonly Tensor[];
}

/** The kept experts of each token in ascending order. */
export interface OrderedKept extends Kept {
  /** Where each of the router's assignments went in its token's row, u32 `[T, M]`. */
  readonly place: Tensor;
  /** The number that stands for an expert with score 0, which adds nothing: N. */
  readonly none: number;
}

/**
 * The kernels that run experts: `fused` reads both rows of an expert in one kernel, `naive` has one each for products, activations and sums. The numbers are the
 * same but for their last bits.
 */
export type StoredExecution = "naive" | "fused";

/** Invocations of a workgroup of subgroups. */
const INVOCATIONS = 128;
/** Vectors of four of a row that an invocation holds, at most. */
const MOST_TILES = 8;
/** Invocations of a workgroup that shares a token, at most. */
const MOST_LANES = 256;
/** Rounds of loops that an invocation of a software adapter may make: it would end them at 65,535. */
const ROUNDS = 60_000;
/** Tokens from which a kernel with a token a subgroup has enough of them. */
const FUSED_TOKENS = 512;
/** Bytes of a block of columns of `x` or `dy` that stay in a GPU's cache while the rows of experts are summed. */
const CACHED_BYTES = 16 * 2 ** 20;
/** Columns of such a block, at least: whole sectors of memory. */
const LEAST_COLUMNS = 128;

/** Whether the fused kernels take rows of `width` numbers: a workgroup holds a row in registers. Software adapters hold none. */
export function canFuseStored(capabilities: Capabilities, width: number): boolean {
  return capabilities.software || width / 4 <= MOST_TILES * MOST_LANES;
}

/** The execution for a pass of so many tokens: fused where there are enough of them, naive on software adapters and for few. */
export function chooseStored(
  capabilities: Capabilities,
  sizes: { tokens: number; width: number },
): StoredExecution {
  const { tokens, width } = sizes;
  return !capabilities.software && tokens >= FUSED_TOKENS && canFuseStored(capabilities, width)
    ? "fused"
    : "naive";
}

/** Records the kept experts in ascending order; those with score 0 come last and are left out by all that reads it. */
export function orderKept(
  plan: Plan,
  label: string,
  input: { kept: Kept; experts: number },
): OrderedKept {
  const { kept: { index, score }, experts } = input;
  const { sorted, weight, place } = recordOrder(plan, label, {
    index,
    score,
    none: experts,
    ascending: true,
  });
  return { index: sorted, score: weight, place, none: experts };
}

/** A pass over both tables: the first's rows meet `x`, the second's are summed. */
interface FusedPass {
  readonly first: readonly Tensor[];
  readonly second: readonly Tensor[];
  readonly x: Tensor;
  readonly kept: Kept;
  /** f32 `[T, M]`: `p`, written forward and read backward. */
  readonly p: Tensor;
  /** f32 `[T, M, 4]`: a, dp, ds, p, written; backward. */
  readonly entries?: Tensor;
  /** f32 `[T, D]`. */
  readonly out: Tensor;
  /** Whether `out` is overwritten rather than added to. */
  readonly initial: boolean;
}

function fused(plan: Plan, label: string, input: FusedPass): void {
  const { first, second, x, kept, p, entries, out } = input;
  const { capabilities } = plan.gpu;
  const { rows: tokens, width: per } = kept.index;
  const width = x.width / 4;
  const backward = entries !== undefined;
  const size = subgroupSize(capabilities);
  // Halves are loaded as the bits of eight where rows are whole eights.
  const eights = first[0]!.dtype === "f16" && width % 2 === 0;
  const vectors = eights ? 2 : 1;
  const units = width / vectors;
  const subgroups = size !== undefined &&
    Math.ceil(units / size) * vectors <= MOST_TILES;
  const { software } = capabilities;
  let lanes = 64;
  while (lanes < MOST_LANES && width > MOST_TILES * lanes / 2) lanes *= 2;
  // Parts of a token's experts that an invocation of a software adapter does.
  const step = software ? Math.max(1, Math.floor((ROUNDS - width) / (2 * width + 1))) : per;
  const bind = (table: Tensor) => subgroups && eights ? readBits(table) : read(table);
  let row = 0;
  let initial = input.initial;
  for (const [i, table] of first.entries()) {
    for (let start = 0; start < per; start += step) {
      const kernel = subgroups
        ? {
          name: "experts_stored_subgroup",
          source: sumsSource + subgroupSource,
          constants: {
            SUBGROUPS: true,
            SIZE: size,
            ROWS: INVOCATIONS / size,
            TILES: Math.ceil(units / size),
            PER: vectors,
            EDGE: units % size !== 0,
          },
          workgroups: Math.ceil(tokens / (INVOCATIONS / size)),
        }
        : {
          name: "experts_stored",
          source,
          constants: software
            ? { SOFTWARE: true }
            : { SOFTWARE: false, LANES: lanes, TILES: Math.ceil(width / lanes) },
          workgroups: software ? Math.ceil(tokens / 8) : tokens,
        };
      plan.dispatch({
        ...kernel,
        label,
        constants: { ...kernel.constants, BACKWARD: backward, GELU: geluSource },
        params: {
          tokens,
          per,
          width,
          first: row,
          count: table.rows,
          initial: initial ? 1 : 0,
          ...(software && { start, end: Math.min(per, start + step) }),
        },
        bindings: {
          first: bind(table),
          second: bind(second[i]!),
          index: readScalar(kept.index),
          score: readScalar(kept.score),
          x: read(x),
          p: backward ? readScalar(p) : writeScalar(p),
          ...(entries && { entries: write(entries) }),
          out: initial ? write(out) : update(out),
        },
        workgroups: grid(kernel.workgroups),
        flops: 4 * p.size * x.width / first.length,
        bytes: p.size * (2 * x.width * BYTES[table.dtype] + (backward ? 28 : 12)) / first.length +
          x.bytes + out.bytes * (initial ? 1 : 2),
      });
      initial = false;
    }
    row += table.rows;
  }
}

/** The tensors that both passes of {@linkcode storedExperts} read. */
interface StoredInput {
  readonly tables: StoredTables;
  /** `[T, D]`, in the tables' type or f32. */
  readonly x: Tensor;
  readonly kept: OrderedKept;
  readonly execution: StoredExecution;
}

function products(
  plan: Plan,
  label: string,
  input: { parts: readonly Tensor[]; x: Tensor; kept: Kept; p: Tensor },
): void {
  const { parts, x, kept, p } = input;
  let first = 0;
  for (const part of parts) {
    const table = { rows: matrix(part), first, index: kept.index };
    project(plan, label, { table, per: kept.index.width, x, p });
    first += part.rows;
  }
}

function sums(
  plan: Plan,
  label: string,
  input: {
    parts: readonly Tensor[];
    by: "a" | "dp";
    kept: Kept;
    entries: Tensor;
    out: Tensor;
    initial: boolean;
  },
): void {
  const { parts, by, kept, entries, out, initial } = input;
  let first = 0;
  for (const [i, part] of parts.entries()) {
    combine(plan, label, {
      table: { rows: matrix(part), first, index: kept.index },
      per: kept.index.width,
      what: { kind: "weighted", by, entries },
      out: matrix(out),
      initial: initial && i === 0,
    });
    first += part.rows;
  }
}

/**
 * Records `y += Σ gelu(u · x) s v`.
 *
 * @param input `y` f32 `[T, D]`.
 * @returns `p`, f32 `[T, M]`, for the backward pass.
 */
export function storedExperts(
  plan: Plan,
  label: string,
  input: StoredInput & { readonly y: Tensor },
): Tensor {
  const { tables: { u, v }, x, kept, execution, y } = input;
  const p = plan.tensor(`${label}.p`, kept.index.shape);
  if (execution === "fused") {
    fused(plan, `${label}.apply`, { first: u, second: v, x, kept, p, out: y, initial: false });
    return p;
  }
  products(plan, `${label}.project`, { parts: u, x, kept, p });
  const entries = plan.tensor(`${label}.entries`, [...kept.index.shape, 4]);
  activate(plan, `${label}.activate`, { p, score: kept.score, entries });
  sums(plan, `${label}.combine`, { parts: v, by: "a", kept, entries, out: y, initial: false });
  return p;
}

/** The operands of {@linkcode storedExpertsBackward}. */
interface StoredGradients extends StoredInput {
  /** The result of the forward pass. */
  readonly p: Tensor;
  /** Gradient of `y`, `[T, D]`, as `x`. */
  readonly dy: Tensor;
  /** Gradient of `x`, f32 `[T, D]`, written. */
  readonly dx: Tensor;
  /** Gradient of the scores in the router's order, f32 `[T, M]`, written. */
  readonly dscore: Tensor;
  /** Of the tables, a part each. */
  readonly gradients: { readonly u: readonly Gradient[]; readonly v: readonly Gradient[] };
}

/** Records the gradients of {@linkcode storedExperts}. Rows of experts that no token keeps get zeros, or keep what they accumulated. */
export function storedExpertsBackward(plan: Plan, label: string, input: StoredGradients): void {
  const { tables: { u, v }, x, kept, execution, p, dy, dx, dscore, gradients } = input;
  const { software } = plan.gpu.capabilities;
  const per = kept.index.width;
  const entries = plan.tensor(`${label}.entries`, [...kept.index.shape, 4]);
  if (execution === "fused") {
    const pass = { first: v, second: u, x: dy, kept, p, entries, out: dx, initial: true };
    fused(plan, `${label}.dx`, pass);
  } else {
    const q = plan.tensor(`${label}.da`, kept.index.shape);
    products(plan, `${label}.da`, { parts: v, x: dy, kept, p: q });
    const ds = plan.tensor(`${label}.ds`, kept.index.shape);
    const backward = { q, dscore: ds };
    activate(plan, `${label}.activate`, { p, score: kept.score, entries, backward });
    sums(plan, `${label}.dx`, { parts: u, by: "dp", kept, entries, out: dx, initial: true });
  }
  const workgroup = 64;
  plan.dispatch({
    label: `${label}.dscore`,
    name: "experts_score_gradient",
    source: scoreSource,
    constants: { WORKGROUP: workgroup },
    params: { n: dscore.size, per, none: kept.none },
    bindings: {
      sorted: readScalar(kept.index),
      place: readScalar(kept.place),
      entries: read(entries),
      dscore: writeScalar(dscore),
    },
    workgroups: grid(Math.ceil(dscore.size / workgroup)),
  });
  const sorted = sortByKey(plan, `${label}.sort`, { keys: kept.index, bound: kept.none + 1 });
  for (const [name, tokens, component] of [["u", x, 1], ["v", dy, 0]] as const) {
    const columns = software ? x.width : cachedColumns(tokens);
    let first = 0;
    for (const { tensor, epilogue } of gradients[name]) {
      for (let start = 0; start < x.width; start += columns) {
        segmentSum(plan, `${label}.d${name}`, {
          sorted,
          first,
          out: matrix(tensor, { start, columns: Math.min(columns, x.width - start) }),
          accumulate: epilogue === "accumulate",
          entries: {
            wgsl: ENTRY[component],
            bindings: { entries: read(entries), x: read(tokens) },
            params: { per, ldx: x.width / 4, x_start: start / 4 },
          },
        });
      }
      first += tensor.rows;
    }
  }
}

const ENTRY = ([0, 1] as const).map((component) =>
  new Template(entrySource).render({ COMPONENT: component })
) as [string, string];

/** Columns of the tokens' rows that are gathered at a time: so many that a GPU's cache holds them. */
function cachedColumns({ rows, width, dtype }: Tensor): number {
  let columns = width;
  while (columns > LEAST_COLUMNS && rows * columns * BYTES[dtype] > CACHED_BYTES) {
    columns = Math.ceil(columns / 8) * 4;
  }
  return columns;
}
