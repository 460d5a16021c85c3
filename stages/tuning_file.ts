/**
 * `train.tuning`: the file that a configuration pins ways of computing with.
 *
 * @module
 */

import { tuningSchema } from "../model/training/tuning.ts";
import type { Choices } from "../model/gpu/question.ts";
import { explainIssues } from "../pipeline/config/explain.ts";
import type { ValueReader } from "../pipeline/config/config.ts";
import { messageOf } from "../pipeline/errors.ts";

/** What a file must be. */
const EXPECTED = "expected the path of a file that `tune --out` wrote";

/** Values of a configuration that name files, and what is read from each. */
export const VALUE_READERS: Readonly<Record<string, ValueReader>> = { "train.tuning": readTuning };

/**
 * The choices of a tuning's file, which is looked for as other files of a configuration are: from the working directory. When and where it
 * was measured stays behind, for it decides nothing and must be in no key.
 *
 * @throws {Error} If it is not there or holds something else, naming the file and its key.
 */
export async function readTuning(path: unknown): Promise<Choices> {
  if (typeof path !== "string" || path === "") {
    throw new Error(`${EXPECTED}, got ${path === null ? "nothing" : JSON.stringify(path)}`);
  }
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    const reason = cause instanceof Deno.errors.NotFound
      ? `no such file, seen from ${Deno.cwd()}`
      : messageOf(cause);
    throw new Error(`${path}: ${reason}; ${EXPECTED}`, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Error(`${path}: no JSON (${messageOf(cause)}); ${EXPECTED}`, { cause });
  }
  const parsed = tuningSchema.safeParse(value);
  if (parsed.success) return parsed.data.choices;
  const [first] = explainIssues(parsed.error.issues, { schema: tuningSchema, value });
  const key = first!.path.length === 0 ? "" : `${first!.path.join(".")}: `;
  throw new Error(`${path}: ${key}${first!.message}`);
}
