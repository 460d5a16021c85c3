/**
 * Choices between several ways of computing the same: an operation poses a question, a rule or a tuning answers it.
 *
 * @module
 */

import type { Plan } from "./plan.ts";
import type { DType, Tensor } from "./tensor.ts";

/**
 * Answers by question: `{"product.nn.32768x1024x4096.f16.f16.f32": "128x64/2"}`. Ways differ in the last bits of what they compute, so that
 * answers decide bits as weights and seeds do.
 */
export type Choices = Readonly<Record<string, string>>;

/** Makes a persistent tensor for something to read or write; the same one for the same name. */
export type MakeTensor = (name: string, shape: readonly number[], dtype: DType) => Tensor;

/** Something that can be computed in several ways. */
export interface Question {
  /** Names what is computed, with all that the ways depend on: the same on every device. */
  readonly id: string;
  /** Ways that the device offers, by name. The rule's comes first: it is taken where no tuning answers. */
  readonly candidates: readonly string[];
  /** Records what is asked about by itself, so that it can be timed. The plan's choices say which way it goes. */
  record(plan: Plan, tensor: MakeTensor): void;
}

/**
 * The way that `choices` name, else the rule's.
 *
 * @throws {RangeError} If they name one that the device does not offer.
 */
export function answer({ id, candidates }: Question, choices: Choices): string {
  if (!Object.hasOwn(choices, id)) return candidates[0]!;
  const chosen = choices[id]!;
  if (candidates.includes(chosen)) return chosen;
  throw new RangeError(
    `The tuning answers ${id} with ${JSON.stringify(chosen)}; this device offers ${
      candidates.join(", ")
    }`,
  );
}
