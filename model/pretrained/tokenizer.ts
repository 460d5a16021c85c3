/**
 * The tokenizer in the folder of a published checkpoint.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { JsonTokenizer } from "../text/tokenizer_json.ts";
import { PretrainedError } from "./error.ts";
import { readJson, readJsonIfThere } from "./files.ts";
import { CONFIG_FILE, shown } from "./json.ts";

/** Name of the tokenizer's file. */
export const TOKENIZER_FILE = "tokenizer.json";
/** Names of files that add to a checkpoint's configuration and need not be there. */
export const OPTIONAL_FILES = ["tokenizer_config.json", "generation_config.json"] as const;

const ids = z.union([z.int().min(0), z.array(z.int().min(0)).min(1)]);

/**
 * Opens the tokenizer of the checkpoint in a folder. `generation_config.json` names the token that ends a text, or else `config.json`.
 *
 * @param vocabulary Ids of the model, of which the tokenizer may use fewer.
 * @throws {PretrainedError} If a file is missing, or holds what is not known here.
 */
export async function openPretrainedTokenizer(
  folder: string,
  vocabulary: number,
): Promise<JsonTokenizer> {
  const json = await readJson(folder, TOKENIZER_FILE);
  const [config, generation] = await Promise.all(
    OPTIONAL_FILES.map((name) => readJsonIfThere(folder, name)),
  );
  const own = await readJson(folder, CONFIG_FILE);
  const said = Object(generation)["eos_token_id"] ?? Object(own)["eos_token_id"];
  const ends = ids.safeParse(said);
  if (!ends.success) {
    throw new PretrainedError(
      `${join(folder, CONFIG_FILE)}: eos_token_id is ${
        shown(said)
      }; expected the token that ends a text, or several`,
    );
  }
  let tokenizer: JsonTokenizer;
  try {
    tokenizer = new JsonTokenizer({ json, config, ends: [ends.data].flat() });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new PretrainedError(`${join(folder, TOKENIZER_FILE)}: ${why}`, { cause });
  }
  if (tokenizer.vocab_size <= vocabulary) return tokenizer;
  throw new PretrainedError(
    `${
      join(folder, TOKENIZER_FILE)
    } has ${tokenizer.vocab_size} tokens, the model's vocab_size is ${vocabulary}; they do not belong together`,
  );
}
