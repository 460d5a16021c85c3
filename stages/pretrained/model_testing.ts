/**
 * Small published models in folders, and what the stage `pretrained` makes of them, for tests.
 *
 * @module
 */

import { join } from "@std/path";
import {
  SMALL_LLAMA,
  SMALL_NEOX,
  writePretrained,
  type WritePretrainedOptions,
} from "../../model/pretrained/pretrained_testing.ts";
import { byteTokenizer, markTokenizer } from "../../model/text/tokenizer_json_testing.ts";
import type { NodeOutput } from "../../pipeline/stage.ts";
import { runStage } from "../testing.ts";
import { pretrained } from "./pretrained.ts";

/** Families with a tokenizer that is like theirs. */
export const FAMILIES = {
  gpt_neox: { config: { ...SMALL_NEOX, eos_token_id: 0 }, tokenizer: byteTokenizer },
  llama: { config: { ...SMALL_LLAMA, eos_token_id: 2 }, tokenizer: markTokenizer },
} as const;

/** Writes a model of numbers that are no model's. */
export async function writeModel(
  folder: string,
  family: keyof typeof FAMILIES = "gpt_neox",
  options: WritePretrainedOptions & { readonly keys?: Readonly<Record<string, unknown>> } = {},
): Promise<void> {
  const { config, tokenizer } = FAMILIES[family];
  const { keys = {}, ...rest } = options;
  await writePretrained(folder, { ...config, ...keys }, rest);
  await Deno.writeTextFile(join(folder, "tokenizer.json"), JSON.stringify(tokenizer()));
}

/** The output of `pretrained` for a model in a folder. */
export async function pretrainedNode(folder: string, dir: string): Promise<NodeOutput> {
  const { output } = await runStage(pretrained, { params: { name: folder }, dir });
  return output;
}
