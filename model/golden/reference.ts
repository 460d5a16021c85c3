/**
 * Golden cases on the float64 reference.
 *
 * @module
 */

import {
  type BeamRouterCase,
  type GoldenCase,
  type GoldenImplementation,
  goldenParameters,
  type GoldenResults,
  type GptAttentionCase,
  input,
  keptCounts,
  type LayerCase,
  type MixtureCase,
  type MlaCase,
  type ModelCase,
  type OptimizerCase,
  type PretrainedCase,
  type RouterCase,
  tolerances,
} from "./golden.ts";
import { mha } from "../reference/attention/mha.ts";
import { mla as referenceMla } from "../reference/attention/mla.ts";
import { ethos } from "../reference/ffn/ethos/ethos.ts";
import { peer } from "../reference/ffn/peer.ts";
import { beamCodes, beamRoute } from "../reference/ffn/beam.ts";
import type { MixturePass } from "../reference/ffn/mixture.ts";
import { route, type Routing } from "../reference/ffn/product_key.ts";
import { switchLayer } from "../reference/ffn/switch.ts";
import { topkMoe } from "../reference/ffn/topk_moe.ts";
import { crossEntropy } from "../reference/loss.ts";
import { matrix, type Weights } from "../reference/matrix.ts";
import { networkForward } from "../reference/network.ts";
import { layerNormBackward, layerNormForward } from "../reference/norm.ts";
import { ReferenceModel, type TokenBatch } from "../reference/model.ts";
import { AdamW, clipByGlobalNorm } from "../reference/optimizer.ts";
import { expandedReference } from "./published/expanded_reference.ts";
import { sparseReference } from "./sparse_reference.ts";
import { nextTokens } from "./published/stored.ts";

/** A case's inputs as weights by name. */
function weights(golden: GoldenCase): Weights<string> {
  return Object.fromEntries(Array.from(golden.inputs, ([name, { data }]) => [name, data]));
}

/** `values` with a prefix before every name. */
function* named(
  prefix: string,
  values: Readonly<Record<string, ArrayLike<number>>>,
): Generator<[string, ArrayLike<number>]> {
  for (const [name, value] of Object.entries(values)) yield [prefix + name, value];
}

function mla(golden: MlaCase): GoldenResults {
  const { batch, length } = golden;
  const { d_model } = golden.architecture.config;
  const forward = referenceMla(golden.mla, weights(golden), {
    x: matrix(batch * length, d_model, input(golden, "x").data),
    length,
  });
  const backward = forward.backward(matrix(batch * length, d_model, input(golden, "g").data));
  return new Map([
    ["out.y", forward.y.data],
    ["grad.x", backward.x.data],
    ...named("grad.", backward.weights),
  ]);
}

function gptAttention(golden: GptAttentionCase): GoldenResults {
  const { batch, length, architecture } = golden;
  const { d_model, trunk } = architecture.config;
  const w = weights(golden);
  const x = matrix(batch * length, d_model, input(golden, "x").data);
  const norm = layerNormForward(x, {
    weight: input(golden, "norm.weight").data,
    bias: input(golden, "norm.bias").data,
  }, trunk);
  const forward = mha(golden.mha, w, { x: norm.y, length });
  const backward = forward.backward(matrix(batch * length, d_model, input(golden, "g").data));
  const gradients = layerNormBackward(norm, backward.x);
  return new Map([
    ["out.norm", norm.y.data],
    ["out.y", forward.y.data],
    ["grad.x", gradients.x.data],
    ["grad.norm.weight", gradients.weight],
    ["grad.norm.bias", gradients.bias],
    ...named("grad.", backward.weights),
  ]);
}

function decisions({ query, index, total, score }: Routing) {
  return { query: query.data, index, total, score };
}

function router(golden: RouterCase): GoldenResults {
  const { tokens } = golden;
  const w = weights(golden);
  const x = matrix(tokens, golden.architecture.config.d_model, input(golden, "x").data);
  const g = input(golden, "g").data;
  const forward = route(golden.ethos, w, { x, training: true });
  const backward = forward.backward({ score: g });
  const balance = forward.backward({ score: new Float64Array(g.length), balance: 1 });
  const updated = { ...w, ...forward.statistics };
  const evaluated = route(golden.ethos, updated, { x, training: false });
  return new Map([
    ...named("out.", decisions(forward)),
    ...named("out.", { s1: forward.s1.data, s2: forward.s2.data }),
    ...named("out.", forward.statistics),
    ...named("eval.", decisions(evaluated)),
    ["grad.x", backward.x.data],
    ...named("grad.", backward.weights),
    ["balance.value", [forward.balance]],
    ["balance.grad.x", balance.x.data],
    ...named("balance.grad.", balance.weights),
  ]);
}

function beamRouter(golden: BeamRouterCase): GoldenResults {
  const { beam, tokens } = golden;
  const x = matrix(tokens, golden.architecture.config.d_model, input(golden, "x").data);
  const { query, candidates, score, index, backward } = beamRoute(beam, weights(golden), { x });
  const gradients = backward(input(golden, "g").data);
  return new Map<string, ArrayLike<number>>([
    ["out.query", query.data],
    ["out.axis_value", candidates.value],
    ["out.axis_id", candidates.id],
    ["out.scores", score],
    ["out.coords", index.map((at) => at % beam.axis_size)],
    ["out.codes", beamCodes(beam.axis_size, beam.axis_query).data],
    ["out.codes_512x32", beamCodes(512, 32).data],
    ["grad.x", gradients.x.data],
    ...named("grad.", gradients.weights),
  ]);
}

/** A layer's results; for the experts of `selection` where it is given, laid out as `out.index`. */
export function referenceLayer(golden: LayerCase, selection?: Int32Array): GoldenResults {
  const { ffn, tokens } = golden;
  const { d_model } = golden.architecture.config;
  const w = weights(golden);
  const x = matrix(tokens, d_model, input(golden, "x").data);
  const pass = { x, training: true, ...(selection && { selection }) };
  const run = (ffn: LayerCase["ffn"]) =>
    ffn.kind === "ethos" ? ethos(ffn, w, pass) : peer(ffn, w, pass);
  const forward = run(ffn);
  const backward = forward.backward(matrix(tokens, d_model, input(golden, "g").data));
  const { index, score } = forward.routing;
  return new Map([
    ...named("out.", { y: forward.y.data, index, score }),
    ...(ffn.kind === "ethos"
      ? [["out.y_naive", run({ ...ffn, execution: "naive" }).y.data] as const]
      : []),
    ...named("out.", forward.statistics ?? {}),
    ["grad.x", backward.x.data],
    ...named("grad.", backward.weights),
  ]);
}

function mixture(golden: MixtureCase): GoldenResults {
  const { tokens, passes } = golden;
  const { d_model } = golden.architecture.config;
  const w = weights(golden);
  const x = matrix(tokens, d_model, input(golden, "x").data);
  const results = new Map<string, ArrayLike<number>>();
  for (const { prefix, section } of passes) {
    const forward: MixturePass = section.kind === "switch"
      ? switchLayer(section, w, { x, training: true })
      : topkMoe(section, w, { x, training: true });
    const backward = forward.backward(matrix(tokens, d_model, input(golden, "g").data));
    const { index, best, weight, probability } = forward.routing;
    const outputs = {
      y: forward.y.data,
      aux: [forward.auxiliary],
      index: best,
      weight,
      probability: probability.data,
      count: keptCounts(index, { tokens, experts: section.num_experts }),
    };
    const all = [
      ...named(`${prefix}out.`, outputs),
      ...named(`${prefix}grad.`, { x: backward.x.data, ...backward.weights }),
    ];
    for (const [name, value] of all) results.set(name, value);
  }
  return results;
}

function model(golden: ModelCase): GoldenResults {
  const { architecture, learningRate, clip, weightDecay, decay, beta1, beta2, epsilon } = golden;
  const reference = new ReferenceModel(architecture, goldenParameters(golden), {
    adamW: { weightDecay, beta1, beta2, epsilon },
    decay,
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
  const { ffn } = architecture.config;
  return new Map<string, ArrayLike<number>>([
    ["out.logits", first.logits.data],
    ["out.losses", steps.map(({ crossEntropy }) => crossEntropy)],
    ["out.totals", steps.map(({ total }) => total)],
    ["out.grad_norms", steps.map(({ gradientNorm }) => gradientNorm)],
    ["out.eval_loss_after", [reference.evaluate(batch).crossEntropy]],
    ...("axes" in ffn ? [["codes", beamCodes(ffn.axis_size, ffn.axis_query).data] as const] : []),
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

function pretrained(golden: PretrainedCase): GoldenResults {
  const { architecture: { config }, length } = golden;
  const tokens = input(golden, "tokens").data;
  const parameters = new Map(
    Array.from(golden.parameters, ([name, values]) => [name, Float64Array.from(values)]),
  );
  const { logits, hidden } = networkForward(config, parameters, {
    tokens,
    length,
    training: false,
  });
  const { loss } = crossEntropy(logits, nextTokens(tokens, length));
  return new Map<string, ArrayLike<number>>([
    ["out.logits", logits.data],
    ["out.loss", [loss]],
    ...hidden.map(({ data }, l) => [`out.hidden.${l}`, data] as const),
  ]);
}

/** The float64 reference, for comparing with golden files. */
export const referenceImplementation: GoldenImplementation = {
  name: "reference",
  tolerance: tolerances.float64,
  mla,
  gptAttention,
  router,
  beamRouter,
  layer: (golden) => referenceLayer(golden),
  mixture,
  model,
  optimizer,
  pretrained,
  sparse: sparseReference,
  expanded: expandedReference,
};
