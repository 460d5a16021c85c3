/**
 * From the `config.json` of a published model to the project's configuration.
 *
 * @module
 */

import { PretrainedError } from "./error.ts";
import type { Family, PretrainedConfig } from "./family.ts";
import { gptNeox } from "./gpt_neox.ts";
import { CONFIG_FILE, type HubConfig, shown } from "./json.ts";
import { llama } from "./llama.ts";

const FAMILIES: Readonly<Record<string, Family>> = { gpt_neox: gptNeox, llama };

/**
 * Reads the parsed `config.json` of a published model.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readPretrainedConfig } from "./config.ts";
 * const { model } = readPretrainedConfig({
 *   model_type: "llama",
 *   vocab_size: 512,
 *   hidden_size: 64,
 *   intermediate_size: 172,
 *   num_hidden_layers: 5,
 *   num_attention_heads: 8,
 *   num_key_value_heads: 4,
 * });
 * assertEquals(model.attention.kind, "mha");
 * ```
 *
 * @throws {PretrainedError} Naming a key that is missing, wrong or not supported.
 */
export function readPretrainedConfig(config: unknown): PretrainedConfig {
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    throw new PretrainedError(`${CONFIG_FILE} is ${shown(config)}; expected an object`);
  }
  const { model_type } = config as HubConfig;
  const family = typeof model_type === "string" && Object.hasOwn(FAMILIES, model_type)
    ? FAMILIES[model_type]
    : undefined;
  if (family) return family.read(config as HubConfig);
  throw new PretrainedError(
    `${CONFIG_FILE}: model_type is ${shown(model_type)}; expected ${
      Object.keys(FAMILIES).join(" or ")
    }`,
  );
}
