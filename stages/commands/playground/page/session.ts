/**
 * A model on the browser's own GPU: the modules and kernels of `model/`, as a page uses them.
 *
 * @module
 */

import { type Gpu, openAdapter } from "../../../../model/gpu/device.ts";
import {
  firstTokens,
  generateText,
  type GenerationSummary,
} from "../../../../model/inference/generate_text.ts";
import {
  CapacityError,
  Generator,
  type PassChoices,
} from "../../../../model/inference/generator.ts";
import { InferenceModel } from "../../../../model/inference/model.ts";
import { type SamplingOptions, samplingSchema } from "../../../../model/inference/sampling.ts";
import { type ExpertLayer, expertLayers } from "../../../../model/interpret/expert_layers.ts";
import { loadArchitecture } from "../../../../model/load.ts";
import { BytePairTokenizer } from "../../../../model/text/byte_pair_tokenizer.ts";
import { CompactTokenizer } from "../../../../model/text/compact.ts";
import type { Tokenizer } from "../../../../model/text/tokens.ts";
import type { PageModel } from "../page_model.ts";
import { Trace } from "./trace.ts";

/** The page can't compute here. The message says why, in one line. */
export class NoWebGpuError extends Error {
  /** Name of the class. */
  override readonly name = "NoWebGpuError";
}

/** How a text is made; numbers are as typed, and checked here. */
export interface SessionOptions {
  readonly prompt: string;
  readonly max_tokens: number;
  /** Tokens that prompt and text may have together. */
  readonly context: number;
  readonly seed: number;
  readonly sampling: SamplingOptions;
  readonly signal: AbortSignal;
}

/** Opens the browser's device, with the features and limits that its adapter has. */
async function openBrowserGpu(): Promise<Gpu> {
  const { isSecureContext = false } = globalThis as { readonly isSecureContext?: boolean };
  if (!isSecureContext) {
    throw new NoWebGpuError(
      "This address gets no WebGPU: expected https, http on this machine (127.0.0.1), or a file.",
    );
  }
  // Absent in browsers without it, whatever the types say.
  const gpu = navigator.gpu as GPU | undefined;
  if (gpu === undefined) {
    throw new NoWebGpuError(
      "This browser has no WebGPU; expected Chrome or Edge from 113, Firefox from 141, or Safari from 26.",
    );
  }
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) {
    throw new NoWebGpuError(
      "This browser has WebGPU, but no GPU answers to it; Chromium's page chrome://gpu says why.",
    );
  }
  return await openAdapter(adapter, { runtime: "browser", restrict: { timestamps: false } });
}

/** The tokenizer of a vocabulary. */
function tokenizerOf({ vocabulary, encoding, ranks }: PageModel): Tokenizer {
  const base = new BytePairTokenizer(encoding, ranks);
  return vocabulary.vocabulary === "compact" ? new CompactTokenizer(base, vocabulary.tokens) : base;
}

/** A model that is ready. */
export class Session {
  /** Name of the GPU. */
  readonly device: string;
  /** Whether a processor plays GPU. */
  readonly software: boolean;
  /** Layers with experts. */
  readonly layers: readonly ExpertLayer[];
  /** Positions of the model; Infinity where nothing limits them. */
  readonly longest: number;
  /** The experts of the last text. */
  trace: Trace;
  readonly #model: InferenceModel;
  readonly #tokenizer: Tokenizer;

  private constructor(gpu: Gpu, model: InferenceModel, tokenizer: Tokenizer) {
    this.device = gpu.adapter.description;
    this.software = gpu.adapter.software;
    this.layers = expertLayers(model.architecture);
    this.longest = model.architecture.longest;
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.trace = new Trace(this.layers);
  }

  /**
   * Opens the device and puts the model there.
   *
   * @throws {NoWebGpuError} If the browser can't compute.
   */
  static async open(
    model: PageModel,
    weights: ReadonlyMap<string, Float32Array>,
  ): Promise<Session> {
    const gpu = await openBrowserGpu();
    const architecture = await loadArchitecture(model.config);
    const inference = await InferenceModel.filled(gpu, {
      architecture,
      async fill(sink) {
        for (const [name, values] of weights) await sink.writeState("value", name, values);
      },
    });
    return new Session(gpu, inference, tokenizerOf(model));
  }

  /** The text of a token; bytes that are no whole character are U+FFFD. */
  textOf(token: number): string {
    return this.#tokenizer.decode([token]);
  }

  /**
   * Continues a prompt, as the command `generate` does: the same options give the same tokens.
   *
   * @throws {RangeError} If an option is out of its range, or the prompt does not fit the context.
   */
  async *generate(options: SessionOptions): AsyncGenerator<string, GenerationSummary> {
    const { prompt, max_tokens, seed, signal } = options;
    requireWhole("Tokens", max_tokens, 1);
    requireWhole("Context", options.context, 2);
    requireWhole("Seed", seed, 0, 2 ** 32 - 1);
    const sampling = samplingSchema.safeParse(options.sampling);
    if (!sampling.success) {
      const [issue] = sampling.error.issues;
      throw new RangeError(`${String(issue!.path[0]).replaceAll("_", " ")}: ${issue!.message}.`);
    }
    const asked = this.#tokenizer.encode(prompt).length;
    const needed = firstTokens(this.#tokenizer, asked).length + asked;
    const context = Math.min(options.context, this.longest);
    if (needed > context) {
      const remedy = context === this.longest
        ? "which is as many positions as the model has; shorten it"
        : "raise the context or shorten it";
      throw new RangeError(
        `The prompt has ${needed} tokens, but the context holds ${context}; ${remedy}.`,
      );
    }
    const trace = this.trace = new Trace(this.layers);
    const capacity = Math.min(context, needed + max_tokens);
    using generator = await this.#generator(
      capacity,
      (pass) => trace.add(pass, { prompt: needed, capacity }),
    );
    return yield* generateText(generator, this.#tokenizer, {
      prompt,
      max_tokens,
      seed,
      slide: true,
      sampling: sampling.data,
      signal,
    });
  }

  async #generator(
    capacity: number,
    onChoices: (pass: PassChoices) => void,
  ): Promise<Generator> {
    try {
      return await Generator.create(this.#model, {
        capacity,
        ...this.layers.length > 0 && { onChoices },
      });
    } catch (error) {
      // A cache that no binding can hold.
      if (!(error instanceof RangeError) || error instanceof CapacityError) throw error;
      throw new RangeError(
        `A context of ${capacity} tokens does not fit the device: ${error.message}.`,
      );
    }
  }
}

function requireWhole(name: string, value: number, least: number, most = 2 ** 24): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(
    `${name} is ${
      Number.isNaN(value) ? "no number" : value
    }; expected a whole number from ${least} to ${most}.`,
  );
}
