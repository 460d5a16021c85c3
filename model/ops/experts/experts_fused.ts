/**
 * Experts, fused: Algorithm 1 of the paper. One kernel generates each kept expert of a token from its latent code, activates and sums it;
 * no table of experts exists, in either pass.
 *
 * Pays when a pass has fewer assignments than there are experts, and wherever `N · d_hidden` numbers are too many.
 *
 * @module
 */

import source from "../../../shaders/experts/experts_fused.wgsl" with { type: "text" };
import matrixSource from "../../../shaders/experts/experts_fused_matrix.wgsl" with { type: "text" };
import geluSource from "../../../shaders/elementwise/gelu.wgsl" with { type: "text" };
import type { Capabilities } from "../../gpu/capabilities.ts";
import {
  type Constants,
  grid,
  read,
  readBits,
  readScalar,
  update,
  write,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import { type DType, roundUp, type Tensor } from "../../gpu/tensor.ts";
import {
  expertRanges,
  type Generator,
  type Kept,
  scoreGradient,
  sizesOf,
  sumTensor,
} from "./experts.ts";
import { generatorGradient, W1Gradient } from "./experts_gradient.ts";
import { generate, type ReorderedGradients } from "./experts_materialized.ts";
import { sumParts } from "../gemm/gemm.ts";
import { hasSquareUnits } from "../gemm/matrix_unit.ts";

/** Experts that a workgroup generates at a time, so that what it loads of W1 serves them all. */
const EXPERTS = 8;
const MAX_THREADS = 128;
/** Workgroups that the experts of a few tokens are spread over. */
const FEW = 128;
/** Tokens that a workgroup on matrix units does one after the other: loading W1 into registers takes as long as two. */
const TOKENS = 8;
/** Bytes of `dH` that the backward pass forms at a time. */
const WORKSPACE_BYTES = 64 * 2 ** 20;

/** Rounds that a software adapter may give all loops of an invocation, with something to spare; it cuts them short after 65,535. */
const SOFTWARE_ROUNDS = 60_000;

/** One dispatch: a part of the latent codes and some of each token's kept experts. */
interface Piece {
  readonly z: Tensor;
  /** First expert of the part. */
  readonly first: number;
  /** First kept expert of each token. */
  readonly start: number;
  readonly end: number;
}

function piecesOf(plan: Plan, generator: Generator, kept: Kept): Piece[] {
  const { d_hidden, d_latent, per } = sizesOf(generator, kept);
  const rounds = d_hidden / 4 * (d_latent / 4 + 2);
  const step = plan.gpu.capabilities.software
    ? Math.max(1, Math.min(per, Math.floor(SOFTWARE_ROUNDS / rounds)))
    : per;
  const pieces: Piece[] = [];
  let first = 0;
  for (const z of generator.z) {
    for (let start = 0; start < per; start += step) {
      pieces.push({ z, first, start, end: Math.min(start + step, per) });
    }
    first += z.rows;
  }
  return pieces;
}

/** Whether the kernel for matrix units can run: W1 in the registers of 4 or 8 subgroups. */
function fitsMatrixUnits(
  capabilities: Capabilities,
  { w1, z, context }: Generator,
  { d_latent, d_hidden }: { d_latent: number; d_hidden: number },
): boolean {
  // Codes, what is generated from them, and two sums a subgroup.
  const bytes = 16 * (2 * d_latent + 16 + 4 * d_hidden + 32) + 2 * 16 * 4 * d_hidden / 64;
  return hasSquareUnits(capabilities) && !context &&
    [w1, ...z].every(({ dtype }) => dtype === "f16") && d_latent % 16 === 0 && d_latent <= 128 &&
    (d_hidden === 256 || d_hidden === 512) && bytes <= capabilities.max_workgroup_bytes;
}

/** Records the kernel for each piece. */
function dispatchFused(
  plan: Plan,
  label: string,
  input: {
    generator: Generator;
    kept: Kept;
    pieces: readonly Piece[];
    out: Tensor;
    /** Sums in `out` for each token, each of some of its experts: 1 unless given. */
    parts?: number;
    backward?: { g: Tensor; entries: Tensor };
  },
): void {
  const { generator, kept, pieces, out, parts = 1, backward } = input;
  const { d_hidden, d_latent, tokens, per } = sizesOf(generator, kept);
  const { software } = plan.gpu.capabilities;
  const width = d_hidden / 4;
  const flops = 2 * tokens * per * d_hidden * (d_latent + (backward ? 3 : 2));
  const units = parts === 1 &&
    fitsMatrixUnits(plan.gpu.capabilities, generator, { d_latent, d_hidden });
  // A power of two, for the sum over the workgroup.
  const threads = Math.min(MAX_THREADS, Math.max(EXPERTS, 2 ** Math.ceil(Math.log2(width))));
  const constants: Constants = units
    ? { SUBGROUPS: true, SUBGROUP_MATRIX: true, LATENT: d_latent, HIDDEN: d_hidden, TOKENS }
    : {
      SOFTWARE: software,
      CONTEXT: generator.context,
      ...(software
        ? { HIDDEN4: width }
        : { EXPERTS, THREADS: threads, TILES: Math.ceil(width / threads), PARTS: parts }),
    };
  const reading = units ? readBits : read;
  for (const [i, { z, first, start, end }] of pieces.entries()) {
    plan.dispatch({
      label,
      name: units ? "experts_fused_matrix" : "experts_fused",
      source: units ? matrixSource : source,
      constants: {
        ...constants,
        BACKWARD: backward !== undefined,
        DROPS: kept.packed !== undefined,
        GELU: geluSource,
      },
      params: {
        tokens,
        per,
        width,
        latent: d_latent / 4,
        first,
        count: z.rows,
        ldx: generator.tokens.width / 4,
        initial: i === 0 ? 1 : 0,
        ...(software ? { start, end } : { share: shareOf(per, parts) }),
        ...kept.packed && { none: kept.packed.none },
      },
      bindings: {
        z: reading(z),
        w1: reading(generator.w1),
        index: readScalar(kept.index),
        score: readScalar(kept.score),
        x: read(generator.tokens),
        ...(backward && { g: read(backward.g), entries: write(backward.entries) }),
        out: i === 0 ? write(out) : update(out),
      },
      workgroups: grid(Math.ceil(tokens * parts / (units ? TOKENS : software ? 8 : 1))),
      flops: Math.round(flops / pieces.length),
    });
  }
}

/** Kept experts of each part: rounds of {@linkcode EXPERTS}. */
function shareOf(per: number, parts: number): number {
  return roundUp(Math.ceil(per / parts), EXPERTS);
}

/** Parts that the kept experts of few tokens are cut into, so that a GPU is not left to a few workgroups. */
function partsOf({ software }: Capabilities, tokens: number, per: number): number {
  return software ? 1 : Math.max(1, Math.min(Math.floor(FEW / tokens), Math.ceil(per / EXPERTS)));
}

/** Records the kept experts' sum `acc`, `[T, d_hidden]` in `dtype`. */
export function expertsFused(
  plan: Plan,
  label: string,
  input: { generator: Generator; kept: Kept; dtype: DType },
): Tensor {
  const { generator, kept, dtype } = input;
  const { d_hidden, tokens, per } = sizesOf(generator, kept);
  const pieces = piecesOf(plan, generator, kept);
  const parts = partsOf(plan.gpu.capabilities, tokens, per);
  if (parts > 1) {
    const sums = plan.tensor(`${label}.parts`, [parts, tokens, d_hidden], { owner: "workspace" });
    dispatchFused(plan, `${label}.fused`, { generator, kept, pieces, out: sums, parts });
    const acc = plan.tensor(`${label}.acc`, [tokens, d_hidden], { dtype });
    sumParts(plan, `${label}.fused`, { parts: sums, c: acc });
    return acc;
  }
  const acc = sumTensor(plan, `${label}.acc`, {
    shape: [tokens, d_hidden],
    dtype,
    dispatches: pieces.length,
  });
  dispatchFused(plan, `${label}.fused`, { generator, kept, pieces, out: acc.tensor });
  return acc.finish();
}

/**
 * Records the gradients of {@linkcode expertsFused}. Those of the hypernetwork are made for a range of experts at a time, whose `dH` takes at most
 * `workspace_bytes`.
 *
 * @returns The gradient of `generator.tokens`, in `dtype`.
 */
export function expertsFusedBackward(
  plan: Plan,
  label: string,
  input: ReorderedGradients & { workspace_bytes?: number },
): Tensor {
  const { generator, kept, dacc, dscore, dtype, gradients } = input;
  const { d_hidden, tokens, per } = sizesOf(generator, kept);
  const entries = plan.tensor(`${label}.entries`, [tokens, per, 4]);
  const pieces = piecesOf(plan, generator, kept);
  const out = sumTensor(plan, `${label}.dtokens`, {
    shape: generator.tokens.shape,
    dtype,
    dispatches: pieces.length,
  });
  dispatchFused(plan, `${label}.fused_backward`, {
    generator,
    kept,
    pieces,
    out: out.tensor,
    backward: { g: dacc, entries },
  });
  scoreGradient(plan, `${label}.dscore`, { entries, dscore });
  const w1 = new W1Gradient(gradients.w1);
  const ranges = expertRanges(plan, generator.z, {
    width: d_hidden,
    dtype,
    bytes: input.workspace_bytes ?? WORKSPACE_BYTES,
  });
  for (const range of ranges) {
    generatorGradient(plan, label, {
      ...input,
      range,
      entries,
      per,
      z: gradients.z[range.part]!,
      w1,
      ...(generator.context && {
        preactivation: generate(plan, label, { generator, range, dtype }),
      }),
    });
  }
  return out.finish();
}
