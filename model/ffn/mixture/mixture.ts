/**
 * A mixture of stored experts around the experts themselves: gate, places of the tokens among the experts, sum of what they give, and the gradients of all that.
 *
 * ```
 * g        = x W_g                          D×E, in f32 whatever the precision
 * (e1…ek)  = the k best of g                ties: the lower expert
 * y        = residual + Σ_j w_j · expert(e_j)(x)
 * ```
 *
 * The rows that experts work on are sorted by expert, and each expert's are padded with zeros to whole tiles (`model/ops/gemm/gemm_grouped.ts`): no expert is
 * computed for a token that it did not get.
 *
 * @module
 */

import type { Tensor } from "../../gpu/tensor.ts";
import type { LayerContext } from "../../layer/context.ts";
import type { FeedForwardPass, LayerInput } from "../../layer/kind.ts";
import { intoColumns, padColumns, paddedWidth } from "../../ops/elementwise/pad_columns.ts";
import { gemm } from "../../ops/gemm/gemm.ts";
import { matrix } from "../../ops/gemm/matrix.ts";
import {
  gate,
  gateBackward,
  gateBalance,
  type Gated,
  type GateSizes,
} from "../../ops/mixture/gate.ts";
import { combineRows, gatherRows, weightGradient } from "../../ops/mixture/rows.ts";
import { type Segments, segmentsOf } from "../../ops/mixture/segments.ts";

/** The experts of a mixture, on rows that are sorted by expert. */
export interface Experts {
  /** The expert's bias on its output, f32 `[E, D]`, where it has one. */
  readonly bias?: Tensor | undefined;
  /** Records the experts on the rows `x`, `[rows, D]`: their output without the bias, and its backward pass. */
  forward(x: Tensor, segments: Segments): {
    readonly out: Tensor;
    /** Records the gradients of the experts' weights; `dout` is that of `out`, `[rows, D]`. Returns that of `x`, f32. */
    backward(dout: Tensor): Tensor;
  };
}

/** A mixture of experts. */
export interface Mixture extends GateSizes {
  /** Coefficient of the load-balance term; 0 turns it off. */
  readonly load_balance_coef: number;
}

/** A recorded mixture. */
export interface MixturePass extends FeedForwardPass {
  /** The experts that the tokens kept. */
  readonly gated: Gated;
}

/**
 * Records a mixture of experts.
 *
 * @param at Prefix of the weights' names: `layers.3.ffn`.
 * @param input `given` u32 `[T, k]`: experts to keep instead of choosing them; E stands for none.
 */
export function mixtureForward(
  context: LayerContext,
  at: string,
  input: LayerInput & {
    readonly mixture: Mixture;
    readonly experts: Experts;
    readonly given?: Tensor | undefined;
  },
): MixturePass {
  const { plan, tokens } = context;
  const { x, residual, mixture, experts, given } = input;
  const training = context.mode === "train";
  const columns = mixture.experts;
  // Which experts a token gets hangs on small differences, so the gate's weights and logits stay in f32.
  const w_g = context.vector(`${at}.w_g`);
  const logits = context.activation(`${at}.logits`, tokens, paddedWidth(columns));
  gemm(plan, `${at}.logits`, {
    a: x,
    b: padColumns(plan, `${at}.w_g`, w_g),
    c: matrix(logits, { columns }),
  });
  const gated = gate(plan, `${at}.gate`, { sizes: mixture, logits, given });
  context.chosen({ at, index: gated.keys, score: gated.weight });
  const segments = segmentsOf(plan, at, {
    keys: gated.keys,
    experts: columns,
    drops: mixture.top_p !== undefined,
    gradients: training,
    dtype: context.operandType,
  });
  const balanced = training && mixture.load_balance_coef > 0;
  const auxiliary = balanced
    ? gateBalance(plan, `${at}.gate`, {
      experts: columns,
      logits,
      begin: segments.sorted.begin,
      coefficient: mixture.load_balance_coef,
    })
    : undefined;
  const { rows } = segments.groups;
  const sorted = context.operand(`${at}.rows`, rows, x.width);
  gatherRows(plan, `${at}.gather`, { segments, x, out: sorted });
  const pass = experts.forward(sorted, segments);
  const { bias } = experts;
  const y = context.activation(`${at}.y`, tokens, residual.width);
  combineRows(plan, `${at}.combine`, { segments, rows: pass.out, y, residual, gated, bias });

  const backward: FeedForwardPass["backward"] = (dy, { loss_scale } = {}) => {
    const dweight = weightGradient(plan, `${at}.dweight`, {
      segments,
      rows: pass.out,
      dy,
      gated,
      bias,
    });
    const dout = context.operand(`${at}.dout`, rows, x.width);
    gatherRows(plan, `${at}.spread`, { segments, x: dy, out: dout, weight: gated.weight });
    const drows = pass.backward(dout);
    const dx = context.activation(`${at}.dx`, tokens, x.width);
    combineRows(plan, `${at}.dx`, { segments, rows: drows, y: dx });
    const dlogits = gateBackward(plan, `${at}.gate`, {
      sizes: mixture,
      logits,
      gated,
      dweight,
      balance: balanced
        ? {
          factor: mixture.load_balance_coef * context.share,
          begin: segments.sorted.begin,
          loss_scale,
        }
        : undefined,
    });
    const of_logits = matrix(dlogits, { columns });
    intoColumns(
      plan,
      `${at}.dw_g`,
      context.gradient(`${at}.w_g`),
      (c, epilogue) => gemm(plan, `${at}.dw_g`, { a: x, b: of_logits, c, layout: "tn", epilogue }),
    );
    gemm(plan, `${at}.dx_gate`, {
      a: of_logits,
      b: padColumns(plan, `${at}.w_g`, w_g),
      c: dx,
      layout: "nt",
      epilogue: "accumulate",
    });
    return dx;
  };
  return {
    y,
    backward,
    gated,
    use: {
      experts: columns,
      index: gated.keys,
      rows: {
        source: segments.source,
        of_tile: segments.groups.of_tile,
        tile: segments.groups.tile,
      },
    },
    ...(auxiliary && { auxiliary }),
  };
}

/** Pairs of a token and a kept expert in one micro-batch: f32 holds every count of them exactly. */
const MAXIMUM_ENTRIES = 2 ** 24;

/** The reasons why a mixture cannot train on so many tokens at once. */
export function mixtureProblems({ top_k }: Pick<GateSizes, "top_k">, tokens: number): string[] {
  const entries = tokens * top_k;
  if (entries <= MAXIMUM_ENTRIES) return [];
  return [
    `${tokens} tokens with ${top_k} experts each are ${entries} assignments at once; at most ${MAXIMUM_ENTRIES}: ` +
    "lower train.micro_batch and raise gradient_accumulation",
  ];
}
