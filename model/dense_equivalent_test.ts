import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { architectureOf, modelSchema } from "./config.ts";
import { denseEquivalent } from "./dense_equivalent.ts";
import { changedModel } from "./testing.ts";
import { countParameters } from "./trunk/counts.ts";

const paper = { ...modelSchema.parse({}), vocab_size: 100277 };

Deno.test("denseEquivalent() matches active parameters", () => {
  const dense = denseEquivalent(paper);
  assertEquals(dense.ffn, { kind: "dense", d_ffn: 2112 });
  const { active } = countParameters(architectureOf(paper));
  assertAlmostEquals(countParameters(architectureOf(dense)).active / active, 1, 1e-3);
});

Deno.test("denseEquivalent() takes a finer width where it must, and says when none will do", () => {
  const small = changedModel({
    d_model: 64,
    num_layers: 4,
    vocab_size: 2000,
    leading_dense: { num_layers: 1, d_ffn: 128 },
    attention: {
      kind: "mla",
      num_heads: 2,
      q_lora_rank: 32,
      kv_lora_rank: 16,
      d_nope: 16,
      d_rope: 16,
      d_v: 16,
    },
    ffn: {
      kind: "ethos",
      num_experts: 1024,
      routing_heads: 2,
      top_k: 4,
      d_query: 32,
      d_latent: 16,
      d_hidden: 32,
    },
  }, {});
  const dense = architectureOf(denseEquivalent(small.config));
  const ratio = countParameters(dense).active / countParameters(small).active;
  assertAlmostEquals(ratio, 1, 0.01);
  assertThrows(() => denseEquivalent(small.config, { tolerance: 1e-9 }), RangeError, "d_ffn");
});
