/**
 * A model's configuration, as types. `config.ts` has its schema.
 *
 * @module
 */

import type { ATTENTION } from "./attention/registry.ts";
import type { FFN } from "./ffn/registry.ts";
import type { Attention, FeedForward, Kind } from "./layer/kind.ts";
import type { TrunkConfig } from "./trunk/schema.ts";

/** The sections of the kinds in a registry. */
type Sections<Registry, Layer> = {
  [Name in keyof Registry]: Registry[Name] extends
    { readonly load: () => Promise<{ readonly kind: Kind<infer Section, Layer> }> } ? Section
    : never;
}[keyof Registry];

/** The section `model.attention`, of any kind. */
export type AttentionSection = Sections<typeof ATTENTION, Attention>;

/** The section `model.ffn`, of any kind. */
export type FfnSection = Sections<typeof FFN, FeedForward>;

/** The section `model`, validated. */
export interface ModelSection extends TrunkConfig {
  /** Attention of every layer. */
  readonly attention: AttentionSection;
  /** Feed-forward of the layers after the leading dense ones. */
  readonly ffn: FfnSection;
}

/** A model's configuration: the section `model` with the vocabulary of the tokens that it reads. */
export interface ModelConfig extends ModelSection {
  /** Vocabulary size, V; any count. */
  readonly vocab_size: number;
}
