/**
 * Golden cases on the float64 reference.
 *
 * @module
 */

import type { ModelConfig } from "../config.ts";
import {
  type GoldenCase,
  type GoldenImplementation,
  goldenParameters,
  type GoldenResults,
  input,
  type LayerCase,
  type MlaCase,
  type ModelCase,
  type OptimizerCase,
  type RouterCase,
  tolerances,
} from "./golden.ts";
import { attentionBackward, attentionForward, type AttentionName } from "../reference/attention.ts";
import { ethosBackward, ethosForward, type EthosWeights } from "../reference/ethos.ts";
import { matrix, type Weights } from "../reference/matrix.ts";
import { ReferenceModel, type TokenBatch } from "../reference/model.ts";
import type { RunningStatistics } from "../reference/norm.ts";
import { AdamW, clipByGlobalNorm } from "../reference/optimizer.ts";
import {
  routerBackward,
  routerForward,
  type RouterWeights,
  type Routing,
} from "../reference/router.ts";

/** A case's inputs as weights by name. */
function weights<Name extends string>(golden: GoldenCase): Weights<Name> {
  return Object.fromEntries(
    Array.from(golden.inputs, ([name, { data }]) => [name, data]),
  ) as Weights<Name>;
}

/** `values` with a prefix before every name. */
function* named(
  prefix: string,
  values: Readonly<Record<string, ArrayLike<number> | undefined>>,
): Generator<[string, ArrayLike<number>]> {
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) yield [prefix + name, value];
  }
}

function mla(golden: MlaCase): GoldenResults {
  const { config, batch, length } = golden;
  const tokens = batch * length;
  const forward = attentionForward(config, weights<AttentionName>(golden), {
    x: matrix(tokens, config.d_model, input(golden, "x").data),
    length,
  });
  const upstream = matrix(tokens, config.d_model, input(golden, "g").data);
  const backward = attentionBackward(forward, upstream);
  return new Map([
    ["out.y", forward.y.data],
    ["grad.x", backward.x.data],
    ...named("grad.", backward.weights),
  ]);
}

function runningStatistics(running: RunningStatistics | undefined) {
  return { "bn.mean": running?.mean, "bn.var": running?.variance };
}

function decisions({ query, index, total, score }: Routing) {
  return { query: query.data, index, total, score };
}

function router(golden: RouterCase): GoldenResults {
  const { config, tokens } = golden;
  const w: RouterWeights = weights(golden);
  const x = matrix(tokens, config.d_model, input(golden, "x").data);
  const g = input(golden, "g").data;
  const forward = routerForward(config, w, { x, training: true });
  const backward = routerBackward(forward, { score: g });
  const balance = routerBackward(forward, { score: new Float64Array(g.length), balance: 1 });
  const updated: RouterWeights = {
    ...w,
    ...(forward.running &&
      { "bn.mean": forward.running.mean, "bn.var": forward.running.variance }),
  };
  const evaluated = routerForward(config, updated, { x, training: false });
  return new Map([
    ...named("out.", decisions(forward)),
    ...named("out.", { s1: forward.s1.data, s2: forward.s2.data }),
    ...named("out.", runningStatistics(forward.running)),
    ...named("eval.", decisions(evaluated)),
    ["grad.x", backward.x.data],
    ...named("grad.", backward.weights),
    ["balance.value", [forward.balance]],
    ["balance.grad.x", balance.x.data],
    ...named("balance.grad.", balance.weights),
  ]);
}

function layer(golden: LayerCase): GoldenResults {
  const { config, tokens } = golden;
  const w: EthosWeights = weights(golden);
  const x = matrix(tokens, config.d_model, input(golden, "x").data);
  const forward = ethosForward(config, w, { x, training: true });
  const naive = ethosForward(config, w, { x, training: true, execution: "naive" });
  const upstream = matrix(tokens, config.d_model, input(golden, "g").data);
  const backward = ethosBackward(forward, upstream);
  const { index, score, running } = forward.routing;
  return new Map([
    ...named("out.", { y: forward.y.data, y_naive: naive.y.data, index, score }),
    ...named("out.router.", runningStatistics(running)),
    ["grad.x", backward.x.data],
    ...named("grad.", backward.weights),
  ]);
}

function model(golden: ModelCase): GoldenResults {
  const config: ModelConfig = golden.config;
  const { learningRate, clip, weightDecay } = golden;
  const reference = new ReferenceModel(config, goldenParameters(golden), {
    adamW: { weightDecay },
  });
  const batch: TokenBatch = {
    tokens: input(golden, "tokens").data,
    targets: input(golden, "targets").data,
    length: golden.length,
  };
  const steps = Array.from(
    { length: golden.steps },
    () => reference.trainStep([batch], { learningRate, clip }),
  );
  const first = steps[0]!;
  return new Map<string, ArrayLike<number>>([
    ["out.logits", first.logits.data],
    ["out.losses", steps.map(({ crossEntropy }) => crossEntropy)],
    ["out.totals", steps.map(({ total }) => total)],
    ["out.grad_norms", steps.map(({ gradientNorm }) => gradientNorm)],
    ["out.eval_loss_after", [reference.evaluate(batch).crossEntropy]],
    ...named("grad.", Object.fromEntries(first.gradients)),
    ...named("after.", Object.fromEntries(reference.parameters)),
    ...named("after.", Object.fromEntries(reference.statistics)),
  ]);
}

function optimizer(golden: OptimizerCase): GoldenResults {
  const { names, steps, decaying, clip } = golden;
  const adamW = new AdamW(decaying, golden);
  const rates = input(golden, "lr").data;
  const parameters = new Map(
    names.map((name) => [name, input(golden, `param.${name}`).data.slice()]),
  );
  const after = new Map(names.map((name) => [name, [] as number[]]));
  const norms: number[] = [];
  for (let step = 0; step < steps; step++) {
    const raw = new Map(Array.from(parameters, ([name, { length }]) => {
      const all = input(golden, `grads.${name}`).data;
      return [name, all.subarray(step * length, (step + 1) * length)];
    }));
    const { gradients, norm } = clipByGlobalNorm(raw, clip);
    norms.push(norm);
    adamW.step(parameters, gradients, { learningRate: rates[step]! });
    for (const [name, p] of parameters) after.get(name)!.push(...p);
  }
  return new Map<string, ArrayLike<number>>([
    ["out.grad_norms", norms],
    ...named("after.", Object.fromEntries(after)),
    ...named("m.", Object.fromEntries(adamW.m)),
    ...named("v.", Object.fromEntries(adamW.v)),
  ]);
}

/** The float64 reference, for comparing with golden files. */
export const referenceImplementation: GoldenImplementation = {
  name: "reference",
  tolerance: tolerances.float64,
  mla,
  router,
  layer,
  model,
  optimizer,
};
