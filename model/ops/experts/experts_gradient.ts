/**
 * Gradients of the hypernetwork in the reordered executions: of latent codes and of `W1`, for a range of experts at a time.
 *
 * @module
 */

import entrySource from "../../../shaders/experts/experts_entry.wgsl" with { type: "text" };
import geluSource from "../../../shaders/elementwise/gelu.wgsl" with { type: "text" };
import { Template } from "@huggingface/jinja";
import { read } from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { DType, Tensor } from "../../gpu/tensor.ts";
import type { ExpertRange, Generator, Gradient } from "./experts.ts";
import { type Epilogue, gemm } from "../gemm/gemm.ts";
import { matrix } from "../gemm/matrix.ts";
import { often } from "../often.ts";
import { segmentSum } from "../routing/segment_sum.ts";
import type { Sorted } from "../routing/sort.ts";

const ENTRY = {
  static: new Template(entrySource).render({ CONTEXT: false }),
  context: new Template(entrySource).render({ CONTEXT: true, GELU: geluSource }),
} as const;

/** A gradient that several products add to: the first of them decides whether what was there is kept. */
export class W1Gradient {
  /** Where the products go. */
  readonly tensor: Tensor;
  #epilogue: "none" | "accumulate";

  /** Takes the target of the whole parameter. */
  constructor(gradient: Gradient) {
    this.tensor = gradient.tensor;
    this.#epilogue = gradient.epilogue;
  }

  /** The epilogue of the next product. */
  next(): Epilogue {
    const epilogue = this.#epilogue;
    this.#epilogue = "accumulate";
    return epilogue;
  }
}

/**
 * Records the gradients of a range's latent codes and their part of that of `W1`:
 *
 * ```
 * dH_i = Σ of a · dacc_t + dp · xp_t over the assignments of expert i
 * dpre = dH ⊙ gelu′(z W1)      dz = dpre W1ᵀ      dW1 += zᵀ dpre
 * ```
 *
 * Context-aware, `gelu′` differs by assignment and is part of the sum.
 */
export function generatorGradient(
  plan: Plan,
  label: string,
  input: {
    generator: Generator;
    range: ExpertRange;
    sorted: Sorted;
    /** f32 `[T, M, 4]`: a, dp, ds, p. */
    entries: Tensor;
    /** M. */
    per: number;
    dacc: Tensor;
    dtype: DType;
    z: Gradient;
    w1: W1Gradient;
    /** `z W1z` of the range's experts, when context-aware. */
    preactivation?: Tensor;
  },
): void {
  const { generator, range, sorted, entries, per, dacc, preactivation, w1 } = input;
  const { tokens: x } = generator;
  const tensor = generator.z[range.part]!;
  const d_latent = tensor.width;
  const d_hidden = generator.w1.width;
  const z = matrix(tensor, { start: range.row * d_latent, rows: range.rows });
  const weights = matrix(generator.w1, { rows: d_latent });
  const dh = plan.tensor(`${label}.dh`, [range.rows, d_hidden], {
    dtype: input.dtype,
    owner: "workspace",
  });
  const share = range.rows / generator.z.reduce((n, part) => n + part.rows, 0);
  const loads = share * sorted.order.size * d_hidden / 4;
  segmentSum(plan, `${label}.dh`, {
    sorted,
    first: range.first,
    out: matrix(dh),
    entries: {
      wgsl: preactivation ? ENTRY.context : ENTRY.static,
      bindings: {
        // An invocation reads it once for four vec4s.
        entries: often(plan, entries, loads / 4),
        g: often(plan, dacc, loads),
        x: often(plan, x, loads),
        ...(preactivation && { preactivation: read(preactivation) }),
      },
      params: {
        per,
        ldg: dacc.width / 4,
        ldx: x.width / 4,
        ...(preactivation && { c_start: d_hidden / 4 }),
      },
    },
  });
  if (!preactivation) {
    gemm(plan, `${label}.dpre`, { a: z, b: weights, c: dh, epilogue: "gelu_backward" });
  }
  gemm(plan, `${label}.dz`, {
    a: dh,
    b: weights,
    c: matrix(input.z.tensor, { start: range.row * d_latent, rows: range.rows }),
    layout: "nt",
    epilogue: input.z.epilogue,
  });
  gemm(plan, `${label}.dw1`, {
    a: z,
    b: dh,
    c: matrix(w1.tensor, { rows: d_latent }),
    layout: "tn",
    epilogue: w1.next(),
  });
}
