/**
 * Matrix products: `C = epilogue(op(A) · op(B))`.
 *
 * @module
 */

import epilogueSource from "../../../shaders/gemm/gemm_epilogue.wgsl" with { type: "text" };
import geluSource from "../../../shaders/elementwise/gelu.wgsl" with { type: "text" };
import directSource from "../../../shaders/gemm/gemm_direct.wgsl" with { type: "text" };
import lanesSource from "../../../shaders/gemm/gemm_lanes.wgsl" with { type: "text" };
import reduceSource from "../../../shaders/gemm/gemm_reduce.wgsl" with { type: "text" };
import vectorSource from "../../../shaders/gemm/gemm_vector.wgsl" with { type: "text" };
import {
  type Binding,
  type Constants,
  grid,
  read,
  readOften,
  update,
  write,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { BYTES, roundUp, type Tensor } from "../../gpu/tensor.ts";
import { softwareLanes } from "../subgroup.ts";
import { gpuKernel, type ProductShape, type ProductWay, productWay } from "./gemm_kernels.ts";
import {
  type Matrix,
  matrix,
  type Operands,
  operandShape,
  place,
  productSizes,
  transpose,
} from "./matrix.ts";

/** An operation on the product before it is stored. */
export type Epilogue =
  | "none"
  /** `C = P + E`. */
  | "add"
  /** `C += P`. */
  | "accumulate"
  /** `C = gelu(P)`. */
  | "gelu"
  /** `C *= gelu′(P)`: the backward pass of `gelu`, with the product computed again instead of kept. */
  | "gelu_backward";

interface GemmOptions {
  /** Which operand is stored transposed: `nn` A·B, `nt` A·Bᵀ, `tn` Aᵀ·B. */
  readonly layout?: "nn" | "nt" | "tn";
  readonly epilogue?: Epilogue;
  /** The other addend of `add`, laid out as C. */
  readonly addend?: Tensor;
}

/** Rounds of a loop that a software adapter runs for certain. */
const MAX_ROUNDS = 65000;

/** A product, all of it said. */
interface WholeProduct extends Operands {
  readonly epilogue: Epilogue;
  readonly addend: Tensor | undefined;
}

/** Records a product whose sum is too long for one dispatch as several of at most so many terms that add up. */
function splitSum(plan: Plan, label: string, product: WholeProduct, most: number): void {
  const { a, b, c, layout, epilogue, addend } = product;
  if (epilogue === "gelu" || epilogue === "gelu_backward") {
    throw new RangeError(`${label}: a sum of more than ${most} terms cannot end in ${epilogue}`);
  }
  const length = layout === "tn" ? a.rows : a.columns;
  /** Terms `first` to `first + count` of an operand whose sum runs along its rows or its columns. */
  const range = (m: Matrix, along: "rows" | "columns", first: number, count: number): Matrix => ({
    ...m,
    [along]: count,
    start: m.start + first * (along === "rows" ? m.stride : 1),
  });
  for (let first = 0; first < length; first += most) {
    const count = Math.min(most, length - first);
    gemm(plan, label, {
      a: range(a, layout === "tn" ? "rows" : "columns", first, count),
      b: range(b, layout === "nt" ? "columns" : "rows", first, count),
      c,
      layout,
      epilogue: first > 0 ? "accumulate" : epilogue,
      ...(first === 0 && addend ? { addend } : {}),
    });
  }
}

/**
 * Records `C = epilogue(op(A) · op(B))`, accumulated in f32.
 *
 * Shapes: `nn` A `[M, K]`, B `[K, N]`; `nt` A `[M, K]`, B `[N, K]`; `tn` A `[K, M]`, B `[K, N]`; C `[M, N]`.
 */
export function gemm(
  plan: Plan,
  label: string,
  product: { a: Matrix | Tensor; b: Matrix | Tensor; c: Matrix | Tensor } & GemmOptions,
): void {
  const { layout = "nn", epilogue = "none", addend } = product;
  const [a, b, c] = [product.a, product.b, product.c].map((o) => "tensor" in o ? o : matrix(o)) as [
    Matrix,
    Matrix,
    Matrix,
  ];
  const whole = { a, b, c, layout, epilogue, addend };
  const { m, n, k } = productSizes(label, whole);
  if ((epilogue === "add") !== (addend !== undefined)) {
    throw new TypeError(`${label}: the epilogue ${epilogue} and the addend do not go together`);
  }
  if (plan.gpu.capabilities.software) {
    recordDirect(plan, label, whole);
    return;
  }
  if (m <= MOST_VECTOR_ROWS && layout !== "tn") {
    recordVector(plan, label, whole);
    return;
  }
  const shape: ProductShape = {
    m,
    n,
    k,
    layout,
    a: operandShape(a),
    b: operandShape(b),
    linear: epilogue !== "gelu" && epilogue !== "gelu_backward",
    single: c.tensor.dtype === "f32" && (addend?.dtype ?? "f32") === "f32",
  };
  const rule = gpuKernel(plan.gpu.capabilities, shape);
  if (rule.units && k % rule.step > 0) {
    // Matrix units take whole steps; what is left of the sum is added without them.
    splitSum(plan, label, whole, k - k % rule.step);
    return;
  }
  const columns = n - n % 16;
  if (rule.units && layout === "nt" && n % 4 > 0 && columns >= rule.tile_n) {
    // Columns that end within a vec4 slow each tile down: they are a product of their own.
    for (const [first, count] of [[0, columns], [columns, n - columns]] as const) {
      gemm(plan, label, {
        a,
        b: { ...b, rows: count, start: b.start + first * b.stride },
        c: { ...c, columns: count, start: c.start + first },
        layout,
        epilogue,
        ...(addend && { addend }),
      });
    }
    return;
  }
  recordWay(plan, label, whole, productWay(plan.gpu.capabilities, shape));
}

/** The part that all dispatches of a product have in common. */
function dispatchOf({ a, b, c, layout, epilogue, addend }: WholeProduct, label: string) {
  const { m, n, k } = productSizes(label, { a, b, c, layout });
  const inPlace = epilogue === "accumulate" || epilogue === "gelu_backward";
  const outputs: Record<string, Binding> = {
    c: inPlace ? update(c.tensor) : write(c.tensor),
    ...(addend && { e: read(addend) }),
  };
  return {
    outputs,
    constants: { LAYOUT: layout, EPILOGUE: epilogue, GELU: geluSource },
    shared: {
      label,
      flops: 2 * m * n * k,
      bytes: BYTES[a.tensor.dtype] * m * k + BYTES[b.tensor.dtype] * k * n +
        BYTES[c.tensor.dtype] * m * n * (inPlace || addend ? 2 : 1),
    },
  };
}

/** Rows that a subgroup of `gemm_lanes.wgsl` computes, the best first. */
const LANES_ROWS = [32, 16] as const;
/** Subgroups that a product should have at least, so that a few cores have work. */
const MIN_SUBGROUPS = 4;

/** Records a product for a software adapter. */
function recordDirect(plan: Plan, label: string, product: WholeProduct): void {
  const { m, n, k } = productSizes(label, product);
  const lanes = softwareLanes(plan.gpu.capabilities);
  // llvmpipe leaves an invocation's loops after 65,535 rounds in all, without a word.
  const most = product.layout === "tn" && lanes === undefined ? MAX_ROUNDS : 4 * MAX_ROUNDS;
  if (k > most) {
    splitSum(plan, label, product, most);
    return;
  }
  const { outputs, constants, shared } = dispatchOf(product, label);
  const { params, bindings } = place(product);
  const placed = {
    ...shared,
    params: { m, n, k, ...params },
    bindings: { ...bindings, ...outputs },
  };
  if (lanes !== undefined) {
    const across = Math.ceil(n / (4 * lanes));
    const tiles = (rows: number) => Math.ceil(m / rows) * across;
    const [high, low] = LANES_ROWS;
    const rows = tiles(high) < MIN_SUBGROUPS ? low : high;
    const terms = tiles(rows) * Math.ceil(k / 4);
    plan.dispatch({
      ...placed,
      bindings: {
        a: readOften(product.a.tensor, terms * rows),
        b: readOften(product.b.tensor, terms * 4 * lanes),
        ...outputs,
      },
      name: "gemm_lanes",
      source: epilogueSource + lanesSource,
      constants: { ...constants, ROWS: rows, LANES: lanes, SUBGROUPS: true },
      workgroups: grid(tiles(rows)),
    });
    return;
  }
  const rows = 8;
  const columns = 2;
  const tiles = Math.ceil(m / rows) * Math.ceil(n / (4 * columns));
  plan.dispatch({
    ...placed,
    name: "gemm_direct",
    source: epilogueSource + directSource,
    constants: { ...constants, ROWS: rows, COLUMNS: columns, WORKGROUP: 8 },
    workgroups: grid(Math.ceil(tiles / 8)),
  });
}

/** Rows of a result that kernels of `gemm_vector.wgsl` compute: few kernels serve any number. Each row takes registers. */
const VECTOR_ROWS = [1, 4, 16] as const;
const [, , MOST_VECTOR_ROWS] = VECTOR_ROWS;
/** Columns that a workgroup of it does. */
const VECTOR_COLUMNS = { nn: 32, nt: 8 };
/** Fours of terms that it asks for at once, for a single row. */
const VECTOR_UNROLL = { nn: 2, nt: 4 };
/** Rows whose sums are in workgroup memory together, at most: 16 KiB. */
const VECTOR_TOGETHER = { nn: 4, nt: MOST_VECTOR_ROWS };

/** Records a product of few rows. */
function recordVector(plan: Plan, label: string, product: WholeProduct): void {
  const { m, n, k } = productSizes(label, product);
  const rows = VECTOR_ROWS.find((rows) => rows >= m) ?? MOST_VECTOR_ROWS;
  const layout = product.layout === "nt" ? "nt" : "nn";
  const unroll = Math.max(1, VECTOR_UNROLL[layout] / rows);
  const { outputs, constants, shared } = dispatchOf(product, label);
  const { params, bindings } = place(product);
  plan.dispatch({
    ...shared,
    name: "gemm_vector",
    source: epilogueSource + vectorSource,
    constants: {
      ...constants,
      COLUMNS4: VECTOR_COLUMNS[layout] / 4,
      UNROLL: unroll,
      WHOLE: unroll === 1 && k % 4 === 0,
      ROWS: rows,
      TOGETHER: Math.min(rows, VECTOR_TOGETHER[layout]),
    },
    params: { m, n, k, ...params },
    bindings: { ...bindings, ...outputs },
    workgroups: grid(Math.ceil(n / VECTOR_COLUMNS[layout])),
  });
}

/** Records a product in one of its ways. */
function recordWay(plan: Plan, label: string, product: WholeProduct, way: ProductWay): void {
  const { a, b, c, layout } = product;
  const { m, n, k } = productSizes(label, product);
  const { splits, kernel: { kernel, step, units, tile_m, tile_n } } = way;
  if (way.transposed) {
    const transposed: WholeProduct = {
      ...product,
      a: transpose(plan, `${label}.a`, a),
      b: layout === "nt" ? transpose(plan, `${label}.b`, b) : b,
      layout: "tn",
    };
    if (units && k % step > 0) splitSum(plan, label, transposed, k - k % step);
    else recordWay(plan, label, transposed, { ...way, transposed: false });
    return;
  }
  const { outputs, constants, shared } = dispatchOf(product, label);
  const placed = place(product, way.kernel);
  const params = { m, n, k, ...placed.params };
  const { bindings } = placed;
  const tiles = Math.ceil(m / tile_m) * Math.ceil(n / tile_n);
  const tiled = {
    name: kernel.name,
    constants: { ...constants, ...kernel.constants, PAIRED: false },
  };
  if (splits < 2) {
    plan.dispatch({
      ...shared,
      ...tiled,
      source: epilogueSource + kernel.source,
      constants: { ...tiled.constants, SPLIT: false },
      params,
      bindings: { ...bindings, ...outputs },
      workgroups: grid(tiles),
    });
    return;
  }
  const partial = plan.tensor(`${label}.partial`, [splits, m, roundUp(n, 4)], {
    owner: "workspace",
  });
  plan.dispatch({
    ...shared,
    ...tiled,
    source: kernel.source,
    constants: { ...tiled.constants, SPLIT: true, EPILOGUE: "none" },
    params: { ...params, splits, range: roundUp(Math.ceil(k / splits), step) },
    bindings: { ...bindings, p: write(partial) },
    workgroups: grid(tiles * splits),
  });
  addParts(plan, label, { partial, c, constants, outputs });
}

/** Records the second half of a product whose sum was cut: the parts `[splits, M, N padded to 4]`, added in order. */
function addParts(plan: Plan, label: string, sum: {
  partial: Tensor;
  c: Matrix;
  constants: Constants;
  outputs: Record<string, Binding>;
}): void {
  const { partial, c: { rows: m, columns: n, stride, start }, constants, outputs } = sum;
  const [splits] = partial.shape as [number];
  plan.dispatch({
    label: `${label}.reduce`,
    name: "gemm_reduce",
    source: epilogueSource + reduceSource,
    constants,
    params: { m, n, ldc: stride / 4, c_start: start / 4, splits },
    bindings: { p: read(partial), ...outputs },
    workgroups: grid(Math.ceil(partial.size / splits / 256)),
    flops: splits * m * n,
  });
}

/** Records `C = Σ parts`, in order: `parts` `[P, M, N]` f32, N a multiple of 4, C `[M, N]` of any float type. */
export function sumParts(
  plan: Plan,
  label: string,
  { parts, c }: { parts: Tensor; c: Tensor },
): void {
  addParts(plan, label, {
    partial: parts,
    c: matrix(c),
    constants: { LAYOUT: "nn", EPILOGUE: "none" },
    outputs: { c: write(c) },
  });
}
