import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { architectureOf, modelSchema } from "./config.ts";
import { denseEquivalent, equalSize } from "./equal_size.ts";
import { changedModel } from "./testing.ts";
import { countFlops, countParameters } from "./trunk/counts.ts";

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

Deno.test("equalSize() chooses a width for equal parameters or equal operations", () => {
  const aware = changedModel({}, { d_model: 1024, num_layers: 16, ffn: { d_context: 64 } }).config;
  const config = { ...aware, vocab_size: paper.vocab_size };
  for (const quantity of ["active_parameters", "flops"] as const) {
    const options = { quantity, key: "d_hidden", sequence_length: 4096, tolerance: 1e-3 };
    const sized = equalSize(config, paper, options);
    const cost = (config: typeof paper) =>
      quantity === "flops"
        ? countFlops(architectureOf(config), { sequenceLength: 4096 }).total
        : countParameters(architectureOf(config)).active;
    assertAlmostEquals(cost(sized) / cost(paper), 1, 1e-3);
    assert((sized.ffn as { d_hidden: number }).d_hidden < 512);
    assertThrows(
      () => equalSize(config, paper, { ...options, key: "d_ffn" }),
      RangeError,
      "can't be sized by d_ffn",
    );
  }
});
