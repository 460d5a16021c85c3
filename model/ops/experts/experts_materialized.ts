/**
 * Experts, materialised: every expert's `h` is generated once a pass, by matrix products, and gathered by the tokens.
 *
 * Pays when a pass has more assignments than there are experts. The table takes `N · d_hidden` numbers; where that is more than a binding
 * it is made, used and dropped part by part. The backward pass makes it again, unless it is so small that it was kept.
 *
 * @module
 */

import type { Plan } from "../../gpu/plan.ts";
import type { DType, Tensor } from "../../gpu/tensor.ts";
import {
  combine,
  type ExpertRange,
  expertRanges,
  type Generator,
  type Gradient,
  type Kept,
  projectActivated,
  sizesOf,
  sumTensor,
} from "./experts.ts";
import { applyExperts, canApplyExperts } from "./experts_apply.ts";
import { generatorGradient, W1Gradient } from "./experts_gradient.ts";
import { gemm } from "../gemm/gemm.ts";
import { matrix } from "../gemm/matrix.ts";
import type { Sorted } from "../routing/sort.ts";

/** Records `h` (context-aware: the codes' part of the argument of `gelu`) of a range of experts. */
export function generate(
  plan: Plan,
  label: string,
  input: { generator: Generator; range: ExpertRange; dtype: DType },
): Tensor {
  const { generator, range, dtype } = input;
  const z = generator.z[range.part]!;
  const table = plan.tensor(`${label}.h`, [range.rows, generator.w1.width], {
    dtype,
    owner: "workspace",
  });
  gemm(plan, `${label}.generate`, {
    a: matrix(z, { start: range.row * z.width, rows: range.rows }),
    b: matrix(generator.w1, { rows: z.width }),
    c: table,
    epilogue: generator.context ? "none" : "gelu",
  });
  return table;
}

/** The result of {@linkcode expertsMaterialized}. */
export interface Materialized {
  /** The kept experts' sum, `[T, d_hidden]` in the given type. */
  readonly acc: Tensor;
  /** The table of all experts that {@linkcode generate} made, for the backward pass, where it is no larger than `acc`. */
  readonly table?: Tensor;
}

/**
 * Records the kept experts' sum.
 *
 * @param input `dtype` of the table and of the result: the matrix products' operand type.
 */
export function expertsMaterialized(
  plan: Plan,
  label: string,
  input: { generator: Generator; kept: Kept; dtype: DType },
): Materialized {
  const { generator, kept, dtype } = input;
  const { d_hidden, tokens, per } = sizesOf(generator, kept);
  const ranges = expertRanges(plan, generator.z, { width: d_hidden, dtype });
  const acc = sumTensor(plan, `${label}.acc`, {
    shape: [tokens, d_hidden],
    dtype,
    dispatches: ranges.length,
  });
  const once = canApplyExperts(plan.gpu.capabilities, d_hidden);
  const p = plan.tensor(`${label}.p`, [tokens, per]);
  const entries = plan.tensor(`${label}.entries`, [tokens, per, 4]);
  const context = generator.context ? { context: d_hidden } : {};
  let table: Tensor | undefined;
  for (const [i, range] of ranges.entries()) {
    table = generate(plan, label, { generator, range, dtype });
    const x = generator.tokens;
    const initial = i === 0;
    if (once) {
      applyExperts(plan, `${label}.apply`, {
        ...{ table, kept, x, initial },
        first: range.first,
        all: ranges.length === 1 && !kept.packed,
        context: generator.context,
        out: acc.tensor,
      });
      continue;
    }
    const rows = { rows: matrix(table), first: range.first, index: kept.index };
    const { score } = kept;
    projectActivated(plan, label, { table: rows, per, x, ...context, p, score, entries });
    combine(plan, `${label}.combine`, {
      ...{ table: rows, per, x, ...context, initial },
      what: { kind: "weighted", by: "a", entries },
      out: matrix(acc.tensor),
    });
  }
  const small = ranges.length === 1 && ranges[0]!.rows <= tokens;
  return { acc: acc.finish(), ...(small && table && { table }) };
}

/** The operands of the backward passes of both reordered executions. */
export interface ReorderedGradients {
  /** As given forward. */
  readonly generator: Generator;
  /** As given forward. */
  readonly kept: Kept;
  /** The assignments by expert. */
  readonly sorted: Sorted;
  /** Gradient of `acc`, `[T, d_hidden]`. */
  readonly dacc: Tensor;
  /** Gradient of the scores, f32 `[T, M]`, written. */
  readonly dscore: Tensor;
  /** Type of the workspace and of the result. */
  readonly dtype: DType;
  /** Of the latent codes, a part each, and of `W1`. */
  readonly gradients: { readonly z: readonly Gradient[]; readonly w1: Gradient };
}

/**
 * Records the gradients of {@linkcode expertsMaterialized}.
 *
 * @returns The gradient of `generator.tokens`, in `dtype`.
 */
export function expertsMaterializedBackward(
  plan: Plan,
  label: string,
  input: ReorderedGradients & Pick<Materialized, "table">,
): Tensor {
  const { generator, kept, dacc, dscore, dtype, gradients } = input;
  const { d_hidden, tokens, per } = sizesOf(generator, kept);
  const ranges = expertRanges(plan, generator.z, { width: d_hidden, dtype });
  const entries = plan.tensor(`${label}.entries`, [tokens, per, 4]);
  const out = sumTensor(plan, `${label}.dtokens`, {
    shape: generator.tokens.shape,
    dtype,
    dispatches: ranges.length,
  });
  const w1 = new W1Gradient(gradients.w1);
  const once = canApplyExperts(plan.gpu.capabilities, d_hidden);
  const split = once ? undefined : splitGradients(plan, label, input, { entries, out: out.tensor });
  for (const [i, range] of ranges.entries()) {
    const h = input.table ?? generate(plan, label, { generator, range, dtype });
    const initial = i === 0;
    if (split) split(h, range, initial);
    else {
      applyExperts(plan, `${label}.apply_backward`, {
        table: h,
        first: range.first,
        all: ranges.length === 1 && !kept.packed,
        kept,
        x: generator.tokens,
        context: generator.context,
        out: out.tensor,
        initial,
        backward: { g: dacc, entries, dscore },
      });
    }
    generatorGradient(plan, label, {
      ...input,
      range,
      entries,
      per,
      z: gradients.z[range.part]!,
      w1,
      ...(generator.context && { preactivation: h }),
    });
  }
  return out.finish();
}

/** Does the work of {@linkcode applyExperts} backward in a pass over the rows for each sum, where subgroups don't hold them. */
function splitGradients(
  plan: Plan,
  label: string,
  input: ReorderedGradients,
  results: { entries: Tensor; out: Tensor },
): (h: Tensor, range: ExpertRange, initial: boolean) => void {
  const { generator, kept, dacc, dscore } = input;
  const { entries, out } = results;
  const { d_hidden, tokens, per } = sizesOf(generator, kept);
  const x = generator.tokens;
  const p = plan.tensor(`${label}.p`, [tokens, per]);
  const q = plan.tensor(`${label}.da`, [tokens, per]);
  const context = generator.context ? { context: d_hidden } : {};
  const share = (start: number) =>
    matrix(out, { start, stride: x.width, rows: tokens, columns: d_hidden });
  return (h, range, initial) => {
    const table = { rows: matrix(h), first: range.first, index: kept.index };
    projectActivated(plan, label, {
      ...{ table, per, x, p, score: kept.score, entries },
      ...context,
      backward: { g: dacc, q, dscore },
    });
    const common = { table, per, x, ...context, initial };
    combine(plan, `${label}.dxp`, {
      ...common,
      what: { kind: "weighted", by: "dp", entries },
      out: share(0),
    });
    if (generator.context) {
      combine(plan, `${label}.dcontext`, {
        ...common,
        what: { kind: "context", entries, g: dacc },
        out: share(d_hidden),
      });
    }
  };
}
