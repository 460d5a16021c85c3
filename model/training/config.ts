/**
 * How a model is trained: sizes of a step, the learning rate, the optimiser, precision, and how often things are
 * looked at. Defaults are those of the paper and of its optimiser section.
 *
 * @module
 */

import { z } from "zod";

/** Tokens of one micro-batch; what a plan's buffers are sized by. */
const MAXIMUM_MICRO_BATCH_TOKENS = 2 ** 22;
/** The most updates of a training: the device counts them in f32, which has every whole number up to here. */
export const MOST_UPDATES: number = 2 ** 24;
/** The most tokens of a training: sequences are counted in float64 with room to spare. */
const MOST_TOKENS = 1e13;

const learningRate = z.strictObject({
  initial: z.number().min(0).max(10).default(1e-5).describe("rate of the first update"),
  peak: z.number().min(0).max(10).default(1e-4).describe("rate after the warm-up"),
  warmup_steps: z.int().min(0).max(1e7).default(1000).describe("updates of linear warm-up"),
  schedule: z.enum(["constant", "cosine"]).default("constant").describe("what follows the warm-up"),
  final_fraction: z.number().min(0).max(1).default(0.1)
    .describe("share of the peak at which a cosine ends"),
  cosine_end: z.int().min(1).max(1e8).optional()
    .describe("number of the update at which a cosine ends; that of the last one unless given"),
});

const lossScale = z.strictObject({
  initial: z.number().min(1).max(2 ** 40).default(65536).describe("loss scale at the start"),
  growth_interval: z.int().min(1).max(1e7).default(2000)
    .describe("finite steps after which the scale grows"),
  growth_factor: z.number().gt(1).max(1024).default(2).describe("what the scale grows by"),
  backoff_factor: z.number().gt(0).lt(1).default(0.5)
    .describe("what the scale is multiplied by after a non-finite step"),
  minimum: z.number().gt(0).max(2 ** 40).default(1).describe("the scale never falls below"),
});

const sha256 = z.string().regex(/^[0-9a-f]{64}$/).optional();

const initial = z.strictObject({
  checkpoint: z.string().min(1).max(4096).describe(
    "model whose weights training starts from: a node of the store, a key, a folder, a .safetensors file, or ORG/NAME on the hub",
  ),
  which: z.enum(["last", "best"]).optional()
    .describe("which model of a training; the last unless given"),
  revision: z.string().min(1).max(250).optional()
    .describe("branch, tag or commit on the hub; main unless given"),
  lengthen: z.boolean().default(false)
    .describe("whether the model has more learned positions than the file; new rows are random"),
  strict: z.boolean().optional().describe(
    "false takes what fits and leaves the rest as the seed makes it; everything must fit unless given",
  ),
  upcycle: z.strictObject({
    noise: z.number().min(0).max(1).default(0)
      .describe("deviation of what is added to each copy, in deviations of the copied matrix"),
  }).optional()
    .describe("makes experts of switch and topk_moe copies of a dense model's feed-forwards"),
  fingerprint: sha256.describe("SHA-256 of the file, which an experiment finds out by itself"),
  vocabulary: sha256
    .describe("SHA-256 of a node's vocabulary, which an experiment finds out by itself"),
});

/** Texts that a model goes on from, and the most letters of one. */
const MOST_PROMPTS = 16;
const LONGEST_PROMPT = 1000;
/** The most samples of a training: files of them are read whole. */
const MOST_SAMPLES = 10_000;
/** Defaults where samples are made. */
const SAMPLING = { prompts: [""], tokens: 64, temperature: 1 } as const;

const samples = {
  sample_every: z.int().min(0).max(MOST_UPDATES).optional()
    .describe("updates between samples of text; none are made where it is 0 or not given"),
  sample_prompts: z.array(
    z.string().max(LONGEST_PROMPT)
      .refine((text) => text.isWellFormed(), "has half of a surrogate pair; expected Unicode text"),
  ).min(1).max(MOST_PROMPTS).optional()
    .describe(
      "texts that samples go on from; one that is empty, a document's beginning, unless given",
    ),
  sample_tokens: z.int().min(1).max(1024).optional()
    .describe(`tokens of a sample at most; ${SAMPLING.tokens} unless given`),
  sample_temperature: z.number().min(0).max(100).optional()
    .describe(
      `divides the logits; 0 takes the most likely token, ${SAMPLING.temperature} unless given`,
    ),
};

const fields = z.strictObject({
  initial: initial.optional()
    .describe("weights of a trained model to start from; random ones unless given"),
  documents: z.enum(["packed", "single"]).optional()
    .describe("packed (unless given): one after the other; single: each is a sequence of its own"),
  sequence_length: z.int().min(1).max(131072).default(4096)
    .describe("predictions in a sequence, L; a sequence supplies L + 1 tokens"),
  micro_batch: z.int().min(1).max(65536).default(8).describe("sequences in a micro-batch, B"),
  gradient_accumulation: z.int().min(1).max(65536).default(1)
    .describe("micro-batches in an update"),
  gradient_groups: z.int().min(1).max(65536).optional()
    .describe(
      "sums of gradients, over as many micro-batches each, that an update adds up in order",
    ),
  steps: z.int().min(1).max(MOST_UPDATES).optional().describe("updates; give this or tokens"),
  tokens: z.int().min(1).max(MOST_TOKENS).optional()
    .describe("training tokens, rounded up to whole updates; give this or steps"),
  learning_rate: learningRate.prefault({}),
  weight_decay: z.number().min(0).max(10).default(0.01).describe("decoupled weight decay"),
  decay: z.enum(["matrices", "all"]).default("matrices")
    .describe("what decays: matrices, or gains and biases too"),
  beta1: z.number().min(0).lt(1).default(0.9).describe("AdamW's decay of the first moment"),
  beta2: z.number().min(0).lt(1).default(0.999).describe("AdamW's decay of the second moment"),
  epsilon: z.number().gt(0).max(1).default(1e-8).describe("AdamW's epsilon"),
  clip_norm: z.number().gt(0).max(1e9).default(1)
    .describe("gradients are scaled down to this global norm"),
  precision: z.enum(["f32", "mixed"]).default("f32")
    .describe("mixed: f16 matrix operands, f32 master weights and accumulation"),
  loss_scale: lossScale.prefault({}),
  max_non_finite_steps: z.int().min(1).max(10000).default(20)
    .describe("non-finite steps in a row after which training stops"),
  evaluate_every: z.int().min(0).max(1e8).default(500)
    .describe("updates between evaluations; 0 evaluates at the end only"),
  evaluate_tokens: z.int().min(1).max(1e10).default(65536)
    .describe("held-out tokens of an evaluation during training"),
  checkpoint_every: z.int().min(1).max(1e8).default(500).describe("updates between checkpoints"),
  keep_checkpoints: z.int().min(1).max(1000).default(2)
    .describe("last checkpoints kept, 12 bytes a parameter each, besides the best models"),
  best_of: z.enum(["evaluations", "checkpoints"]).default("evaluations")
    .describe(
      "where the best model is looked for: at each evaluation, or only where a checkpoint is written",
    ),
  log_every: z.int().min(1).max(1e8).default(10).describe("updates between rows of metrics"),
  recompute: z.enum(["none", "experts", "full"]).default("none")
    .describe("what the backward pass computes again rather than keeps"),
  extend: z.int().min(1).max(MOST_UPDATES).optional()
    .describe("updates that the finished training goes on to; more than it has"),
  ...samples,
});

/** The learning rate over updates. */
interface LearningRateSection {
  /** Rate of the first update. */
  readonly initial: number;
  /** Rate after the warm-up. */
  readonly peak: number;
  /** Updates of linear warm-up. */
  readonly warmup_steps: number;
  /** The schedule after the warm-up. */
  readonly schedule: "constant" | "cosine";
  /** Fraction of the peak at which a cosine ends, 0 to 1. */
  readonly final_fraction: number;
  /** Number of the update at which a cosine ends, the first being 0; beyond the last one, it is cut off. That of the last update unless given. */
  readonly cosine_end?: number | undefined;
}

/** The dynamic loss scale of mixed precision. */
interface LossScaleSection {
  /** Loss scale at the start. */
  readonly initial: number;
  /** Finite steps in a row after which the scale grows. */
  readonly growth_interval: number;
  /** Factor of the scale when it grows. */
  readonly growth_factor: number;
  /** Factor of the scale after a non-finite step. */
  readonly backoff_factor: number;
  /** The scale never falls below. */
  readonly minimum: number;
}

/** Weights that a training starts from. */
export interface InitialSection {
  /** A node of the store, a key, the folder of an exported checkpoint or of a published model, a `.safetensors` file, or `ORG/NAME`. */
  readonly checkpoint: string;
  /** Which model of a training; the last unless given. */
  readonly which?: "last" | "best" | undefined;
  /** Branch, tag or commit on the hub. */
  readonly revision?: string | undefined;
  /** The model has more learned positions than the file: the file's rows come first, the others are what the seed gives. */
  readonly lengthen: boolean;
  /** False to take those tensors that fit, and leave the others as the seed makes them. */
  readonly strict?: boolean | undefined;
  /** Experts are copies of a dense model's feed-forwards, each with noise of so many deviations of the copied matrix. */
  readonly upcycle?: { readonly noise: number } | undefined;
  /** SHA-256 of the file, so that another file makes another node. */
  readonly fingerprint?: string | undefined;
  /** SHA-256 of the vocabulary of a node of the store. */
  readonly vocabulary?: string | undefined;
}

/** The `train` section, validated. */
export interface TrainSection {
  /** Weights of a trained model to start from; random ones unless given. */
  readonly initial?: InitialSection | undefined;
  /**
   * `single`: a sequence is one document, cut at `L + 1` tokens or padded; absent: documents follow each other, and a sequence
   * is `L + 1` tokens from anywhere.
   */
  readonly documents?: "packed" | "single" | undefined;
  /** Predictions in a sequence, L; a sequence supplies `L + 1` tokens. */
  readonly sequence_length: number;
  /** Sequences in a micro-batch, B. */
  readonly micro_batch: number;
  /** Micro-batches in an update. */
  readonly gradient_accumulation: number;
  /**
   * Groups of consecutive micro-batches, G, which divides `gradient_accumulation`. A group's gradients are summed on a device, and the groups' sums on the
   * host in f32, in their order. Ranks of a data-parallel training take whole groups, so the bits depend on G and not on the number of ranks. Absent: one.
   */
  readonly gradient_groups?: number | undefined;
  /** Updates; absent when `tokens` is given. */
  readonly steps?: number | undefined;
  /** Training tokens, rounded up to whole updates; absent when `steps` is given. */
  readonly tokens?: number | undefined;
  /** The learning rate over updates. */
  readonly learning_rate: LearningRateSection;
  /** AdamW's decoupled weight decay. */
  readonly weight_decay: number;
  /** The parameters that decay: `matrices`, embeddings among them, or `all`, gains and biases too. */
  readonly decay: "matrices" | "all";
  /** AdamW's decay of the first moment. */
  readonly beta1: number;
  /** AdamW's decay of the second moment. */
  readonly beta2: number;
  /** AdamW's epsilon. */
  readonly epsilon: number;
  /** Gradients are scaled down to this global norm. */
  readonly clip_norm: number;
  /** `mixed`: f16 matrix operands, f32 master weights and accumulation. */
  readonly precision: "f32" | "mixed";
  /** The dynamic loss scale of mixed precision. */
  readonly loss_scale: LossScaleSection;
  /** Non-finite steps in a row after which training stops. */
  readonly max_non_finite_steps: number;
  /** Updates between evaluations; 0 evaluates at the end only. */
  readonly evaluate_every: number;
  /** Held-out tokens of an evaluation during training. */
  readonly evaluate_tokens: number;
  /** Updates between checkpoints. */
  readonly checkpoint_every: number;
  /**
   * Last checkpoints kept while training: where one is damaged, the one before takes its place. Each takes 12 bytes a stored
   * parameter, and up to 4 more for the best model so far; while one is written it comes on top.
   */
  readonly keep_checkpoints: number;
  /**
   * Where the best model is looked for. While a loss falls, each evaluation writes one, 4 bytes a stored parameter; with
   * `checkpoints` only those models compete that a checkpoint is written of anyway, the last one among them.
   */
  readonly best_of: "evaluations" | "checkpoints";
  /** Updates between rows of metrics. */
  readonly log_every: number;
  /** The activations that the backward pass computes again rather than keeps. */
  readonly recompute: "none" | "experts" | "full";
  /**
   * Updates that the finished training goes on to, counted from its beginning; more than {@linkcode trainingSteps}. The learning
   * rate of an update does not depend on it: a constant rate stays, and a cosine stays at its end.
   */
  readonly extend?: number | undefined;
  /** Updates between samples of text; absent: none are made, and the three keys below are absent too. */
  readonly sample_every?: number | undefined;
  /** Texts that samples go on from; an empty one begins a document. */
  readonly sample_prompts?: readonly string[] | undefined;
  /** Tokens of a sample at most. */
  readonly sample_tokens?: number | undefined;
  /** Divides the logits of samples; 0 takes the most likely token. */
  readonly sample_temperature?: number | undefined;
}

/**
 * A Zod schema of the `train` section.
 *
 * @ignore Zod's own documentation describes it.
 */
type TrainSchema = z.ZodType<TrainSection>;

/**
 * Schema of the `train` section. Defaults are the paper's values; the length of training has none.
 *
 * @example
 * ```ts
 * import { tokensPerStep, trainingSteps, trainSchema } from "./config.ts";
 * const train = trainSchema.parse({ tokens: 100_000_000 });
 * console.assert(tokensPerStep(train) === 32768);
 * console.assert(trainingSteps(train) === 3052);
 * ```
 */
export const trainSchema: TrainSchema = fields.superRefine((train, context) => {
  if (train.sample_every !== undefined) return;
  for (const key of ["sample_prompts", "sample_tokens", "sample_temperature"] as const) {
    if (train[key] === undefined) continue;
    const message = "is given without sample_every, so no samples are made; give sample_every too";
    context.addIssue({ code: "custom", path: [key], message, input: train[key] });
  }
}).overwrite((
  {
    documents,
    gradient_groups = 1,
    sample_every = 0,
    sample_prompts = [...SAMPLING.prompts],
    sample_tokens = SAMPLING.tokens,
    sample_temperature = SAMPLING.temperature,
    ...train
  },
) => ({
  // Defaults are left out, so that they are the same parameters said or not.
  ...train,
  ...(documents === "single" ? { documents } : {}),
  ...(gradient_groups > 1 ? { gradient_groups } : {}),
  ...(sample_every > 0 ? { sample_every, sample_prompts, sample_tokens, sample_temperature } : {}),
})).superRefine((train, context) => {
  const issue = (path: string[], message: string, input: unknown) =>
    context.addIssue({ code: "custom", path, message, input });
  if ((train.steps === undefined) === (train.tokens === undefined)) {
    issue(
      ["steps"],
      train.steps === undefined
        ? "missing; give steps (updates) or tokens (training tokens)"
        : "given together with tokens; give one of them",
      train.steps,
    );
    return;
  }
  if (train.documents === "single" && train.tokens !== undefined) {
    issue(
      ["tokens"],
      `${train.tokens} can't be turned into updates with documents: single, where a sequence has as many tokens as its document; give steps`,
      train.tokens,
    );
  }
  const microBatchTokens = train.sequence_length * train.micro_batch;
  if (microBatchTokens > MAXIMUM_MICRO_BATCH_TOKENS) {
    issue(
      ["micro_batch"],
      `${train.micro_batch} sequences of ${train.sequence_length} are ${microBatchTokens} tokens at once; ` +
        `at most ${MAXIMUM_MICRO_BATCH_TOKENS}: use gradient_accumulation`,
      train.micro_batch,
    );
  }
  const { gradient_groups = 1, gradient_accumulation } = train;
  if (gradient_accumulation % gradient_groups !== 0) {
    issue(
      ["gradient_groups"],
      `${gradient_groups} does not divide the ${gradient_accumulation} micro-batches of an update (gradient_accumulation)`,
      gradient_groups,
    );
  }
  const { initial, peak, warmup_steps } = train.learning_rate;
  if (initial > peak) {
    issue(
      ["learning_rate", "initial"],
      `${initial} is above the peak ${peak}; warm-up rises from the initial rate to the peak`,
      initial,
    );
  }
  const steps = trainingSteps(train);
  const { extend } = train;
  if (extend !== undefined && extend >= 1 && extend <= steps) {
    issue(
      ["extend"],
      `${extend} is not beyond the ${steps} updates of the training; expected more`,
      extend,
    );
  }
  if (extend !== undefined && extend * tokensPerStep(train) > MOST_TOKENS) {
    const tokens = extend * tokensPerStep(train);
    issue(["extend"], `${extend} updates are ${tokens} tokens; at most ${MOST_TOKENS}`, extend);
  }
  const { sample_every, sample_prompts = [] } = train;
  if (sample_every !== undefined) {
    const times = Math.floor(lastStep(train) / sample_every) + 1;
    if (times * sample_prompts.length > MOST_SAMPLES) {
      issue(
        ["sample_every"],
        `${sample_every} makes ${times * sample_prompts.length} samples in ${
          lastStep(train)
        } updates; at most ${MOST_SAMPLES}`,
        sample_every,
      );
    }
  }
  const given = train.steps === undefined ? "tokens" : "steps";
  if (given === "tokens" && steps > MOST_UPDATES) {
    issue(
      ["tokens"],
      `${train.tokens} tokens are ${steps} updates of ${
        tokensPerStep(train)
      }; at most ${MOST_UPDATES}`,
      train.tokens,
    );
  }
  // Tokens have a bound of their own, before they are rounded up.
  if (given === "steps" && steps * tokensPerStep(train) > MOST_TOKENS) {
    issue(
      ["steps"],
      `${steps} updates of ${tokensPerStep(train)} tokens are ${
        steps * tokensPerStep(train)
      } tokens; at most ${MOST_TOKENS}`,
      steps,
    );
  }
  if (train.learning_rate.cosine_end !== undefined) {
    const { cosine_end, schedule } = train.learning_rate;
    if (schedule !== "cosine") {
      issue(
        ["learning_rate", "cosine_end"],
        `${cosine_end} is given, but the schedule is ${schedule}; expected cosine`,
        cosine_end,
      );
    } else if (cosine_end <= warmup_steps) {
      issue(
        ["learning_rate", "cosine_end"],
        `${cosine_end} is not after the warm-up of ${warmup_steps} updates`,
        cosine_end,
      );
    }
  }
  if (warmup_steps > steps) {
    issue(
      ["learning_rate", "warmup_steps"],
      `${warmup_steps} is more than the ${steps} updates of the training; at most ${steps}`,
      warmup_steps,
    );
  }
  if (train.loss_scale.minimum > train.loss_scale.initial) {
    issue(
      ["loss_scale", "minimum"],
      `${train.loss_scale.minimum} is above the initial scale ${train.loss_scale.initial}`,
      train.loss_scale.minimum,
    );
  }
});

/** Tokens that one update learns from, `B · L · accumulation`; the most with `documents: single`. */
export function tokensPerStep(
  train: Pick<TrainSection, "sequence_length" | "micro_batch" | "gradient_accumulation">,
): number {
  return train.sequence_length * train.micro_batch * train.gradient_accumulation;
}

/** Updates after which a training ends: those of {@linkcode trainingSteps}, or those that it is extended to. */
export function lastStep(
  train: Parameters<typeof trainingSteps>[0] & Pick<TrainSection, "extend">,
) {
  return train.extend ?? trainingSteps(train);
}

/** Updates of the training before it is extended: `steps`, or what `tokens` takes, rounded up. The learning rate depends on them. */
export function trainingSteps(
  train: Pick<
    TrainSection,
    "sequence_length" | "micro_batch" | "gradient_accumulation" | "steps" | "tokens"
  >,
): number {
  return train.steps ?? Math.ceil((train.tokens ?? 0) / tokensPerStep(train));
}

/** How samples of text are made during a training; undefined where none are. */
export function sampleSection(
  { sample_every: every, sample_prompts, sample_tokens, sample_temperature }: TrainSection,
): { every: number; prompts: readonly string[]; tokens: number; temperature: number } | undefined {
  if (!every) return undefined;
  const { prompts, tokens, temperature } = SAMPLING;
  return {
    every,
    prompts: sample_prompts ?? prompts,
    tokens: sample_tokens ?? tokens,
    temperature: sample_temperature ?? temperature,
  };
}
