/**
 * Keys of a published `config.json`: reading them, and refusing those that would change a model in a way that is not known here.
 *
 * @module
 */

import type { z } from "zod";
import { PretrainedError } from "./error.ts";

/** A `config.json`. */
export type HubConfig = Readonly<Record<string, unknown>>;

/** Name of the file. */
export const CONFIG_FILE = "config.json";

/** Keys that say nothing of what a model computes from its tokens. */
const WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  "architectures",
  "attention_dropout",
  "bos_token_id",
  "classifier_dropout",
  "dtype",
  "eos_token_id",
  "gradient_checkpointing",
  "hidden_dropout",
  "id2label",
  "initializer_range",
  "is_decoder",
  "label2id",
  "model_max_length",
  "model_type",
  "name_or_path",
  "output_attentions",
  "output_hidden_states",
  "pad_token_id",
  "pretraining_tp",
  "problem_type",
  "return_dict",
  "task_specific_params",
  "tokenizer_class",
  "torch_dtype",
  "torchscript",
  "transformers_version",
  "use_cache",
]);

/** A value in a message: its beginning, in one line. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "undefined";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** Says that a key has a value that is not known here. */
export function refused(key: string, value: unknown, expected: string): PretrainedError {
  return new PretrainedError(`${CONFIG_FILE}: ${key} is ${shown(value)}; ${expected}`);
}

/**
 * Reads the keys of a schema, whose names are those of the file. A key that is null counts as missing.
 *
 * @param known Keys that are read elsewhere.
 * @throws {PretrainedError} Naming a key that is missing, wrong, or of a meaning that is not known here.
 */
export function readKeys<Shape extends z.ZodRawShape>(
  config: HubConfig,
  schema: z.ZodObject<Shape>,
  known: readonly string[] = [],
): z.infer<z.ZodObject<Shape>> {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null));
  for (const [key, value] of Object.entries(given)) {
    const understood = Object.hasOwn(schema.shape, key) || known.includes(key) ||
      WITHOUT_EFFECT.has(key) || key.startsWith("_");
    // A feature that is turned off changes nothing.
    if (understood || value === false) continue;
    throw refused(key, value, "a model with this key is not supported; expected none");
  }
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data as z.infer<z.ZodObject<Shape>>;
  const issue = parsed.error.issues[0]!;
  const key = issue.path.join(".");
  const value = issue.path.reduce<unknown>(
    (at, name) => at === undefined ? undefined : (at as Record<PropertyKey, unknown>)[name],
    given,
  );
  if (value === undefined) throw new PretrainedError(`${CONFIG_FILE} has no ${key}`);
  throw refused(key, value, issue.message);
}
