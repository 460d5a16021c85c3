/**
 * A model's layers: its configuration bound to the kinds that it names.
 *
 * @module
 */

import type { Attention, FeedForward, Kind } from "../layer/kind.ts";
import type { AttentionSection, FfnSection, ModelConfig } from "../section.ts";

/** The kinds that a configuration names. */
export interface Kinds {
  readonly attention: Kind<AttentionSection, Attention>;
  readonly ffn: Kind<FfnSection, FeedForward>;
  /** The kind of the leading dense layers, where there are any. */
  readonly dense?: Kind<FfnSection, FeedForward>;
}

/** Every layer of a model, from its configuration. */
export class Architecture {
  /** Sizes of the model. */
  readonly config: ModelConfig;
  /** Attention of every layer. */
  readonly attention: Attention;
  readonly #kinds: Kinds;
  readonly #leading: FeedForward | undefined;
  readonly #ffn: FeedForward;
  readonly #replaced: ReadonlyMap<number, FeedForward>;

  /** Binds a validated configuration to its kinds; see `loadArchitecture()`. */
  constructor(
    config: ModelConfig,
    kinds: Kinds,
    replaced: ReadonlyMap<number, FeedForward> = new Map(),
  ) {
    this.config = config;
    this.#kinds = kinds;
    this.#replaced = replaced;
    this.attention = kinds.attention.create(config.attention, config);
    this.#ffn = kinds.ffn.create(config.ffn, config);
    const { d_ffn } = config.leading_dense;
    this.#leading = kinds.dense?.create({ kind: "dense", d_ffn }, config);
  }

  /** The longest sequence, in tokens: the rows of learned positions; without them there is no limit. */
  get longest(): number {
    const { positions, max_positions } = this.config.trunk;
    return positions === "learned" ? max_positions : Infinity;
  }

  /** The feed-forward of layer `i`. */
  feedForward(i: number): FeedForward {
    const replaced = this.#replaced.get(i);
    if (replaced) return replaced;
    if (i >= this.config.leading_dense.num_layers) return this.#ffn;
    if (this.#leading === undefined) {
      throw new Error("The kind of the leading layers is not loaded");
    }
    return this.#leading;
  }

  /** The same kinds in other sizes. */
  resized(change: Partial<Omit<ModelConfig, "attention" | "ffn">>): Architecture {
    return new Architecture({ ...this.config, ...change }, this.#kinds);
  }

  /**
   * The architecture with keys of `model.ffn` changed.
   *
   * @throws {Error} If the kind has no such key or not this value.
   */
  withFfn(change: Readonly<Record<string, unknown>>): Architecture {
    const ffn = this.#kinds.ffn.schema.parse({ ...this.config.ffn, ...change });
    return new Architecture({ ...this.config, ffn }, this.#kinds);
  }

  /** The architecture with other feed-forwards in some layers, by their numbers; what generation changes about a kind does not reach them. */
  withFeedForwards(replaced: ReadonlyMap<number, FeedForward>): Architecture {
    return new Architecture(this.config, this.#kinds, replaced);
  }

  /** The same stored numbers, run as generation runs them: keys that change the run alone have their values for it. */
  forGeneration(): Architecture {
    const { config } = this;
    const { attention, ffn } = this.#kinds;
    return new Architecture(
      {
        ...config,
        attention: { ...config.attention, ...attention.runtime } as AttentionSection,
        ffn: { ...config.ffn, ...ffn.runtime } as FfnSection,
      },
      this.#kinds,
      this.#replaced,
    );
  }
}
