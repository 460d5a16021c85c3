/** Whatever a published checkpoint's JSON holds, it is read or refused in one line. */

import { assert } from "@std/assert";
import fc from "fast-check";
import { loadArchitecture } from "../load.ts";
import { JsonTokenizer } from "../text/tokenizer_json.ts";
import { byteTokenizer, markTokenizer } from "../text/tokenizer_json_testing.ts";
import { readPretrainedConfig } from "./config.ts";
import { PretrainedError } from "./error.ts";
import { parseIndex } from "./files.ts";
import { SMALL_LLAMA, SMALL_NEOX } from "./pretrained_testing.ts";

const LLAMA3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 96,
};

const KEYS = [
  ...new Set([...Object.keys(SMALL_LLAMA), ...Object.keys(SMALL_NEOX)]),
  "rope_parameters",
  "partial_rotary_factor",
  "attention_bias",
  "mlp_bias",
  "sliding_window",
  "__proto__",
  "constructor",
];

/** Values that are nearly right, and any others. */
const value = fc.oneof(
  fc.constantFrom(
    0,
    1,
    2,
    4,
    8,
    24,
    96,
    1e9,
    2 ** 31,
    -1,
    0.25,
    1.5,
    true,
    "gelu",
    "silu",
    "llama",
  ),
  fc.constantFrom(null, LLAMA3, { type: "linear", factor: 2 }, { rope_theta: 5 }, {}),
  fc.jsonValue({ maxDepth: 2 }),
);

const changes = fc.dictionary(fc.constantFrom(...KEYS), value, { maxKeys: 4 });

Deno.test("Any config.json is a model that can be, or is refused in one line", async () => {
  let read = 0;
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(SMALL_LLAMA, SMALL_NEOX), changes, async (base, change) => {
      const json = JSON.parse(JSON.stringify({ ...base, ...change }));
      try {
        const { model, tensors } = readPretrainedConfig(json);
        await loadArchitecture(model);
        assert(tensors.length > 0);
        read++;
      } catch (error) {
        assert(error instanceof PretrainedError, `${error}: ${JSON.stringify(json)}`);
        assert(!error.message.includes("\n"), error.message);
      }
    }),
    { numRuns: 600, seed: 11 },
  );
  assert(read > 20, `${read}`);
});

Deno.test("Any index is one of plain names, or is refused in one line", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.jsonValue(), fc.record({ weight_map: fc.dictionary(fc.string(), fc.string()) })),
      (json) => {
        try {
          for (const file of parseIndex(json, "index").files) assert(!/[/\\]/.test(file), file);
        } catch (error) {
          assert(error instanceof PretrainedError, `${error}`);
          assert(!error.message.includes("\n"), error.message);
        }
      },
    ),
    { numRuns: 500, seed: 12 },
  );
});

Deno.test("Any tokenizer.json gives text back, or is refused", () => {
  const keys = fc.constantFrom("normalizer", "pre_tokenizer", "post_processor", "decoder", "model");
  fc.assert(
    fc.property(
      fc.constantFrom(byteTokenizer(), markTokenizer()),
      fc.dictionary(keys, fc.jsonValue({ maxDepth: 2 }), { maxKeys: 2 }),
      fc.string({ unit: "grapheme" }),
      (base, change, text) => {
        try {
          const tokenizer = new JsonTokenizer({ json: { ...base, ...change }, ends: [2] });
          const back = tokenizer.decode(tokenizer.encode(text));
          if (Object.keys(change).length === 0) {
            assert(back === text.normalize("NFC") || back === text);
          }
        } catch (error) {
          assert(error instanceof Error && !(error.name === "AssertionError"), `${error}`);
        }
      },
    ),
    { numRuns: 300, seed: 13 },
  );
});
