/**
 * Experts, naive: `u = h W_uᵀ` and `v = h W_v` of every kept expert are formed, as the definition reads. The same numbers as the reordered
 * executions for `d_model/d_latent` times the work and the memory; it exists to measure that.
 *
 * A chunk of tokens at a time, so that what is formed fits its workspace.
 *
 * @module
 */

import gatherSource from "../../../shaders/experts/experts_gather.wgsl" with { type: "text" };
import spreadSource from "../../../shaders/experts/experts_spread.wgsl" with { type: "text" };
import { grid, read, readScalar, write } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, type DType, type Tensor } from "../../gpu/tensor.ts";
import { activate, combine, type Gradient, type Kept, project } from "./experts.ts";
import { type Epilogue, gemm } from "../gemm/gemm.ts";
import { matrix } from "../gemm/matrix.ts";
import { rowsOf, segmentSum } from "../routing/segment_sum.ts";
import { sortByKey } from "../routing/sort.ts";

/** Weights and tokens. */
interface NaiveInput {
  /** `[N, d_latent]`, split by rows. */
  readonly z: readonly Tensor[];
  /** `[d_latent + d_context, d_hidden]`. */
  readonly w1: Tensor;
  /** `[D, d_hidden]`. */
  readonly w_u: Tensor;
  /** `[d_hidden, D]`. */
  readonly w_v: Tensor;
  /** `[T, D]`. */
  readonly x: Tensor;
  /** `x W_c`, `[T, d_context]`, when context-aware. */
  readonly code?: Tensor;
  /** The tokens' experts. */
  readonly kept: Kept;
  /** Type of what is formed. */
  readonly dtype: DType;
  /** Bytes that one of `u`, `v` may take; defaults to 256 MiB or what a binding can have. */
  readonly workspace_bytes?: number;
}

const WORKSPACE_BYTES = 256 * 2 ** 20;
/** Elements of u32 between offsets at which a binding may start. */
const ALIGNED = 64;

interface Chunk {
  /** First token. */
  readonly first: number;
  readonly tokens: number;
}

/** Chunks of tokens whose `u` fits the workspace and whose assignments start where a binding may. */
function chunksOf(plan: Plan, input: NaiveInput): Chunk[] {
  const { x, kept, dtype } = input;
  const per = kept.index.width;
  const bytes = Math.min(
    input.workspace_bytes ?? WORKSPACE_BYTES,
    plan.gpu.capabilities.max_binding_bytes,
  );
  let step = 1;
  while ((step * per) % ALIGNED !== 0) step++;
  const widest = Math.max(x.width, input.w1.width, input.w1.rows);
  const most = Math.floor(bytes / (per * widest * BYTES[dtype]) / step) * step;
  const size = Math.max(step, most);
  const chunks: Chunk[] = [];
  for (let first = 0; first < x.rows; first += size) {
    chunks.push({ first, tokens: Math.min(size, x.rows - first) });
  }
  return chunks;
}

/** The tensors formed for the assignments of a chunk, a row each. */
interface Formed {
  readonly start: number;
  readonly rows: number;
  /** `[rows, d_latent + d_context]`. */
  readonly codes: Tensor;
  /** `[rows, d_hidden]`. */
  readonly h: Tensor;
  /** `[rows, D]`. */
  readonly u: Tensor;
  /** `[rows, D]`. */
  readonly v: Tensor;
}

function form(plan: Plan, label: string, input: NaiveInput, chunk: Chunk): Formed {
  const { z, w1, w_u, w_v, x, code, kept, dtype } = input;
  const per = kept.index.width;
  const start = chunk.first * per;
  const rows = chunk.tokens * per;
  const workgroup = 64;
  const make = (name: string, width: number) =>
    plan.tensor(`${label}.${name}`, [rows, width], { dtype, owner: "workspace" });
  const codes = make("codes", w1.rows);
  let first = 0;
  for (const part of z) {
    plan.dispatch({
      label: `${label}.gather`,
      name: "experts_gather",
      source: gatherSource,
      constants: {
        WORKGROUP: workgroup,
        CONTEXT: code !== undefined,
        DROPS: kept.packed !== undefined,
      },
      params: {
        n: rows,
        per,
        start,
        first,
        count: part.rows,
        latent: part.width / 4,
        context: (code?.width ?? 0) / 4,
        ...kept.packed && { none: kept.packed.none },
      },
      bindings: {
        z: read(part),
        index: readScalar(kept.index),
        ...(code && { code: read(code) }),
        out: write(codes),
      },
      workgroups: grid(Math.ceil(rows * w1.rows / 4 / workgroup)),
    });
    first += part.rows;
  }
  const h = make("h", w1.width);
  gemm(plan, `${label}.generate`, { a: codes, b: w1, c: h, epilogue: "gelu" });
  const u = make("u", x.width);
  gemm(plan, `${label}.u`, { a: h, b: w_u, c: u, layout: "nt" });
  const v = make("v", x.width);
  gemm(plan, `${label}.v`, { a: h, b: w_v, c: v });
  return { start, rows, codes, h, u, v };
}

/** Records `y += Σ gelu(u · x) s v`, `y` f32 `[T, D]`. */
export function expertsNaive(plan: Plan, label: string, input: NaiveInput & { y: Tensor }): void {
  const { x, kept } = input;
  const per = kept.index.width;
  const p = plan.tensor(`${label}.p`, kept.index.shape);
  const entries = plan.tensor(`${label}.entries`, [...kept.index.shape, 4]);
  for (const chunk of chunksOf(plan, input)) {
    const { start, u, v } = form(plan, label, input, chunk);
    project(plan, `${label}.project`, { table: { rows: matrix(u), start }, per, x, p });
    activate(plan, `${label}.activate`, { p, score: kept.score, entries });
    combine(plan, `${label}.combine`, {
      table: { rows: matrix(v), start },
      per,
      what: { kind: "weighted", by: "a", entries },
      out: matrix(input.y),
      initial: false,
    });
  }
}

/** The operands of {@linkcode expertsNaiveBackward}. */
interface NaiveGradients extends NaiveInput {
  /** f32 `[T, D]`. */
  readonly dy: Tensor;
  /** Gradient of `x` through `u`, f32 `[T, D]`, written. */
  readonly dx: Tensor;
  /** Gradient of the scores, f32 `[T, M]`, written. */
  readonly dscore: Tensor;
  /** Where the gradients of the weights go. */
  readonly gradients: {
    readonly z: readonly Gradient[];
    readonly w1: Gradient;
    readonly w_u: Gradient;
    readonly w_v: Gradient;
  };
}

/**
 * Records the gradients of {@linkcode expertsNaive}.
 *
 * @returns The gradient of `code`, when context-aware.
 */
export function expertsNaiveBackward(
  plan: Plan,
  label: string,
  input: NaiveGradients,
): Tensor | undefined {
  const { z, w1, w_u, w_v, x, code, kept, dtype, dy, dx, dscore, gradients } = input;
  const per = kept.index.width;
  const p = plan.tensor(`${label}.p`, kept.index.shape);
  const q = plan.tensor(`${label}.da`, kept.index.shape);
  const entries = plan.tensor(`${label}.entries`, [...kept.index.shape, 4]);
  const dcode = code && plan.tensor(`${label}.dcode`, code.shape, { dtype });
  const bound = z.reduce((n, part) => n + part.rows, 0);
  const latent = z[0]!.width;
  const workgroup = 64;
  for (const [i, chunk] of chunksOf(plan, input).entries()) {
    const { start, rows, codes, h, u, v } = form(plan, label, input, chunk);
    const epilogue = (gradient: Gradient): Epilogue => i === 0 ? gradient.epilogue : "accumulate";
    const make = (name: string, width: number) =>
      plan.tensor(`${label}.${name}`, [rows, width], { dtype, owner: "workspace" });
    project(plan, `${label}.project`, { table: { rows: matrix(u), start }, per, x, p });
    project(plan, `${label}.da`, { table: { rows: matrix(v), start }, per, x: dy, p: q });
    activate(plan, `${label}.activate`, { p, score: kept.score, entries, backward: { q, dscore } });
    combine(plan, `${label}.dx`, {
      table: { rows: matrix(u), start },
      per,
      what: { kind: "weighted", by: "dp", entries },
      out: matrix(dx),
      initial: true,
    });
    // du and dv: what the entries make of x and dy, a row for each assignment.
    const spread = (name: string, component: 0 | 1, tensor: Tensor) => {
      const out = make(name, x.width);
      plan.dispatch({
        label: `${label}.${name}`,
        name: "experts_spread",
        source: spreadSource,
        constants: { WORKGROUP: workgroup, COMPONENT: component },
        params: { n: rows, per, start, width: tensor.width / 4 },
        bindings: { entries: read(entries), x: read(tensor), out: write(out) },
        workgroups: grid(Math.ceil(rows * tensor.width / 4 / workgroup)),
      });
      return out;
    };
    const du = spread("du", 1, x);
    const dv = spread("dv", 0, dy);
    const dh = make("dh", w1.width);
    gemm(plan, `${label}.dh_u`, { a: du, b: w_u, c: dh });
    gemm(plan, `${label}.dh_v`, { a: dv, b: w_v, c: dh, layout: "nt", epilogue: "accumulate" });
    const product = (name: string, a: Tensor, b: Tensor, gradient: Gradient) =>
      gemm(plan, `${label}.${name}`, {
        a,
        b,
        c: gradient.tensor,
        layout: "tn",
        epilogue: epilogue(gradient),
      });
    product("dw_u", du, h, gradients.w_u);
    product("dw_v", h, dv, gradients.w_v);
    gemm(plan, `${label}.dpre`, { a: codes, b: w1, c: dh, epilogue: "gelu_backward" });
    product("dw1", codes, dh, gradients.w1);
    const dcodes = plan.tensor(`${label}.dcodes`, [rows, w1.rows], { owner: "workspace" });
    gemm(plan, `${label}.dcodes`, { a: dh, b: w1, c: dcodes, layout: "nt" });
    const sorted = sortByKey(plan, `${label}.sort`, {
      keys: kept.index.slice(chunk.first, chunk.tokens),
      bound: bound + (kept.packed ? 1 : 0),
    });
    let first = 0;
    for (const gradient of gradients.z) {
      segmentSum(plan, `${label}.dz`, {
        sorted,
        entries: rowsOf(matrix(dcodes, { columns: latent })),
        out: matrix(gradient.tensor),
        first,
        accumulate: epilogue(gradient) === "accumulate",
      });
      first += gradient.tensor.rows;
    }
    if (dcode) {
      combine(plan, `${label}.dcode`, {
        table: {
          rows: matrix(dcodes, {
            start: latent,
            stride: w1.rows,
            rows,
            columns: w1.rows - latent,
          }),
          start,
        },
        per,
        what: { kind: "plain" },
        out: matrix(dcode),
        initial: true,
      });
    }
  }
  return dcode;
}
