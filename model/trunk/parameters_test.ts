import { assert, assertEquals } from "@std/assert";
import { changedModel, type ModelChanges } from "../testing.ts";
import type { Architecture } from "./architecture.ts";
import { parameterSpecs, statisticSpecs } from "./parameters.ts";

/** The paper's model with changes. */
const model = (changes: ModelChanges = {}) =>
  changedModel(
    { vocab_size: 100277, attention: { kind: "mla" }, ffn: { kind: "ethos" } },
    changes,
  );
const paper = model();

function find(architecture: Architecture, name: string) {
  return parameterSpecs(architecture).find((spec) => spec.name === name);
}

Deno.test("parameterSpecs() has the specification's names, once each", () => {
  const names = parameterSpecs(paper).map(({ name }) => name);
  assertEquals(new Set(names).size, names.length);
  assertEquals(names.filter((name) => name.startsWith("layers.15.")), [
    "layers.15.attn_norm.weight",
    "layers.15.attn.w_dq",
    "layers.15.attn.q_norm.weight",
    "layers.15.attn.w_uq",
    "layers.15.attn.w_dkv",
    "layers.15.attn.kv_norm.weight",
    "layers.15.attn.w_ukv",
    "layers.15.attn.w_o",
    "layers.15.ffn_norm.weight",
    "layers.15.ffn.router.w_q",
    "layers.15.ffn.router.b_q",
    "layers.15.ffn.router.bn.gamma",
    "layers.15.ffn.router.bn.beta",
    "layers.15.ffn.router.k1",
    "layers.15.ffn.router.k2",
    "layers.15.ffn.z",
    "layers.15.ffn.w1",
    "layers.15.ffn.w_u",
    "layers.15.ffn.w_v",
  ]);
  assertEquals(names.filter((name) => name.startsWith("layers.1.ffn.")), [
    "layers.1.ffn.w_gate",
    "layers.1.ffn.w_up",
    "layers.1.ffn.w_down",
  ]);
});

Deno.test("parameterSpecs() starts weights as the specification says", () => {
  const std = (name: string) => {
    const init = find(paper, name)?.init;
    return init?.kind === "normal" ? init.std : init?.kind;
  };
  assertEquals(std("embed.weight"), 0.02);
  assertEquals(std("layers.3.attn.w_dq"), 0.02);
  assertEquals(std("layers.3.attn.w_o"), 0.02 / Math.sqrt(32));
  assertEquals(std("layers.0.ffn.w_down"), 0.02 / Math.sqrt(32));
  assertEquals(std("layers.3.ffn.w_v"), 0.02 / Math.sqrt(32));
  assertEquals(std("layers.3.ffn.z"), 1);
  assertEquals(std("layers.3.ffn.w1"), 1 / Math.sqrt(128));
  assertEquals(std("layers.3.ffn.router.k1"), 1 / 16);
  assertEquals(std("layers.3.ffn.router.b_q"), "zeros");
  assertEquals(std("layers.3.ffn.router.bn.gamma"), "ones");
  assertEquals(std("final_norm.weight"), "ones");
});

Deno.test("parameterSpecs() decays matrices and nothing else", () => {
  for (const { name, shape, decay } of parameterSpecs(model({ ffn: { d_context: 32 } }))) {
    assertEquals(decay, shape.length === 2, name);
  }
});

Deno.test("parameterSpecs() of experts behind beams are the specification's", () => {
  const beams = model({ ffn: { kind: "ethos", router: "beam" } });
  const specs = parameterSpecs(beams).filter(({ name }) => name.startsWith("layers.5.ffn."));
  const facts = specs.map(({ name, shape, decay, held, init }) => [
    name.slice("layers.5.ffn.".length),
    shape,
    init.kind === "normal" ? init.std : init.kind,
    decay && !held,
  ]);
  assertEquals(facts, [
    ["router.query_w", [4, 6, 32, 1024], 1 / 32, true],
    ["router.logit_scale", [4, 6], "zeros", false],
    ["z", [6, 512, 128], 1 / Math.sqrt(6), true],
    ["w1", [128, 512], 1 / Math.sqrt(128), true],
    ["w_u", [1024, 512], 0.02, true],
    ["w_v", [512, 1024], 0.02 / Math.sqrt(32), true],
  ]);
  assertEquals(statisticSpecs(beams), []);
});

Deno.test("parameterSpecs() follows router_batch_norm and d_context", () => {
  assert(find(paper, "layers.2.ffn.router.b_q")?.held);
  const plain = model({ ffn: { router_batch_norm: false, d_context: 32 } });
  assertEquals(find(plain, "layers.2.ffn.router.b_q")?.held, false);
  assertEquals(find(plain, "layers.2.ffn.router.bn.gamma"), undefined);
  assertEquals(find(plain, "layers.2.ffn.w_c")?.shape, [1024, 32]);
  assertEquals(find(plain, "layers.2.ffn.w1")?.shape, [160, 512]);
  assertEquals(find(paper, "layers.2.ffn.w_c"), undefined);
  assertEquals(statisticSpecs(plain), []);
  const statistics = statisticSpecs(paper);
  assertEquals(statistics.length, 28);
  assertEquals(statistics[1], {
    name: "layers.2.ffn.router.bn.var",
    shape: [4096],
    init: { kind: "ones" },
  });
});

Deno.test("parameterSpecs() follows the options of the trunk", () => {
  const changed = model({
    trunk: { norm: "layer", positions: "learned", max_positions: 300, head: "own" },
  });
  assertEquals(find(changed, "layers.2.ffn_norm.bias")?.shape, [1024]);
  assertEquals(find(changed, "final_norm.bias")?.init, { kind: "zeros" });
  assertEquals(find(changed, "position.weight")?.shape, [300, 1024]);
  assertEquals(find(changed, "head.weight")?.shape, [100277, 1024]);
  for (const name of ["final_norm.bias", "position.weight", "head.weight"]) {
    assertEquals(find(paper, name), undefined);
  }
  // A latent's norm is the attention's own.
  assertEquals(find(changed, "layers.2.attn.q_norm.bias"), undefined);
});
