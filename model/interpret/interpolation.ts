/**
 * Experts between two latent codes: the vectors that the hypernetwork generates for them, and what a context's predictions make of them.
 *
 * ```
 * z(a) = (1 − a) z_from + a z_to        h = gelu(z W1)   u = W_u h   v = h W_v        (Section 3 of the paper; without the token's context)
 * ```
 *
 * @module
 */

import { Matrix } from "ml-matrix";
import { downloadParts } from "../gpu/transfer.ts";
import type { InferenceModel } from "../inference/model.ts";
import type { TokenBatch } from "../inference/token_batch.ts";
import { readCodes, requireOwnCodes, writeCode } from "./codes.ts";
import { type ExpertLayer, expertNumbers } from "./expert_layers.ts";
import type { ExpertProbe } from "./probe.ts";

/** An expert at one place of the path. */
export interface PathPoint {
  /** 0 at the first code, 1 at the second. */
  readonly share: number;
  /** Lengths of the generated vectors. */
  readonly input_norm: number;
  readonly output_norm: number;
  /** Cosines of the generated vectors to those of both ends. */
  readonly input_cosines: readonly [number, number];
  readonly output_cosines: readonly [number, number];
  /** Distance of the output vector from the straight line between those of both ends, over the distance between them; 0 where both are the same. */
  readonly bend: number;
  /** Divergence of the next token's distribution from that with the first code, nats. */
  readonly divergence: number;
  /** Loss of the token that follows, nats. */
  readonly loss: number;
  /** The most probable next tokens. */
  readonly best: readonly { readonly token: number; readonly probability: number }[];
}

/** A path from an expert's code to another's. */
export interface CodePath {
  readonly layer: number;
  readonly from: string;
  readonly to: string;
  /** Loss of the token that follows where the expert is left out, nats, and divergence from the distribution with it. */
  readonly without: { readonly loss: number; readonly divergence: number };
  readonly points: readonly PathPoint[];
}

/** Input and output vector that an ETHOS layer generates for a code. */
export interface GeneratedExpert {
  readonly input: Float64Array;
  readonly output: Float64Array;
}

/**
 * Generates experts in float64 from codes, `[n, d_latent]`; the part of a token's context is left out.
 *
 * @throws {RangeError} If the layer is none of ETHOS.
 */
export async function generateExperts(
  model: InferenceModel,
  layer: ExpertLayer,
  codes: readonly ArrayLike<number>[],
): Promise<GeneratedExpert[]> {
  const { ffn, d_model } = model.config;
  if (ffn.kind !== "ethos") {
    throw new RangeError(
      `Layer ${layer.layer} is of kind ${layer.kind}, which generates no experts`,
    );
  }
  const { d_latent, d_hidden } = ffn;
  const read = async (name: string) =>
    await downloadParts(model.gpu, model.weights.value(`${layer.at}.${name}`).parts);
  const [w1, w_u, w_v] = [await read("w1"), await read("w_u"), await read("w_v")];
  const matrix = (rows: number, columns: number, values: ArrayLike<number>) =>
    Matrix.from1DArray(rows, columns, Array.from(values).slice(0, rows * columns));
  const z = new Matrix(codes.map((code) => Array.from(code)));
  const h = z.mmul(matrix(d_latent, d_hidden, w1)).apply(function (i, j) {
    this.set(i, j, gelu(this.get(i, j)));
  });
  const input = h.mmul(matrix(d_model, d_hidden, w_u).transpose());
  const output = h.mmul(matrix(d_hidden, d_model, w_v));
  return codes.map((_, i) => ({
    input: Float64Array.from(input.getRow(i)),
    output: Float64Array.from(output.getRow(i)),
  }));
}

/** The tanh form that the kernels use. */
function gelu(x: number): number {
  return x / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

/** A place in a text. */
export interface PathContext {
  /** Of the probe's size. */
  readonly batch: TokenBatch;
  /** The token whose next one is predicted. */
  readonly t: number;
}

/**
 * Follows the straight line between the codes of two experts. The code stands in the place of the first expert: tokens are routed to that as before.
 * The model is as it was afterwards.
 *
 * @param probe Opened with logits.
 * @param options `steps`: points beside the first.
 * @throws {RangeError} If the layer is none of ETHOS with codes of their own, or has no such expert.
 */
export async function interpolate(
  model: InferenceModel,
  probe: ExpertProbe,
  options: {
    readonly layer: ExpertLayer;
    readonly from: string;
    readonly to: string;
    readonly steps: number;
    readonly context: PathContext;
    readonly most_tokens: number;
  },
): Promise<CodePath> {
  const { layer, from, to, steps, context: { batch, t }, most_tokens } = options;
  requireOwnCodes(layer);
  const { values, width } = await readCodes(model, layer, [from, to]);
  const [first, second] = [values.slice(0, width), values.slice(width)];
  const shares = Array.from({ length: steps + 1 }, (_, i) => i / steps);
  const codes = shares.map((share) =>
    first.map((value, j) => (1 - share) * value + share * second[j]!)
  );
  const experts = await generateExperts(model, layer, codes);
  const target = batch.targets[t]!;
  const predict = async () => {
    await probe.run(batch);
    return logProbabilities(await probe.logits(t));
  };
  const start = await predict();
  try {
    probe.leaveOut(new Map([[layer.layer, [expertNumbers(layer, from)]]]));
    const left = await predict();
    probe.leaveOut(new Map());
    const [a, b] = [experts[0]!, experts.at(-1)!];
    const points: PathPoint[] = [];
    for (const [i, share] of shares.entries()) {
      const { input, output } = experts[i]!;
      await writeCode(model, layer, { expert: from, code: codes[i]! });
      const found = await predict();
      const straight = output.map((_, j) => (1 - share) * a.output[j]! + share * b.output[j]!);
      const apart = distance(a.output, b.output);
      points.push({
        share,
        input_norm: norm(input),
        output_norm: norm(output),
        input_cosines: [cosine(input, a.input), cosine(input, b.input)],
        output_cosines: [cosine(output, a.output), cosine(output, b.output)],
        bend: apart > 0 ? distance(output, straight) / apart : 0,
        divergence: divergence(start, found),
        loss: -found[target]!,
        best: Array.from(found, (value, token) => ({ token, probability: Math.exp(value) }))
          .sort((x, y) => y.probability - x.probability || x.token - y.token)
          .slice(0, most_tokens),
      });
    }
    return {
      layer: layer.layer,
      from,
      to,
      without: { loss: -left[target]!, divergence: divergence(start, left) },
      points,
    };
  } finally {
    probe.leaveOut(new Map());
    await writeCode(model, layer, { expert: from, code: first });
  }
}

function logProbabilities(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return Float64Array.from(logits, (logit) => logit - largest - Math.log(sum));
}

/** `Σ p (ln p − ln q)`; rounding may make it a little negative, which is 0. */
function divergence(p: Float64Array, q: Float64Array): number {
  let sum = 0;
  p.forEach((value, i) => sum += Math.exp(value) * (value - q[i]!));
  return Math.max(0, sum);
}

function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
}

function distance(a: Float64Array, b: Float64Array): number {
  return norm(a.map((value, i) => value - b[i]!));
}

function cosine(a: Float64Array, b: Float64Array): number {
  const product = a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  const lengths = norm(a) * norm(b);
  return lengths > 0 ? product / lengths : 0;
}
