/**
 * A tuning: answers to what operations ask of a device, as a file that can be kept and pinned.
 *
 * @module
 */

import { z } from "zod";
import type { Choices } from "../gpu/question.ts";

/** Ids of questions and names of ways are written with these. */
const NAME = /^[a-z0-9][a-z0-9._:/-]*$/;

const name = (most: number, what: string) =>
  z.string().max(most).regex(NAME, { error: `expected the name of ${what}` });

/**
 * A Zod schema of {@linkcode Choices}.
 *
 * @ignore Zod's own documentation describes it.
 */
export type ChoicesSchema = z.ZodType<Choices>;

/** Schema of the choices alone: all of a tuning that decides bits. */
export const choicesSchema: ChoicesSchema = z.record(
  name(200, "a question, such as product.nn.64x64x64.f32.f32.f32"),
  name(60, "a way, such as 128x64/2"),
);

/** A tuning as `tune` writes it. */
export interface Tuning {
  /** What the file is. */
  readonly format: "ethos-tuning";
  /** Version of its form. */
  readonly version: 1;
  /** Where and when it was measured, for people. Decides nothing. */
  readonly measured_on: Readonly<Record<string, unknown>>;
  /** The configuration whose training was tuned, for people. */
  readonly config: string;
  /** The answers. */
  readonly choices: Choices;
}

/**
 * A Zod schema of {@linkcode Tuning}.
 *
 * @ignore Zod's own documentation describes it.
 */
export type TuningSchema = z.ZodType<Tuning>;

/**
 * Schema of a tuning's file.
 *
 * @example
 * ```ts
 * import { tuningSchema } from "./tuning.ts";
 * const { choices } = tuningSchema.parse({
 *   format: "ethos-tuning",
 *   version: 1,
 *   measured_on: { adapter: "NVIDIA H200" },
 *   config: "configs/paper.yaml",
 *   choices: { "product.nn.64x64x64.f32.f32.f32": "64x64/2" },
 * });
 * console.assert(Object.keys(choices).length === 1);
 * ```
 */
export const tuningSchema: TuningSchema = z.strictObject({
  format: z.literal("ethos-tuning"),
  version: z.literal(1),
  measured_on: z.record(z.string(), z.unknown()),
  config: z.string(),
  choices: choicesSchema,
});
