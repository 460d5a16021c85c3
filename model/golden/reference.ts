/**
 * Golden cases on the float64 reference.
 *
 * @module
 */

import {
  type BeamRouterCase,
  choiceNames,
  DROPOUT_SEED,
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
  passPrefix,
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
import type { Choice } from "../reference/layer.ts";
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

/** The choice of a pass under its names, which begin with `at`. */
function* choiceOf(
  at: string,
  { used, total, lag }: Choice,
): Generator<[string, ArrayLike<number>]> {
  const names = choiceNames(at);
  yield [names.kept, used];
  yield [names.total, total];
  yield [names.lag, [lag]];
}

/** The choice of experts under those names, where it is given. */
function selectionOf(at: string, given: GoldenResults | undefined): { selection?: Int32Array } {
  const kept = given?.get(choiceNames(at).kept);
  return kept ? { selection: Int32Array.from(kept) } : {};
}

function decisions({ query, index, total, score }: Routing) {
  return { query: query.data, index, total, score };
}

function router(golden: RouterCase, given?: GoldenResults): GoldenResults {
  const { tokens } = golden;
  const w = weights(golden);
  const x = matrix(tokens, golden.architecture.config.d_model, input(golden, "x").data);
  const g = input(golden, "g").data;
  const forward = route(golden.ethos, w, { x, training: true, ...selectionOf("out.", given) });
  const backward = forward.backward({ score: g });
  const balance = forward.backward({ score: new Float64Array(g.length), balance: 1 });
  const updated = { ...w, ...forward.statistics };
  const evaluated = route(golden.ethos, updated, {
    x,
    training: false,
    ...selectionOf("eval.", given),
  });
  return new Map([
    ...choiceOf("out.", forward),
    ...choiceOf("eval.", evaluated),
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

function beamRouter(golden: BeamRouterCase, given?: GoldenResults): GoldenResults {
  const { beam, tokens } = golden;
  const x = matrix(tokens, golden.architecture.config.d_model, input(golden, "x").data);
  const routing = beamRoute(beam, weights(golden), { x, ...selectionOf("out.", given) });
  const { query, candidates, score, index, backward } = routing;
  const gradients = backward(input(golden, "g").data);
  return new Map<string, ArrayLike<number>>([
    ...choiceOf("out.", routing),
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

function layer(golden: LayerCase, given?: GoldenResults): GoldenResults {
  const { ffn, tokens } = golden;
  const { d_model } = golden.architecture.config;
  const w = weights(golden);
  const x = matrix(tokens, d_model, input(golden, "x").data);
  const pass = { x, training: true, ...selectionOf("out.", given) };
  const run = (ffn: LayerCase["ffn"]) =>
    ffn.kind === "ethos" ? ethos(ffn, w, pass) : peer(ffn, w, pass);
  const forward = run(ffn);
  const backward = forward.backward(matrix(tokens, d_model, input(golden, "g").data));
  const { index, score } = forward.routing;
  return new Map<string, ArrayLike<number>>([
    ...choiceOf("out.", forward.routing),
    ...named("out.", { y: forward.y.data, index, score }),
    ...(ffn.kind === "ethos"
      ? [["out.y_naive", run({ ...ffn, execution: "naive" }).y.data] as const]
      : []),
    ...named("out.", forward.statistics ?? {}),
    ["grad.x", backward.x.data],
    ...named("grad.", backward.weights),
  ]);
}

function mixture(golden: MixtureCase, given?: GoldenResults): GoldenResults {
  const { tokens, passes } = golden;
  const { d_model } = golden.architecture.config;
  const w = weights(golden);
  const x = matrix(tokens, d_model, input(golden, "x").data);
  const results = new Map<string, ArrayLike<number>>();
  for (const { prefix, section } of passes) {
    const pass = { x, training: true, ...selectionOf(`${prefix}out.`, given) };
    const forward: MixturePass = section.kind === "switch"
      ? switchLayer(section, w, pass)
      : topkMoe(section, w, pass);
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
      ...choiceOf(`${prefix}out.`, forward.routing),
      ...named(`${prefix}out.`, outputs),
      ...named(`${prefix}grad.`, { x: backward.x.data, ...backward.weights }),
    ];
    for (const [name, value] of all) results.set(name, value);
  }
  return results;
}

/** Results of a whole model, and the choices of every pass. */
function model(golden: ModelCase, given?: GoldenResults): GoldenResults {
  const { architecture, learningRate, clip, weightDecay, decay, beta1, beta2, epsilon } = golden;
  const reference = new ReferenceModel(architecture, goldenParameters(golden), {
    adamW: { weightDecay, beta1, beta2, epsilon },
    decay,
  });
  const batchOf = (pass: number): TokenBatch => {
    const selections = new Map<number, Int32Array>();
    for (let layer = 0; layer < architecture.config.num_layers; layer++) {
      const { selection } = selectionOf(passPrefix(pass, layer), given);
      if (selection) selections.set(layer, selection);
    }
    return {
      tokens: input(golden, "tokens").data,
      targets: input(golden, "targets").data,
      length: golden.length,
      selections,
    };
  };
  const steps = Array.from(
    { length: golden.steps },
    (_, step) =>
      reference.trainStep([batchOf(step)], {
        learningRate,
        clip,
        dropout: { seed: DROPOUT_SEED, update: step },
      }),
  );
  const evaluation = reference.evaluate(batchOf(golden.steps));
  const first = steps[0]!;
  const { ffn } = architecture.config;
  return new Map<string, ArrayLike<number>>([
    ["out.logits", first.logits.data],
    ["out.losses", steps.map(({ crossEntropy }) => crossEntropy)],
    ["out.totals", steps.map(({ total }) => total)],
    ["out.grad_norms", steps.map(({ gradientNorm }) => gradientNorm)],
    ["out.eval_loss_after", [evaluation.crossEntropy]],
    ...("axes" in ffn ? [["codes", beamCodes(ffn.axis_size, ffn.axis_query).data] as const] : []),
    ...named("grad.", Object.fromEntries(first.gradients)),
    ...named("after.", Object.fromEntries(reference.parameters)),
    ...named("after.", Object.fromEntries(reference.statistics)),
    ...[...steps, evaluation].flatMap(({ routings }, pass) =>
      Array.from(routings).flatMap(([layer, choice]) => [
        ...choiceOf(passPrefix(pass, layer), choice),
      ])
    ),
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

/**
 * The float64 reference, which keeps the experts that `given` tells under {@linkcode choiceNames}, and its own where it tells none. The
 * gradient goes through the scores of the experts that are kept.
 */
export function referenceGiven(given?: GoldenResults): GoldenImplementation {
  return {
    name: "reference",
    tolerance: tolerances.float64,
    mla,
    gptAttention,
    router: (golden) => router(golden, given),
    beamRouter: (golden) => beamRouter(golden, given),
    layer: (golden) => layer(golden, given),
    mixture: (golden) => mixture(golden, given),
    model: (golden) => model(golden, given),
    optimizer,
    pretrained,
    sparse: sparseReference,
    expanded: expandedReference,
  };
}

/** The float64 reference, for comparing with golden files. */
export const referenceImplementation: GoldenImplementation = referenceGiven();
