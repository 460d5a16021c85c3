/**
 * Measuring a model on text: cross-entropy of its predictions with running statistics, and how its experts were used.
 *
 * @module
 */

import { buildPlans, type BuiltPlan, type BuiltPlans } from "../gpu/build.ts";
import type { Gpu } from "../gpu/device.ts";
import { Arena } from "../gpu/memory.ts";
import { Plan } from "../gpu/plan.ts";
import { BYTES, Tensor } from "../gpu/tensor.ts";
import { download, upload } from "../gpu/transfer.ts";
import { type ExpertChoice, LayerContext } from "../layer/context.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { type BatchTensors, recordEvaluation } from "../trunk/network.ts";
import { NO_TARGET } from "../ops/elementwise/cross_entropy.ts";
import { countUsage } from "../ops/routing/usage.ts";
import { tokenBlocks } from "../text/documents.ts";
import type { TokenSource } from "../text/token_source.ts";
import type { Weights } from "../layer/weights.ts";
import { packedBatch, type TokenBatch, tokenBatches } from "./token_batch.ts";

/** How the experts of one layer were used. */
export interface LayerUsage {
  /** Number of the layer, from 0. */
  readonly layer: number;
  /** Times each expert was kept, `[N]`. */
  readonly counts: Uint32Array;
  /** Further numbers of the first batch that the layer's kind names, such as the norms of the router's queries. */
  readonly statistics: Readonly<Record<string, number>>;
}

/** The result of an evaluation. */
export interface EvaluationResult {
  /** Predictions made. */
  readonly tokens: number;
  /** UTF-8 bytes of the text that they spell; 0 when nobody said how long tokens are. */
  readonly bytes: number;
  /** Sum of their cross-entropies, nats. */
  readonly total_nats: number;
  /** Mean cross-entropy, nats. */
  readonly nats: number;
  /** `exp(nats)`; null above 709.78 nats, where that is beyond float64. */
  readonly perplexity: number | null;
  /** Layers with experts; none in a dense model. */
  readonly usage: readonly LayerUsage[];
}

/** Options of an evaluation. */
export interface EvaluationOptions {
  /** Predictions at most. */
  readonly tokens?: number;
  /**
   * Scores whole sequences alone, each by itself: its first token is given and not predicted, and a last sequence that is not full is left out. For a stream of
   * tokens.
   */
  readonly windows?: boolean | undefined;
  /**
   * Makes each document a sequence of its own, from its first token on and cut at the length of a sequence; the token is
   * the one that documents end in. With `padded` every sequence is filled with that token, which is predicted, too. Sequences
   * take the tokens as they come unless given.
   */
  readonly documents?:
    | { readonly endoftext: number; readonly padded?: boolean | undefined }
    | undefined;
  /** UTF-8 bytes that a token stands for; 0 for the one between documents. */
  byteLength?(token: number): number;
  /** Told the mean cross-entropy of each sequence that has a prediction, in their order. */
  onSequence?(nats: number): void;
  /** Told after every few batches how many predictions are done. */
  onProgress?(tokens: number): void;
  /** Looked at before each batch. */
  readonly signal?: AbortSignal;
}

/** Options of an {@linkcode Evaluator}. */
interface EvaluatorOptions {
  /** The model's layers. */
  readonly architecture: Architecture;
  /** The weights to score, as they are when a batch runs. */
  readonly weights: Weights;
  /** Sequences in a batch. */
  readonly batch: number;
  /** Tokens in a sequence: what a prediction can see at most. */
  readonly length: number;
  /** Tensors of a batch that others use too; the evaluator makes its own unless given. */
  readonly tensors?: BatchTensors;
  /** Records what is done with each layer's choice of experts; see `LayerContextOptions`. */
  readonly onChoice?: (choice: ExpertChoice) => void;
}

/** Batches whose losses are read back at once: a read-back waits for the device, which stands still until the host comes back. */
const BATCHES_A_READ = 8;

/** Tensors of one layer with experts. */
interface LayerTensors {
  readonly counts: Tensor;
  /** Of the first elements of `values`. */
  readonly names: readonly string[];
  readonly values?: Tensor;
}

/** Bits per byte of the text that was predicted; null when the tokens spell none, or nobody said how long they are. */
export function bitsPerByte(result: Pick<EvaluationResult, "total_nats" | "bytes">): number | null {
  return finite(result.total_nats / (Math.LN2 * result.bytes));
}

/** `exp(nats)`; null where that is beyond float64. */
export function perplexityOf(nats: number): number | null {
  return finite(Math.exp(nats));
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/**
 * Scores text with whatever the weights are at the time.
 *
 * {@linkcode Evaluator.open} makes one that is ready. The constructor only records a plan: a trainer builds
 * {@linkcode Evaluator.plan} together with its own and hands it to {@linkcode Evaluator.use}. One evaluation at a time.
 *
 * Text is cut into sequences of `length` tokens that do not see each other, in their order, or at its documents.
 *
 * @example
 * ```ts ignore
 * using model = await openInferenceModel(gpu, "model.safetensors");
 * using evaluator = await Evaluator.open(gpu, { config: model.config, weights: model.weights, batch: 8, length: 64 });
 * const { nats } = await evaluator.evaluate(split, { tokens: 10_000 });
 * ```
 */
export class Evaluator implements Disposable {
  /** To be built by the owner. */
  readonly plan: Plan;
  /** Predictions of a batch, `B · L`. */
  readonly batchTokens: number;
  readonly #length: number;
  readonly #gpu: Gpu;
  readonly #batch: BatchTensors;
  /** Losses of batches that were not read yet, a row each. */
  readonly #losses: Tensor;
  readonly #usage = new Map<number, LayerTensors>();
  readonly #arenas: readonly Arena[];
  #built: BuiltPlan | undefined;
  #owned: BuiltPlans | undefined;

  /** Records the plan and allocates what it reads and writes. */
  constructor(gpu: Gpu, options: EvaluatorOptions) {
    const { architecture, weights, batch, length, tensors, onChoice } = options;
    this.#gpu = gpu;
    this.batchTokens = batch * length;
    this.#length = length;
    this.#batch = tensors ?? batchTensors(this.batchTokens);
    this.#losses = new Tensor("losses of batches", [BATCHES_A_READ, this.batchTokens], {
      owner: "batch",
    });
    this.plan = new Plan(gpu, "evaluate");
    const context = new LayerContext(this.plan, weights, {
      batch,
      length,
      mode: "evaluate",
      ...(onChoice && { onChoice }),
    });
    const { uses } = recordEvaluation(context, architecture, this.#batch);
    for (const [layer, { experts, index, statistics }] of uses) {
      const counts = new Tensor(`layers.${layer}.usage`, [experts], {
        dtype: "u32",
        owner: "statistics",
      });
      const { names = [], values } = statistics?.() ?? {};
      this.#usage.set(layer, { counts, names, ...(values && { values: this.plan.keep(values) }) });
      countUsage(this.plan, `layers.${layer}.usage`, {
        index,
        targets: this.#batch.targets,
        counts,
      });
    }
    // An arena each, for a dispatch may not read and write one buffer.
    this.#arenas = [
      ...(tensors ? [] : Object.values(this.#batch)),
      this.#losses,
      ...this.#usage.values().map(({ counts }) => counts),
    ]
      .map((tensor: Tensor) => new Arena(gpu, tensor.name, [tensor]));
  }

  /** An evaluator with a plan of its own, ready to score. */
  static async open(gpu: Gpu, options: EvaluatorOptions): Promise<Evaluator> {
    const evaluator = new Evaluator(gpu, options);
    try {
      evaluator.#owned = await buildPlans(gpu, [evaluator.plan]);
    } catch (error) {
      evaluator[Symbol.dispose]();
      throw error;
    }
    evaluator.use(evaluator.#owned.plans[0]!);
    return evaluator;
  }

  /** Takes the built {@linkcode Evaluator.plan}. */
  use(built: BuiltPlan): void {
    this.#built = built;
  }

  /** Bytes on the device, without the plan's activations. */
  get bytes(): number {
    return this.#arenas.reduce((n, arena) => n + arena.bytes, 0);
  }

  /**
   * Scores the first predictions of a split.
   *
   * @throws {RangeError} If there is nothing to predict.
   */
  async evaluate(source: TokenSource, options: EvaluationOptions = {}): Promise<EvaluationResult> {
    if (options.documents) return await this.evaluateStream(tokenBlocks(source), options);
    const predictions = Math.min(options.tokens ?? Infinity, source.length - 1);
    if (predictions < 1) throw new RangeError("The split has no token to predict");
    const size = this.batchTokens;
    return await this.#score(
      function* () {
        for (let at = 0; at < predictions; at += size) {
          yield packedBatch(source.read(at, Math.min(size, predictions - at) + 1), size);
        }
      }(),
      options,
    );
  }

  /**
   * Scores a stream of tokens: every token but the very first is predicted, or with `documents` or `windows` but the
   * first of each. Keeps one batch in memory, whatever the length.
   *
   * @param blocks Consecutive tokens, cut anywhere.
   * @throws {RangeError} If there is nothing to predict.
   */
  async evaluateStream(
    blocks: AsyncIterable<Uint32Array> | Iterable<Uint32Array>,
    options: EvaluationOptions = {},
  ): Promise<EvaluationResult> {
    const { documents, windows, tokens: most = Infinity } = options;
    const length = this.#length;
    const batch = this.batchTokens / length;
    const batches = tokenBatches(blocks, { batch, length, most, documents, windows });
    return await this.#score(batches, options);
  }

  /** Frees the device's memory, but for that of a plan that somebody else built. */
  [Symbol.dispose](): void {
    this.#owned?.destroy();
    for (const arena of this.#arenas) arena.destroy();
  }

  /** Scores batches. */
  async #score(
    batches: AsyncIterable<TokenBatch> | Iterable<TokenBatch>,
    options: EvaluationOptions,
  ): Promise<EvaluationResult> {
    const gpu = this.#gpu;
    const { byteLength, signal, onSequence, onProgress } = options;
    for (const { counts } of this.#usage.values()) {
      upload(gpu, counts, new Uint32Array(counts.size));
    }
    let statistics: Promise<Readonly<Record<string, number>>[]> | undefined;
    let tokens = 0;
    let bytes = 0;
    let total = 0;
    // Batches that were submitted since the last read-back, and those before whose losses are on their way.
    let submitted: Uint32Array[] = [];
    let pending:
      | { losses: ReturnType<typeof download>; targets: readonly Uint32Array[] }
      | undefined;
    const settle = async () => {
      if (!pending) return;
      const { losses, targets } = pending;
      pending = undefined;
      const read = await losses;
      for (const [row, own] of targets.entries()) {
        const values = read.subarray(row * own.length, (row + 1) * own.length);
        for (const loss of values) total += loss;
        if (onSequence) {
          for (const nats of sequenceMeans(values, own, this.#length)) onSequence(nats);
        }
        for (const target of own) {
          if (target === NO_TARGET) continue;
          tokens++;
          if (byteLength) bytes += byteLength(target);
        }
      }
      onProgress?.(tokens);
    };
    /** Asks for the losses of what was submitted, and takes those that were asked for before. */
    const read = async () => {
      const targets = submitted;
      submitted = [];
      const next = { losses: download(gpu, this.#losses), targets };
      // Should those before fail, this failure is told by the same error.
      next.losses.catch(() => {});
      await settle();
      pending = next;
    };
    for await (const batch of batches) {
      signal?.throwIfAborted();
      this.#submit(batch, submitted.length);
      statistics ??= Promise.all(this.#usage.values().map((layer) => this.#statistics(layer)));
      submitted.push(batch.targets);
      if (submitted.length === BATCHES_A_READ) await read();
    }
    if (submitted.length > 0) await read();
    // Asked for before anything is waited for: one wait serves all.
    const used = Promise.all(this.#usage.values().map(({ counts }) => download(gpu, counts)));
    used.catch(() => {});
    await settle();
    if (tokens === 0) throw new RangeError("The text has no token to predict");
    const counts = await used;
    const numbers = await statistics;
    const usage = [...this.#usage.keys()].map((layer, i): LayerUsage => ({
      layer,
      counts: counts[i] as Uint32Array,
      statistics: numbers?.[i] ?? {},
    }));
    const nats = total / tokens;
    return { tokens, bytes, total_nats: total, nats, perplexity: perplexityOf(nats), usage };
  }

  /** Reads the numbers that a layer's kind recorded, by their names. */
  async #statistics({ names, values }: LayerTensors): Promise<Readonly<Record<string, number>>> {
    if (!values) return {};
    const read = await download(this.#gpu, values);
    return Object.fromEntries(names.map((name, i) => [name, read[i] ?? NaN]));
  }

  /** Submits a batch, whose losses become a row of those to be read. */
  #submit({ tokens, targets }: TokenBatch, row: number): void {
    if (!this.#built) throw new Error("The evaluator's plan has not been built");
    const { device } = this.#gpu;
    upload(this.#gpu, this.#batch.tokens, tokens);
    upload(this.#gpu, this.#batch.targets, targets);
    this.#gpu.check();
    const encoder = device.createCommandEncoder({ label: this.plan.label });
    this.#built.encode(encoder);
    const from = this.#batch.losses.memory;
    const to = this.#losses.memory;
    // A tensor's own bytes are rounded up.
    const bytes = this.batchTokens * BYTES.f32;
    encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset + row * bytes, bytes);
    device.queue.submit([encoder.finish()]);
  }
}

/** Mean loss of each sequence of a batch; a sequence without a prediction has none. */
function sequenceMeans(
  losses: ArrayLike<number>,
  targets: Uint32Array,
  length: number,
): number[] {
  const means: number[] = [];
  for (let start = 0; start < targets.length; start += length) {
    let [sum, count] = [0, 0];
    for (let i = start; i < start + length; i++) {
      if (targets[i] === NO_TARGET) continue;
      sum += losses[i]!;
      count++;
    }
    if (count > 0) means.push(sum / count);
  }
  return means;
}

/** Tensors of a batch of `size` tokens; give each an arena of its own. */
export function batchTensors(size: number): Record<"tokens" | "targets" | "losses", Tensor> {
  const ids = (name: string) => new Tensor(name, [size], { dtype: "u32", owner: "batch" });
  return {
    tokens: ids("tokens"),
    targets: ids("targets"),
    losses: new Tensor("losses", [size], { owner: "batch" }),
  };
}
