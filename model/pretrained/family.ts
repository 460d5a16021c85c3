/**
 * The contract of a family of published models, and what families share.
 *
 * @module
 */

import { z } from "zod";
import type { ModelConfig } from "../section.ts";
import { type HubConfig, refused } from "./json.ts";
import type { TensorMap } from "./tensor_map.ts";

/** A published model's configuration in the project's terms. */
export interface PretrainedConfig {
  /** The model. */
  readonly model: ModelConfig;
  /** Tokens of the longest sequence that it was made for; undefined where the file does not say. */
  readonly positions: number | undefined;
  /** Every parameter, and the stored tensors that it is made of. */
  readonly tensors: readonly TensorMap[];
  /** Whether a stored tensor is a buffer, or a copy of another tensor: no parameter is missed without it. */
  ignores(name: string): boolean;
}

/** Models that share their layers and the names of their tensors. */
export interface Family {
  /** Reads a `config.json`. @throws {PretrainedError} Naming a key that is missing, wrong or not supported. */
  read(config: HubConfig): PretrainedConfig;
}

const MULTIPLE = 4;

/** A count of something. */
export const count = (maximum: number) =>
  z.int("expected a whole number").min(1).max(maximum, { error: `expected at most ${maximum}` });

/** A width of a matrix. */
export const width = () =>
  count(65536).refine((n) => n % MULTIPLE === 0, {
    error: `expected a multiple of ${MULTIPLE}`,
  });

/** An epsilon of a norm. */
export const epsilon = z.number().positive().max(1);

/** Keys that every family has. */
export const sharedKeys = {
  vocab_size: count(2 ** 24),
  hidden_size: width(),
  intermediate_size: width(),
  num_hidden_layers: count(512),
  num_attention_heads: count(1024),
  max_position_embeddings: count(2 ** 24).optional(),
};

/** The widest head that attention computes. */
const WIDEST_HEAD = 256;

/** Width of a head. @throws {PretrainedError} If it is none that attention computes. */
export function headWidth(
  { hidden_size, num_attention_heads, head_dim }: {
    readonly hidden_size: number;
    readonly num_attention_heads: number;
    readonly head_dim?: number | undefined;
  },
): number {
  const width = head_dim ?? hidden_size / num_attention_heads;
  if (!Number.isInteger(width)) {
    throw refused(
      "num_attention_heads",
      num_attention_heads,
      `it does not divide hidden_size ${hidden_size}`,
    );
  }
  if (width % MULTIPLE === 0 && width <= WIDEST_HEAD) return width;
  const [key, value] = head_dim === undefined
    ? ["num_attention_heads", num_attention_heads] as const
    : ["head_dim", head_dim] as const;
  throw refused(
    key,
    value,
    `a head is ${width} wide; expected a multiple of ${MULTIPLE}, at most ${WIDEST_HEAD}`,
  );
}
