/**
 * Golden vectors: small cases of the whole model, computed elsewhere in float64, that every implementation is compared with.
 *
 * `file.ts` reads a file into a case, an implementation takes a case and returns the result tensors by name, and
 * `compare.ts` judges them, so that the reference and the GPU are judged by the same code.
 *
 * @module
 */

import type { AttentionSection, FfnSection } from "../section.ts";
import type { Architecture } from "../trunk/architecture.ts";
import type { CaseBase, GoldenTensor } from "./case.ts";
import type { ExpandedCase } from "./published/expanded.ts";
import type { SparseCase } from "./sparse.ts";

export type { CaseBase, GoldenTensor };

/** The section `model.attention` of latent attention. */
export type MlaSection = Extract<AttentionSection, { kind: "mla" }>;

/** The section `model.attention` of multi-head attention. */
export type MhaSection = Extract<AttentionSection, { kind: "mha" }>;

/** The section `model.ffn` of PEER. */
export type PeerSection = Extract<FfnSection, { kind: "peer" }>;

/** The section `model.ffn` of ETHOS behind the product-key router. */
export type EthosSection = Extract<FfnSection, { router: "product_key" }>;

/** The section `model.ffn` of ETHOS behind the beam router. */
export type BeamSection = Extract<FfnSection, { router: "beam" }>;

/** Attention alone: `out.y` and `grad.*` of `sum(y ⊙ g)`; weights without prefix. */
export interface MlaCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "mla";
  /** A model of one layer whose weights have the file's names after a prefix. */
  readonly architecture: Architecture;
  /** Sizes of the attention. */
  readonly mla: MlaSection;
  /** Sequences of the batch. */
  readonly batch: number;
  /** Tokens of a sequence. */
  readonly length: number;
}

/** Layer norm and multi-head attention behind it: `out.norm`, `out.y` and `grad.*` of `sum(y ⊙ g)`; weights without prefix but `norm.*`. */
export interface GptAttentionCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "gpt_attention";
  /** A model of one layer whose weights have the file's names after a prefix. */
  readonly architecture: Architecture;
  /** Sizes of the attention. */
  readonly mha: MhaSection;
  /** Sequences of the batch. */
  readonly batch: number;
  /** Tokens of a sequence. */
  readonly length: number;
}

/**
 * The router alone, in training mode: `out.*`, `grad.*` of `sum(score ⊙ g)`, `balance.value` and `balance.grad.*` of the
 * load-balance term, and `eval.*` with the running statistics that the pass left.
 */
export interface RouterCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "router";
  /** A model of one layer whose weights have the file's names after a prefix. */
  readonly architecture: Architecture;
  /** Sizes of the router, and others. */
  readonly ethos: EthosSection;
  /** Tokens, T. */
  readonly tokens: number;
}

/**
 * The beam router alone: `out.query` after its norm, `out.axis_value` and `out.axis_id` the best of each axis, `out.scores`,
 * `out.coords` the id on each axis, `grad.*` of `sum(scores ⊙ g)`, and codes of ids.
 */
export interface BeamRouterCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "beam_router";
  /** A model of one layer whose weights have the file's names after a prefix. */
  readonly architecture: Architecture;
  /** Sizes of the router, and others. */
  readonly beam: BeamSection;
  /** Tokens, T. */
  readonly tokens: number;
}

/** A feed-forward layer behind a product-key router in training mode: `out.*` (`out.y_naive` by ETHOS's naive execution) and `grad.*` of `sum(y ⊙ g)`. */
export interface LayerCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "layer";
  /** A model of one layer whose weights have the file's names after a prefix. */
  readonly architecture: Architecture;
  /** Sizes of the layer. */
  readonly ffn: EthosSection | PeerSection;
  /** Tokens, T. */
  readonly tokens: number;
}

/** The section `model.ffn` of a mixture of stored experts. */
export type MixtureSection = Extract<FfnSection, { kind: "switch" | "topk_moe" }>;

/**
 * Mixtures of stored experts in training mode, with the same weights: of each, under its prefix, `out.y`, `out.index`, `out.aux` (the load-balance term), the
 * weights of the kept experts (`out.weight`) or all probabilities (`out.probability`), `out.count` where their number varies, and `grad.*` of `sum(y ⊙ g)` + aux.
 */
export interface MixtureCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "mixture";
  /** A model of one layer whose weights have the file's names after a prefix. */
  readonly architecture: Architecture;
  /** Tokens, T. */
  readonly tokens: number;
  /** The mixtures, and what the names of their results begin with. */
  readonly passes: readonly { readonly prefix: string; readonly section: MixtureSection }[];
}

/** Training steps of a whole model on one batch: `out.*`, first `grad.*`, and `after.*` the last update. */
export interface ModelCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "model";
  /** The model. */
  readonly architecture: Architecture;
  /** Sequences of the batch. */
  readonly batch: number;
  /** Tokens of a sequence. */
  readonly length: number;
  /** Updates. */
  readonly steps: number;
  /** Of every update. */
  readonly learningRate: number;
  /** Largest global norm of the gradients. */
  readonly clip: number;
  /** Decoupled weight decay of what decays. */
  readonly weightDecay: number;
  /** The parameters that decay. */
  readonly decay: "matrices" | "all";
  /** Decay of the first moment. */
  readonly beta1: number;
  /** Decay of the second moment. */
  readonly beta2: number;
  /** Added to the root of the second moment. */
  readonly epsilon: number;
}

/** AdamW alone: `after.*` each step, `m.*` and `v.*` after the last, `out.grad_norms`. */
export interface OptimizerCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "optimizer";
  /** Updates. */
  readonly steps: number;
  /** Decay of the first moment. */
  readonly beta1: number;
  /** Decay of the second moment. */
  readonly beta2: number;
  /** Added to the root of the second moment. */
  readonly epsilon: number;
  /** Decoupled weight decay of what decays. */
  readonly weightDecay: number;
  /** Largest global norm of the gradients. */
  readonly clip: number;
  /** Names of the parameters, as in `param.<name>` and `grads.<name>`. */
  readonly names: readonly string[];
  /** Names of the parameters that decay. */
  readonly decaying: ReadonlySet<string>;
}

/**
 * A published model's forward pass in evaluation: `out.logits`, `out.hidden.l` the residual stream after layer l, and `out.loss`, the mean cross-entropy of
 * the next tokens within each sequence. Weights are `param.*` by the names of their checkpoint.
 */
export interface PretrainedCase extends CaseBase {
  /** The kind of case. */
  readonly kind: "pretrained";
  /** The model in the project's terms. */
  readonly architecture: Architecture;
  /** Its parameters by the project's names, row-major. */
  readonly parameters: ReadonlyMap<string, Float32Array>;
  /** Sequences of the batch. */
  readonly batch: number;
  /** Tokens of a sequence. */
  readonly length: number;
}

/** The case of a golden file. */
export type GoldenCase =
  | MlaCase
  | GptAttentionCase
  | RouterCase
  | BeamRouterCase
  | LayerCase
  | MixtureCase
  | ModelCase
  | OptimizerCase
  | PretrainedCase
  | SparseCase
  | ExpandedCase;

/** How far an implementation may be off that computes in one precision. */
export interface FixedTolerance {
  /** Largest difference over the largest magnitude. */
  readonly outputs: number;
  /** Largest difference over the largest magnitude. */
  readonly gradients: number;
  /** Parameters after AdamW: largest absolute difference, and its mean where that is bounded too. */
  readonly adamW: { readonly largest: number; readonly mean?: number };
}

/**
 * How far an implementation may be off. `halves`: matrix products read f16, so near ties among experts may be decided otherwise. Results are then
 * compared with those of the reference for the same choice, and tolerances follow from rounding (`half.ts`).
 */
export type GoldenTolerance = FixedTolerance | "halves";

/** Tolerances by what an implementation computes in. */
export const tolerances = {
  float64: { outputs: 1e-6, gradients: 1e-6, adamW: { largest: 1e-6 } },
  float32: { outputs: 1e-5, gradients: 3e-5, adamW: { largest: 1e-4, mean: 2e-6 } },
  gpu: { outputs: 1e-4, gradients: 5e-4, adamW: { largest: 3e-4, mean: 1e-5 } },
  mixed: "halves",
} as const satisfies Record<string, GoldenTolerance>;

/** Result tensors by the names that the file gives them, row-major. */
export type GoldenResults = ReadonlyMap<string, ArrayLike<number>>;

/** Something that computes golden cases. */
export interface GoldenImplementation {
  /** For the table: `reference`, `gpu`. */
  readonly name: string;
  /** How far it may be off. */
  readonly tolerance: GoldenTolerance;
  /** The kinds of cases that it runs; all unless given. */
  readonly kinds?: ReadonlySet<GoldenCase["kind"]>;
  /** Results of {@linkcode MlaCase}. */
  mla(golden: MlaCase): GoldenResults | Promise<GoldenResults>;
  /** Results of {@linkcode GptAttentionCase}. */
  gptAttention(golden: GptAttentionCase): GoldenResults | Promise<GoldenResults>;
  /** Results of {@linkcode RouterCase}. */
  router(golden: RouterCase): GoldenResults | Promise<GoldenResults>;
  /** Results of {@linkcode BeamRouterCase}. */
  beamRouter(golden: BeamRouterCase): GoldenResults | Promise<GoldenResults>;
  /** Results of {@linkcode LayerCase}. */
  layer(golden: LayerCase): GoldenResults | Promise<GoldenResults>;
  /** Results of {@linkcode MixtureCase}. */
  mixture(golden: MixtureCase): GoldenResults | Promise<GoldenResults>;
  /** Results of {@linkcode ModelCase}. */
  model(golden: ModelCase): GoldenResults | Promise<GoldenResults>;
  /** Results of {@linkcode OptimizerCase}. */
  optimizer(golden: OptimizerCase): GoldenResults | Promise<GoldenResults>;
  /** Results of {@linkcode PretrainedCase}. */
  pretrained(golden: PretrainedCase): GoldenResults | Promise<GoldenResults>;
  /** Results of {@linkcode SparseCase}. */
  sparse(golden: SparseCase): GoldenResults | Promise<GoldenResults>;
  /** Results of {@linkcode ExpandedCase}. */
  expanded(golden: ExpandedCase): GoldenResults | Promise<GoldenResults>;
  /** Why this implementation has no counterpart of a result; undefined where it must return it. */
  omits?(golden: GoldenCase, tensor: string): string | undefined;
}

/** A measure of a tensor's error. */
export type Measure = "relative" | "absolute" | "mean absolute" | "equal" | "share";

/** One tensor's error beside what is allowed. */
export interface Comparison {
  /** The tensor's name in the file. */
  readonly tensor: string;
  /**
   * `relative` is the largest difference over the largest magnitude, `equal` counts the numbers that differ, `share` gives their fraction. `tokens` counts the tokens
   * that kept other experts, of as many as `tolerance` says: none are too many, for `lag` tells whether near ties explain them, the most that a
   * score of theirs falls short.
   */
  readonly measure: Measure | "tokens" | "lag";
  /** NaN where nothing could be measured. */
  readonly error: number;
  /** How far it may be off. */
  readonly tolerance: number;
  /** Whether the error is within the tolerance. */
  readonly ok: boolean;
  /** True where the implementation declares that it has no counterpart; `note` says why. */
  readonly omitted?: boolean;
  /** Why `error` is NaN. */
  readonly note?: string;
}

/** An input of a case. @throws {RangeError} If there is none of that name. */
export function input(golden: GoldenCase, name: string): GoldenTensor {
  const tensor = golden.inputs.get(name);
  if (tensor === undefined) throw new RangeError(`${golden.file} has no input ${name}`);
  return tensor;
}

/** Experts that each token keeps, where a number beyond all experts stands for none. */
export function keptCounts(
  index: ArrayLike<number>,
  { tokens, experts }: { tokens: number; experts: number },
): number[] {
  const top_k = index.length / tokens;
  return Array.from({ length: tokens }, (_, t) => {
    const kept = Array.from({ length: top_k }, (_, j) => index[t * top_k + j]!);
    return kept.filter((expert) => expert < experts).length;
  });
}

/** The parameters and running statistics that a whole model's case starts from. */
export function goldenParameters(golden: ModelCase): Map<string, Float64Array> {
  const parameters = new Map<string, Float64Array>();
  for (const [name, { data }] of golden.inputs) {
    if (name.startsWith("param.")) parameters.set(name.slice("param.".length), data);
  }
  return parameters;
}

/** Seed of the masks of a whole model's dropout; the files' models have none. */
export const DROPOUT_SEED = 0;

/** Names of the results that tell the experts of a choice, under the prefix of the results that follow from it. */
export interface ChoiceNames {
  /** Kept experts, tokens × kept; N or more, which is no expert, for those that a token leaves out. */
  readonly kept: string;
  /** The reference's scores of them before the softmax. */
  readonly total: string;
  /** How far they lie behind the reference's own, as `Choice.lag`. */
  readonly lag: string;
}

/** The names under a prefix, such as `out.`. */
export function choiceNames(at: string): ChoiceNames {
  return { kept: `${at}kept`, total: `${at}kept_total`, lag: `${at}kept_lag` };
}

/** The prefix of a layer's choice in a pass of a whole model: of an update, or `steps`, the evaluation after them. */
export function passPrefix(pass: number, layer: number): string {
  return `pass.${pass}.layers.${layer}.`;
}

/** Runs a case. */
export function runGolden(
  implementation: GoldenImplementation,
  golden: GoldenCase,
): GoldenResults | Promise<GoldenResults> {
  switch (golden.kind) {
    case "mla":
      return implementation.mla(golden);
    case "gpt_attention":
      return implementation.gptAttention(golden);
    case "router":
      return implementation.router(golden);
    case "beam_router":
      return implementation.beamRouter(golden);
    case "layer":
      return implementation.layer(golden);
    case "mixture":
      return implementation.mixture(golden);
    case "model":
      return implementation.model(golden);
    case "optimizer":
      return implementation.optimizer(golden);
    case "pretrained":
      return implementation.pretrained(golden);
    case "sparsegpt":
    case "pca_kmeans":
    case "sparse_expansion_layer":
      return implementation.sparse(golden);
    case "expanded":
      return implementation.expanded(golden);
  }
}
