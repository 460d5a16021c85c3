import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { size } from "../layer/parameter.ts";
import { changedModel } from "../testing.ts";
import { countFlops, countParameters } from "./counts.ts";
import { parameterSpecs } from "./parameters.ts";

const sections = { vocab_size: 100277, attention: { kind: "mla" }, ffn: { kind: "ethos" } };
const paper = changedModel(sections, {});
/** The paper's trunk with dense layers alone. */
const allDense = changedModel(sections, { ffn: { kind: "dense" } });

Deno.test("countParameters() gives the specification's figures", () => {
  const { stored, active, byRole } = countParameters(paper);
  assertEquals(stored, 743_979_008);
  assertEquals(active, 274_446_336);
  assertEquals(byRole["attention"], 16 * (4_259_840 + 768 + 256));
  assertEquals(byRole["latent"]!, 14 * 512 ** 2 * 128);
});

Deno.test("countParameters() counts theoretical experts as u and v", () => {
  const { theoretical, stored, byRole } = countParameters(paper);
  const experts = 14 * 512 ** 2 * 2 * 1024;
  assertEquals(theoretical, experts + stored - byRole["latent"]! - byRole["generator"]!);
  const dense = countParameters(allDense);
  assertEquals(dense.theoretical, dense.stored);
  assertEquals(dense.active, dense.stored);
});

Deno.test("countParameters() and countFlops() of experts behind beams", () => {
  const beams = changedModel(sections, { ffn: { kind: "ethos", router: "beam" } });
  const { stored, active, theoretical, byRole } = countParameters(beams);
  const router = 14 * (4 * 6 * 32 * 1024 + 4 * 6);
  const table = 14 * 6 * 512 * 128;
  assertEquals([byRole["router"], byRole["latent"]], [router, table]);
  // A token keeps 32 experts, which are at most as many ids on each axis.
  assertEquals(stored - active, table - 14 * 6 * 32 * 128);
  const generator = byRole["generator"]!;
  assertEquals(theoretical, stored - table - generator + 14 * 512 ** 6 * 2 * 1024);
  const few = changedModel(sections, {
    ffn: { kind: "ethos", router: "beam", axis_size: 16 },
  });
  const counts = countParameters(few);
  assertEquals(counts.stored, counts.active);
  for (const generation of ["per_expert", "materialized"] as const) {
    const flops = countFlops(beams, { sequenceLength: 1, generation });
    assertEquals(flops["router"], 14 * 2 * 4 * 6 * 32 * (1024 + 512));
    assertEquals(flops["generation"], 14 * 32 * 2 * 128 * 512);
  }
});

Deno.test("countFlops() gives the specification's figures", () => {
  const { total, generation } = countFlops(paper, { sequenceLength: 4096 });
  assertAlmostEquals(total / 1e9, 1.037, 5e-4);
  assertAlmostEquals(generation! / 1e9, 0.235, 5e-4);
});

Deno.test("countFlops() breaks even between generation orders at N / (H·k) tokens", () => {
  const generation = (tokensPerStep: number) =>
    countFlops(paper, { sequenceLength: 1, generation: "materialized", tokensPerStep }).generation!;
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
  const { total, attentionContext } = countFlops(allDense, { sequenceLength: 77 });
  const matrices = parameterSpecs(allDense).filter(({ shape }) => shape.length === 2);
  assertEquals(total - attentionContext!, 2 * matrices.reduce((sum, spec) => sum + size(spec), 0));
});

Deno.test("counts of multi-head attention are the sparse transformer's, and those of shared heads less", () => {
  const changes = {
    vocab_size: 50257,
    d_model: 512,
    num_layers: 6,
    leading_dense: { num_layers: 0 },
    ffn: { kind: "dense", d_ffn: 1024 },
  };
  const of = (attention: Record<string, unknown>) =>
    changedModel({ ...changes, attention: { kind: "mha", num_heads: 8, ...attention } }, {});
  const attention = (model: ReturnType<typeof of>) => countParameters(model).byRole["attention"]!;
  assertEquals(attention(of({})), 6 * 1_050_624);
  assertEquals(attention(of({ bias: false })), 6 * 4 * 512 ** 2);
  // Keys and values of two heads instead of eight.
  assertEquals(attention(of({ num_kv_heads: 2, bias: false })), 6 * (2 + 2 / 4) * 512 ** 2);
  const flops = countFlops(of({}), { sequenceLength: 128 });
  assertEquals(flops["attentionProjections"], 6 * 8 * 512 ** 2);
  assertEquals(flops["attentionContext"], 6 * 2 * 512 * 129);
});
