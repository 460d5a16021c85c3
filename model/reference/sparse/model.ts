/**
 * Sparse Expansion of a whole model in float64: every MLP for the rows that reach it behind the expanded MLPs before it.
 *
 * @module
 */

import type { FfnSection, ModelConfig } from "../../section.ts";
import type { Expansion, Pruning } from "../../sparse/options.ts";
import { gelu, geluExact, silu } from "../activation.ts";
import { under } from "../layer.ts";
import { map, matmul, type Matrix, matrix, transpose, type Weights, zip } from "../matrix.ts";
import { networkForward, type NetworkPass } from "../network.ts";
import { applySite, expandSite, type ReferenceSite } from "./expansion.ts";
import { uniform } from "./uniform.ts";

/** How the MLPs of a model are expanded. */
export interface ReferenceExpansion {
  readonly expansion: Expansion;
  readonly pruning: Pruning;
  /** Site `s` of layer `l` has the seed `seed + 2 l + s`. */
  readonly seed: number;
}

/** An expanded MLP: its site before the activation (`gate`, `up`), and the one behind it (`down`). */
export interface ReferenceMlp {
  readonly in: ReferenceSite;
  readonly mid: ReferenceSite;
}

/** Tokens in whole sequences. */
interface Sequences {
  readonly tokens: ArrayLike<number>;
  /** Tokens of a sequence. */
  readonly length: number;
}

type Dense = Extract<FfnSection, { kind: "dense" }>;

/** Parameters of a model by name. */
type Tensors = ReadonlyMap<string, Float64Array>;

/** A product of rows with one of an MLP's matrices, `gate`, `up` or `down`. */
type Product = (name: string, x: Matrix) => Matrix;

/** The section of layer `i`, whose feed-forward must be dense. */
function denseOf({ ffn, leading_dense }: ModelConfig, i: number): Dense {
  if (i < leading_dense.num_layers) return { kind: "dense", d_ffn: leading_dense.d_ffn };
  if (ffn.kind !== "dense") throw new RangeError(`Layer ${i} is ${ffn.kind}, expected dense`);
  return ffn;
}

/** A product plus its bias, if it has one. */
function biased(weights: Weights<string>, product: Product): Product {
  return (name, x) => {
    const bias = weights[`b_${name}`];
    const y = product(name, x);
    return bias ? matrix(y.rows, y.columns, y.data.map((v, i) => v + bias[i % y.columns]!)) : y;
  };
}

/** The rows behind the activation. */
function inner({ activation = "swiglu" }: Dense, product: Product, x: Matrix): Matrix {
  const up = product("up", x);
  if (activation === "swiglu") return zip(product("gate", x), up, (g, u) => silu(g) * u);
  return map(up, activation === "gelu" ? gelu : geluExact);
}

/** Expands the MLP of layer `l` for its rows; the second site's come from the dense first one. */
function expandMlp(
  dense: Dense,
  weights: Weights<string>,
  { x, l, how }: { x: Matrix; l: number; how: ReferenceExpansion },
): ReferenceMlp {
  const { activation = "swiglu", d_ffn } = dense;
  const stored = (name: string) => {
    const shape = name === "down" ? [d_ffn, x.columns] as const : [x.columns, d_ffn] as const;
    return matrix(...shape, weights[`w_${name}`]!);
  };
  const site = (rows: Matrix, names: readonly string[], number: number) =>
    expandSite(rows, Object.fromEntries(names.map((name) => [name, transpose(stored(name))])), {
      ...how,
      uniform: (index) => uniform(how.seed + 2 * l + number, index),
    });
  const h = inner(dense, biased(weights, (name, x) => matmul(x, stored(name))), x);
  return {
    in: site(x, activation === "swiglu" ? ["gate", "up"] : ["up"], 0),
    mid: site(h, ["down"], 1),
  };
}

/** Runs a model with the expanded MLP that `mlpOf` gives for each layer and the rows that reach it. */
function forward(
  config: ModelConfig,
  tensors: Tensors,
  { mlpOf, ...sequences }: Sequences & {
    mlpOf: (l: number, at: { x: Matrix; weights: Weights<string>; dense: Dense }) => ReferenceMlp;
  },
): NetworkPass {
  return networkForward(config, tensors, {
    ...sequences,
    training: false,
    feedForward(l, x) {
      const weights = under(tensors, `layers.${l}.ffn.`);
      const dense = denseOf(config, l);
      const mlp = mlpOf(l, { x, weights, dense });
      const product = biased(
        weights,
        (name, x) => applySite(name === "down" ? mlp.mid : mlp.in, name, x),
      );
      return product("down", inner(dense, product, x));
    },
  });
}

/** Expands every MLP of a model, layer after layer, from calibration sequences. */
export function expandModel(
  config: ModelConfig,
  tensors: Tensors,
  options: Sequences & ReferenceExpansion,
): ReferenceMlp[] {
  const mlps: ReferenceMlp[] = [];
  forward(config, tensors, {
    ...options,
    mlpOf(l, { x, weights, dense }) {
      mlps.push(expandMlp(dense, weights, { x, l, how: options }));
      return mlps[l]!;
    },
  });
  return mlps;
}

/** Logits of a model with expanded MLPs, tokens × vocabulary. */
export function expandedLogits(
  config: ModelConfig,
  tensors: Tensors,
  options: Sequences & { mlps: readonly ReferenceMlp[] },
): Matrix {
  return forward(config, tensors, { ...options, mlpOf: (l) => options.mlps[l]! }).logits;
}
