import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { type ModelConfig, modelSchema } from "../config.ts";
import { countFlops, countParameters, denseEquivalent } from "./counts.ts";
import { parameterSpecs, size } from "./parameters.ts";

const paper: ModelConfig = { ...modelSchema.parse({}), vocab_size: 100277 };

Deno.test("countParameters() gives the specification's figures", () => {
  const { stored, active, byRole } = countParameters(paper);
  assertEquals(stored, 743_979_008);
  assertEquals(active, 274_446_336);
  assertEquals(byRole.attention, 16 * (4_259_840 + 768 + 256));
  assertEquals(byRole.latent, 14 * 512 ** 2 * 128);
});

Deno.test("countParameters() counts theoretical experts as u and v", () => {
  const { theoretical, stored, byRole } = countParameters(paper);
  const experts = 14 * 512 ** 2 * 2 * 1024;
  assertEquals(theoretical, experts + stored - byRole.latent - byRole.generator);
  const dense = countParameters({ ...paper, kind: "dense" });
  assertEquals(dense.theoretical, dense.stored);
  assertEquals(dense.active, dense.stored);
});

Deno.test("countFlops() gives the specification's figures", () => {
  const { total, generation } = countFlops(paper, { sequenceLength: 4096 });
  assertAlmostEquals(total / 1e9, 1.037, 5e-4);
  assertAlmostEquals(generation / 1e9, 0.235, 5e-4);
});

Deno.test("countFlops() breaks even between generation orders at N / (H·k) tokens", () => {
  const generation = (tokensPerStep: number) =>
    countFlops(paper, { sequenceLength: 1, generation: "materialized", tokensPerStep }).generation;
  assertEquals(generation(2048), countFlops(paper, { sequenceLength: 1 }).generation);
  assertEquals(generation(4096), generation(2048) / 2);
  const naive = countFlops(paper, { sequenceLength: 1, generation: "naive" });
  assertEquals(naive.experts, 14 * 128 * (4 * 512 * 1024 + 4 * 1024));
  assertThrows(
    () => countFlops(paper, { sequenceLength: 1, generation: "materialized" }),
    RangeError,
    "needs the tokens of a step",
  );
});

Deno.test("countFlops() of matrices is twice the parameters that a token multiplies", () => {
  const dense: ModelConfig = { ...paper, kind: "dense" };
  const { total, attentionContext } = countFlops(dense, { sequenceLength: 77 });
  const matrices = parameterSpecs(dense).filter(({ shape }) => shape.length === 2);
  assertEquals(total - attentionContext, 2 * matrices.reduce((sum, spec) => sum + size(spec), 0));
});

Deno.test("denseEquivalent() matches active parameters", () => {
  const dense = denseEquivalent(paper);
  assertEquals(dense.kind, "dense");
  assertEquals(dense.d_ffn, 2112);
  const { active } = countParameters(paper);
  assertAlmostEquals(countParameters(dense).active / active, 1, 1e-3);
});

Deno.test("denseEquivalent() takes a finer width where it must, and says when none will do", () => {
  const small: ModelConfig = {
    ...modelSchema.parse({
      d_model: 64,
      num_layers: 4,
      num_dense_layers: 1,
      d_ffn: 128,
      num_heads: 2,
      q_lora_rank: 32,
      kv_lora_rank: 16,
      d_nope: 16,
      d_rope: 16,
      d_v: 16,
      num_experts: 1024,
      routing_heads: 2,
      top_k: 4,
      d_query: 32,
      d_latent: 16,
      d_hidden: 32,
    }),
    vocab_size: 2000,
  };
  const dense = denseEquivalent(small);
  const ratio = countParameters(dense).active / countParameters(small).active;
  assertAlmostEquals(ratio, 1, 0.01);
  assertThrows(() => denseEquivalent(small, { tolerance: 1e-9 }), RangeError, "d_ffn");
});
