import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { fromFileUrl } from "@std/path";
import {
  type Comparison,
  type GoldenCase,
  type GoldenImplementation,
  type GoldenResults,
  tolerances,
} from "./golden.ts";
import { compareGolden } from "./compare.ts";
import { parseGolden } from "./file.ts";
import { referenceGiven, referenceImplementation } from "./reference.ts";
import { route } from "../reference/ffn/product_key.ts";
import { under } from "../reference/layer.ts";
import { matrix, row } from "../reference/matrix.ts";
import { encodeSafetensors, parseSafetensors, type Tensor } from "../checkpoint/safetensors.ts";

const folder = fromFileUrl(new URL("./testdata/", import.meta.url));
const files = [
  "beam_router",
  "ethos_layer",
  "ethos_layer_context",
  "ethos_layer_wide",
  "gpt_attention",
  "mla",
  "optimizer",
  "pca_kmeans",
  "peer",
  "router",
  "sparse_expansion_layer",
  "sparse_moe_layer",
  "sparsegpt",
  "switch",
  "tiny_beam",
  "tiny_context",
  "tiny_llama",
  "tiny_llama_tied",
  "tiny_model",
  "tiny_neox",
  "tiny_neox_sequential",
  "tiny_peer",
  "tiny_sparse_expansion",
  "tiny_sparse_moe",
  "tiny_sparse_moe_balanced",
  "tiny_switch",
  "tiny_topk_moe",
  "topk_moe",
];

function read(name: string): Uint8Array {
  return Deno.readFileSync(`${folder}${name}.safetensors`);
}

function golden(name: string): GoldenCase {
  return parseGolden(read(name), name);
}

/** An implementation that returns what it is told to, whatever the case. */
function fake(
  results: ReadonlyMap<string, ArrayLike<number>>,
  more: Partial<GoldenImplementation> = {},
): GoldenImplementation {
  const answer = () => results;
  return {
    name: "fake",
    tolerance: tolerances.float64,
    mla: answer,
    gptAttention: answer,
    beamRouter: answer,
    router: answer,
    layer: answer,
    mixture: answer,
    model: answer,
    optimizer: answer,
    pretrained: answer,
    sparse: answer,
    expanded: answer,
    ...more,
  };
}

/** A file changed: its tensors, its configuration. */
function edit(
  name: string,
  change: {
    tensors?: (tensors: Map<string, Tensor>) => void;
    config?: (config: Record<string, unknown>) => unknown;
  },
): Uint8Array {
  const { tensors, metadata } = parseSafetensors(read(name));
  change.tensors?.(tensors);
  const config = JSON.parse(metadata["config"]!);
  const changed = change.config ? change.config(config) : config;
  return encodeSafetensors(
    Array.from(tensors, ([name, tensor]) => ({ name, ...tensor })),
    { metadata: changed === undefined ? {} : { config: JSON.stringify(changed) } },
  );
}

for (const name of files) {
  Deno.test(`the float64 reference agrees with ${name}`, async () => {
    const rows = await compareGolden(referenceImplementation, golden(name));
    assertEquals(rows.filter(({ ok }) => !ok), []);
    assert(rows.length >= (golden(name).kind === "pretrained" ? 4 : 9));
  });
}

Deno.test("the folder holds these files and no other", () => {
  const found = Array.from(Deno.readDirSync(folder), ({ name }) => name)
    .filter((name) => name !== "README.md").sort();
  assertEquals(found, files.map((name) => `${name}.safetensors`));
});

Deno.test("compareGolden() notices one wrong number in any tensor of any file", async () => {
  for (const name of files) {
    const which = golden(name);
    const right = new Map(Array.from(which.expected, ([key, { data }]) => [key, data]));
    assert((await compareGolden(fake(right), which)).every(({ ok }) => ok));
    for (const [key, data] of right) {
      for (const wrong of [NaN, data[0]! + 1 + Math.abs(data[0]!)]) {
        const rows = await compareGolden(fake(new Map(right).set(key, data.with(0, wrong))), which);
        const missed = new Set(rows.filter(({ ok }) => !ok).map(({ tensor }) => tensor));
        assertEquals([...missed], [key], `${name} ${key}`);
      }
    }
  }
});

Deno.test("compareGolden() holds each tensor to its own tolerance", async () => {
  const which = golden("tiny_model");
  const rows = await compareGolden(
    fake(new Map(), { tolerance: tolerances.gpu }),
    which,
  );
  const of = (tensor: string) =>
    rows.filter((row) => row.tensor === tensor).map(({ measure, tolerance }) => [
      measure,
      tolerance,
    ]);
  assertEquals(of("out.logits"), [["relative", 1e-4]]);
  assertEquals(of("grad.embed.weight"), [["relative", 5e-4]]);
  assertEquals(of("after.embed.weight"), [["absolute", 3e-4], ["mean absolute", 1e-5]]);
  assertEquals(of("grad.layers.1.ffn.router.b_q"), [["absolute", 1e-3]]);
  assertEquals(of("after.layers.1.ffn.router.b_q"), [["absolute", 3e-3]]);
  assertEquals(of("after.layers.1.ffn.router.bn.mean"), [["absolute", 1e-3]]);
  assertEquals(of("after.layers.1.ffn.router.bn.var"), [["relative", 1e-4]]);
  assertEquals(of("out.grad_norms"), [["relative", 1e-4]]);
  const router = await compareGolden(fake(new Map()), golden("router"));
  assertEquals(router.find(({ tensor }) => tensor === "out.index")?.measure, "equal");
  // In the optimiser's file a bias of that name has a gradient as any other.
  const optimizer = await compareGolden(fake(new Map()), golden("optimizer"));
  const bias = optimizer.find(({ tensor }) => tensor === "after.router.b_q");
  assertEquals(bias?.tolerance, 1e-6);
});

Deno.test("compareGolden() tells what is not computed, of another size, and omitted", async () => {
  const which = golden("mla");
  const rows = await compareGolden(
    fake(new Map([["out.y", [1, 2]]]), {
      omits: (_, tensor) => tensor === "grad.x" ? "no gradient of the input" : undefined,
    }),
    which,
  );
  const of = (tensor: string) => rows.find((row) => row.tensor === tensor)!;
  assertEquals([of("grad.w_o").ok, of("grad.w_o").note], [false, "not computed"]);
  assertEquals([of("out.y").ok, of("out.y").note], [false, "2 numbers instead of 6816"]);
  assertEquals([of("grad.x").ok, of("grad.x").omitted], [true, true]);
});

Deno.test("compareGolden() takes another choice of experts for what it is where halves decide", async () => {
  const which = golden("peer");
  assert(which.kind === "layer");
  const { layer } = referenceImplementation;
  const kept = Int32Array.from((await layer(which)).get("out.kept")!);
  const compare = async (results: GoldenResults | Promise<GoldenResults>) =>
    await compareGolden(fake(await results, { tolerance: tolerances.mixed }), which);
  const given = (kept: Int32Array) => referenceGiven(new Map([["out.kept", kept]])).layer(which);
  const of = (rows: Comparison[], measure: string) => rows.find((row) => row.measure === measure)!;
  // The last kept expert of the token's head becomes one that is as good but for a near tie, by the sums of all 81 pairs.
  const { s1, s2 } = route(
    which.ffn,
    under(
      Array.from(which.inputs, ([name, { data }]) => [name, data] as const),
      "router.",
    ),
    {
      x: matrix(which.tokens, which.architecture.config.d_model, which.inputs.get("x")!.data),
      training: true,
    },
  );
  const { top_k } = which.ffn;
  const margins = Array.from({ length: s1.rows }, (_, head) => {
    const sums = Array.from(row(s1, head)).flatMap((a) => Array.from(row(s2, head), (b) => a + b));
    const order = sums.keys().toArray().sort((a, b) => sums[b]! - sums[a]!);
    return { head, next: order[top_k]!, margin: sums[order[top_k - 1]!]! - sums[order[top_k]!]! };
  }).sort((a, b) => a.margin - b.margin);
  const { head, next, margin } = margins[0]!;
  const other = kept.with(head * top_k + top_k - 1, next);
  const rows = await compare(given(other));
  assertEquals(rows.filter(({ ok }) => !ok), []);
  assertEquals([of(rows, "tokens").tensor, of(rows, "tokens").error], ["out.index", 1]);
  assertAlmostEquals(of(rows, "lag").error, margin, 1e-9);
  assertEquals(rows.find(({ tensor }) => tensor === "grad.u")?.error, 0);
  // Numbers of the file's choice do not belong to that one.
  const wrong = await compare(new Map([...await layer(which), ["out.kept", other]]));
  assert(wrong.some(({ ok }) => !ok));
  // No rounding explains the choice of the head with the widest margin.
  const far = margins.at(-1)!;
  const misses = (await compare(given(kept.with(far.head * top_k + top_k - 1, far.next))))
    .filter(({ ok }) => !ok);
  assertEquals(misses.map(({ measure }) => measure), ["lag"]);
  // Numbers that are no experts are no choice.
  for (const none of [81, -1, NaN]) {
    const results = new Map<string, ArrayLike<number>>([
      ...await layer(which),
      ["out.kept", Array.from(kept).with(0, none)],
    ]);
    assertEquals(of(await compare(results), "tokens").ok, false);
  }
});

Deno.test("compareGolden() holds halves to what rounding does, tensor by tensor", async () => {
  const which = golden("tiny_peer");
  assert(which.kind === "model");
  const right = await referenceImplementation.model(which);
  const compare = (results: GoldenResults) =>
    compareGolden(fake(results, { tolerance: tolerances.mixed }), which);
  const rows = await compare(right);
  assertEquals(rows.filter(({ ok }) => !ok), []);
  assertEquals(rows.filter(({ tensor }) => tensor === "kept.layers.1").length, 2);
  const tolerance = (name: string) => rows.findLast(({ tensor }) => tensor === name)!.tolerance;
  const roundoff = 2 ** -11;
  // A few roundings each: an order of magnitude about the unit roundoff, deep gradients more.
  for (
    const [name, least, most] of [["out.logits", 2, 40], ["grad.embed.weight", 2, 80]] as const
  ) {
    assert(tolerance(name) > least * roundoff && tolerance(name) < most * roundoff, name);
  }
  for (const name of ["out.logits", ...which.expected.keys().filter((n) => /^grad\./.test(n))]) {
    const data = Float64Array.from(right.get(name)!);
    const largest = Math.max(...data.map(Math.abs));
    const off = 1.01 * (tolerance(name) * (largest > 1e-6 ? largest : 1));
    const missed = await compare(new Map(right).set(name, data.with(0, data[0]! + off)));
    assertEquals(missed.filter(({ ok }) => !ok).map(({ tensor }) => tensor), [name]);
    if (name.includes("router")) break;
  }
});

Deno.test("parseGolden() takes sizes from the file, whatever its name", () => {
  const which = parseGolden(read("tiny_context"), "anything at all");
  assert(which.kind === "model");
  const { ffn } = which.architecture.config;
  assert(ffn.kind === "ethos" && ffn.router === "product_key");
  assertEquals([ffn.num_experts, ffn.d_context, ffn.load_balance_coef], [64, 4, 0.05]);
  assertEquals([which.batch, which.length, which.steps], [2, 13, 3]);
});

const malformed: [string, Uint8Array, string][] = [
  ["a missing config", edit("mla", { config: () => undefined }), "metadata has no config"],
  ["an unknown kind", edit("router", { config: (c) => ({ ...c, kind: "soup" }) }), 'kind "soup"'],
  ["no kind", edit("router", { config: (c) => ({ ...c, kind: undefined }) }), "cannot tell"],
  ["a size that is no number", edit("mla", { config: (c) => ({ ...c, B: "2" }) }), "config B:"],
  ["a negative size", edit("mla", { config: (c) => ({ ...c, heads: -1 }) }), "config heads:"],
  ["a missing size", edit("mla", { config: (c) => ({ ...c, L: undefined }) }), "config has no L"],
  ["another epsilon", edit("mla", { config: (c) => ({ ...c, rms_eps: 1e-5 }) }), "config rms_eps:"],
  [
    "sizes that contradict the tensors",
    edit("mla", { config: (c) => ({ ...c, L: 70 }) }),
    "x has the shape [2, 71, 48], expected [2, 70, 48]",
  ],
  [
    "more kept experts than sub-keys",
    edit("router", { config: (c) => ({ ...c, top_k: 12 }) }),
    "top_k 12 is more than the 11 sub_keys",
  ],
  [
    "a mixture of no number of experts",
    edit("switch", { config: (c) => ({ ...c, experts: undefined }) }),
    "config has no experts",
  ],
  [
    "more kept experts than its weights have",
    edit("sparse_moe_layer", { config: (c) => ({ ...c, dynamic_top_k: 5 }) }),
    "dynamic.out.index has the shape [37, 4], expected [37, 5]",
  ],
  [
    "no layer with experts",
    edit("tiny_model", {
      config: (c) => ({ ...c, dense_layers: 3 }),
    }),
    "dense_layers 3 leaves none of 3 layers",
  ],
  [
    "a missing weight",
    edit("ethos_layer", { tensors: (t) => t.delete("router.k1") }),
    "router.k1 is missing",
  ],
  [
    "a missing result",
    edit("tiny_model", { tensors: (t) => t.delete("after.layers.2.ffn.z") }),
    "after.layers.2.ffn.z is missing",
  ],
  [
    "an optimiser without parameters",
    edit("optimizer", {
      tensors: (t) => {
        for (const name of t.keys()) if (name.startsWith("param.")) t.delete(name);
      },
    }),
    "no param.* tensors",
  ],
  [
    "a decayed name that is not there",
    edit("optimizer", { config: (c) => ({ ...c, decayed: ["nothing"] }) }),
    "decayed names nothing",
  ],
  [
    "a published model of a key that is not known",
    edit("tiny_llama", {
      config: (c) => ({ ...c, model: { ...Object(c["model"]), sliding_window: 8 } }),
    }),
    "the metadata's config model: config.json: sliding_window is 8",
  ],
  [
    "a published model without a weight",
    edit("tiny_neox", { tensors: (t) => t.delete("param.embed_out.weight") }),
    "param.embed_out.weight is missing",
  ],
  [
    "a pruning without inputs",
    edit("sparsegpt", { config: (c) => ({ ...c, cases: { half: { out: 13, n: 91 } } }) }),
    "config cases.half.in: ",
  ],
  [
    "a pruning of bits that there are not",
    edit("sparsegpt", {
      config: (c) => ({ ...c, cases: { quant: { in: 35, out: 9, n: 71, bits: 9 } } }),
    }),
    "config cases.quant.bits: ",
  ],
  [
    "levels that are missing",
    edit("sparsegpt", { tensors: (t) => t.delete("quant.out.level") }),
    "quant.out.level is missing",
  ],
  [
    "more restarts of k-means than uniforms",
    edit("pca_kmeans", { config: (c) => ({ ...c, restarts: 4 }) }),
    "uniforms has the shape [3, 5], expected [4, 5]",
  ],
  [
    "an expanded layer without a seed",
    edit("sparse_expansion_layer", { config: (c) => ({ ...c, seed: undefined }) }),
    "config seed: ",
  ],
  [
    "an expanded model without a seed",
    edit("tiny_sparse_expansion", { config: (c) => ({ ...c, seed: undefined }) }),
    "config seed: ",
  ],
  [
    "an expanded model of a configuration that is not known",
    edit("tiny_sparse_expansion", {
      config: (c) => ({ ...c, config: { ...Object(c["config"]), hidden_act: "relu" } }),
    }),
    "the metadata's config config: config.json: hidden_act",
  ],
  [
    "an expanded model of more calibration than its labels are of",
    edit("tiny_sparse_expansion", { config: (c) => ({ ...c, count: 13 }) }),
    "calibration has the shape [12, 16], expected [13, 16]",
  ],
  [
    "queries whose heads are as wide as only the computed ones are",
    edit("tiny_sparse_expansion", {
      tensors: (t) => {
        const name = "param.model.layers.0.self_attn.q_proj.weight";
        t.set(name, { dtype: "F32", shape: [32, 24], data: new Float32Array(32 * 24) });
      },
    }),
    "q_proj.weight has the shape [32, 24], expected [24, 24]",
  ],
  [
    "an expanded model without the experts of a layer",
    edit("tiny_sparse_expansion", {
      tensors: (t) => t.delete("out.experts.model.layers.1.mlp.down_proj"),
    }),
    "out.experts.model.layers.1.mlp.down_proj is missing",
  ],
  ["no safetensors", new TextEncoder().encode("hello, world"), "not a valid safetensors file"],
];

for (const [what, bytes, expected] of malformed) {
  Deno.test(`parseGolden() refuses ${what}`, () => {
    assertThrows(() => parseGolden(bytes, "bad.safetensors"), SyntaxError, expected);
    assertThrows(() => parseGolden(bytes, "bad.safetensors"), SyntaxError, "bad.safetensors");
  });
}
