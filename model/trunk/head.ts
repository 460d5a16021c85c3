/**
 * The output head, tied to the embedding or of its own: final norm, logits and cross-entropy in chunks of tokens, and their
 * gradients.
 *
 * The logits of a whole batch would take gigabytes at the paper's vocabulary. A chunk's are made, replaced by their own
 * gradient in place, and used up before the next chunk's are made. Where there is a gradient they are of the operands' type, as two
 * products read it; losses that are only evaluated come from f32.
 *
 * @module
 */

import { BYTES, roundUp, type Tensor } from "../gpu/tensor.ts";
import { crossEntropy } from "../ops/elementwise/cross_entropy.ts";
import { gemm } from "../ops/gemm/gemm.ts";
import { matrix } from "../ops/gemm/matrix.ts";
import type { LayerContext } from "../layer/context.ts";
import type { Architecture } from "./architecture.ts";
import { recordNorm } from "./norm.ts";

/** Logits in memory at once, in bytes. */
const LOGITS_BYTES = 2 ** 30;
/** Rows of logits in memory at once, at most: they give a large GPU one round of tiles in each of the products. */
export const LOGITS_ROWS = 4096;
/** Rows of a chunk are whole tiles of the products, when there are several. */
const TILE = 128;

/** Options of {@linkcode headLoss}. */
export interface HeadOptions {
  readonly architecture: Architecture;
  /** Residual stream after the last layer `[T, D]`, f32. */
  readonly x: Tensor;
  /** Next tokens `[T]`, u32. */
  readonly targets: Tensor;
  /** Cross-entropy of each token in nats `[T]`, f32: written. */
  readonly losses: Tensor;
  /**
   * Where the gradient starts: the loss is `scale · Σ losses`, over `predictions[0]` where there is one, times the loss scale
   * in `control[0]`.
   */
  readonly gradient?: {
    readonly scale: number;
    readonly control: Tensor;
    readonly predictions?: Tensor | undefined;
  };
}

/**
 * Records losses and, with `gradient`, the gradients of embedding and final norm.
 *
 * @returns The gradient of the residual stream `[T, D]`, f32, when there is one.
 */
export function headLoss(context: LayerContext, options: HeadOptions): Tensor | undefined {
  const { plan } = context;
  const { architecture, x, targets, losses, gradient } = options;
  const norm = recordNorm(context, "final_norm", { architecture, x });
  const normalised = norm.y;
  const matrixName = headMatrix(architecture);
  const dnormalised = gradient ? context.activation("head.dx", ...x.shape) : undefined;
  const vocabulary = architecture.config.vocab_size;
  const width = roundUp(vocabulary, 8);
  const bytes = width * BYTES[gradient ? context.operandType : "f32"];
  const chunk = Math.min(x.rows, chunkRows(context, bytes));
  for (let first = 0; first < x.rows; first += chunk) {
    const rows = Math.min(chunk, x.rows - first);
    const logits = gradient
      ? context.operand("head.logits", rows, width)
      : context.activation("head.logits", rows, width);
    const input = matrix(normalised, { rows, start: first * x.width });
    logitsOf(context, matrixName, { x: input, logits });
    crossEntropy(plan, "head.loss", { logits, targets, losses }, {
      vocabulary,
      rows,
      first,
      ...(gradient ? { gradient } : {}),
    });
    if (!dnormalised) continue;
    const output = matrix(dnormalised, { rows, start: first * x.width });
    const parts = context.weightParts(matrixName);
    const targetsOfGradient = context.gradientParts(matrixName);
    let column = 0;
    parts.forEach((part, i) => {
      const dlogits = matrix(logits, { columns: part.rows, stride: width, start: column });
      const { tensor, epilogue } = targetsOfGradient[i]!;
      gemm(plan, "head.dembed", { a: dlogits, b: input, c: tensor, layout: "tn", epilogue });
      gemm(plan, "head.dx", {
        a: dlogits,
        b: part,
        c: output,
        epilogue: i === 0 ? "none" : "accumulate",
      });
      column += part.rows;
    });
  }
  if (!dnormalised) return undefined;
  const dx = context.activation("head.dresidual", ...x.shape);
  norm.backward(dnormalised, dx, "none");
  return dx;
}

/** Rows of so many bytes that are in memory at once. */
function chunkRows({ plan }: LayerContext, bytes: number): number {
  const budget = Math.min(LOGITS_BYTES, plan.gpu.capabilities.max_binding_bytes);
  const rows = Math.min(LOGITS_ROWS, Math.floor(budget / bytes));
  return rows < TILE ? Math.max(1, rows) : rows - rows % TILE;
}

/**
 * Records the logits of every row of `x`, for tests and for generation.
 *
 * @returns `[rows, V rounded up to 4]` f32, zero beyond the vocabulary.
 */
export function headLogits(
  context: LayerContext,
  options: { readonly architecture: Architecture; readonly x: Tensor },
): Tensor {
  const { architecture, x } = options;
  const { y: normalised } = recordNorm(context, "final_norm", { architecture, x });
  const logits = context.activation(
    "head.logits",
    x.rows,
    roundUp(architecture.config.vocab_size, 4),
  );
  logitsOf(context, headMatrix(architecture), { x: matrix(normalised), logits });
  return logits;
}

/** The head's matrix `[V, D]`, as the embedding is stored. */
function headMatrix({ config }: Architecture): string {
  return config.trunk.head === "tied" ? "embed.weight" : "head.weight";
}

function logitsOf(
  context: LayerContext,
  name: string,
  { x, logits }: { readonly x: ReturnType<typeof matrix>; readonly logits: Tensor },
): void {
  let column = 0;
  for (const part of context.weightParts(name)) {
    gemm(context.plan, "head.logits", {
      a: x,
      b: part,
      c: matrix(logits, {
        rows: x.rows,
        columns: part.rows,
        stride: logits.width,
        start: column,
      }),
      layout: "nt",
    });
    column += part.rows;
  }
}
