/** Mixtures of stored experts as kinds: sizes and first weights, refused values, and that a token costs its own experts and no other. */

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { z } from "zod";
import { modelSchema } from "../../config.ts";
import { buildPlans } from "../../gpu/build.ts";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { download, downloadParts, uploadParts } from "../../gpu/transfer.ts";
import { LayerContext } from "../../layer/context.ts";
import { size } from "../../layer/parameter.ts";
import { Weights } from "../../layer/weights.ts";
import { Inputs, noise } from "../../ops/testing.ts";
import { changedModel } from "../../testing.ts";
import { countFlops, countParameters } from "../../trunk/counts.ts";
import { parameterSpecs } from "../../trunk/parameters.ts";

/** A model whose layers are all of a kind. */
const modelOf = (ffn: Record<string, unknown>, sizes = {}) =>
  changedModel({ d_model: 512, num_layers: 6, vocab_size: 101, ...sizes }, {
    leading_dense: { num_layers: 0 },
    attention: { kind: "mla" },
    ffn,
  });

const SPARSE = {
  kind: "topk_moe",
  num_experts: 16,
  top_k: 2,
  d_expert: 1024,
  biases: false,
  gelu: "exact",
};

Deno.test("the sparse transformer's layer has its published sizes", () => {
  const [layer] = [modelOf(SPARSE).feedForward(0)];
  const [gate, expert] = [8192, 1_048_576];
  assertEquals(layer.parameters("ffn").map(({ name, shape }) => [name, shape]), [
    ["ffn.w_g", [512, 16]],
    ["ffn.w1", [16, 512, 1024]],
    ["ffn.w2", [16, 1024, 512]],
  ]);
  assertEquals(layer.counts, { active: gate + 2 * expert, theoretical: gate + 16 * expert });
  assertEquals(layer.flops({}), { gate: 2 * gate, experts: 4 * expert });
});

Deno.test("counts of stored, active and multiplied parameters of a whole model", () => {
  for (
    const [ffn, expert, kept, biases] of [
      [{ kind: "switch", num_experts: 16, d_expert: 256 }, 3 * 512 * 256, 1, 0],
      [{ kind: "topk_moe", top_k: 3, d_expert: 256 }, 2 * 512 * 256, 3, 256 + 512],
    ] as const
  ) {
    const model = modelOf(ffn);
    const specs = parameterSpecs(model);
    const stored = specs.reduce((sum, spec) => sum + size(spec), 0);
    const counts = countParameters(model);
    assertEquals([counts.stored, counts.theoretical], [stored, stored]);
    assertEquals(counts.active, stored - 6 * (16 - kept) * (expert + biases));
    assertEquals(counts.byRole["gate"], 6 * 512 * 16);
    assertEquals(countFlops(model, { sequenceLength: 1 }).experts, 6 * 2 * kept * expert);
    const flat = specs.filter(({ decay }) => !decay).map(({ name }) => name);
    assert(specs.some(({ name }) => /b[12]$/.test(name)) === biases > 0);
    assert(flat.every((name) => /norm\.weight$|\.b[12]$/.test(name)), flat.join(" "));
  }
});

Deno.test("experts and gates start as their sections say", () => {
  const starts = (expert_init: string) =>
    Object.fromEntries(
      modelOf({ ...SPARSE, expert_init }).feedForward(0).parameters("ffn")
        .map(({ name, init }) => [
          name.slice(4),
          init.kind === "uniform" ? init.bound : init.kind === "normal" ? -init.std : 0,
        ]),
    );
  const near = (found: Record<string, number>, expected: Record<string, number>) => {
    assertEquals(Object.keys(found), Object.keys(expected));
    for (const [name, value] of Object.entries(expected)) assertAlmostEquals(found[name]!, value);
  };
  const w_g = 1 / Math.sqrt(512);
  near(starts("fan_in"), { w_g, w1: w_g, w2: 1 / 32 });
  // ±0.00138: 32 and 23 times smaller than by the fan-in.
  near(starts("published"), { w_g, w1: w_g / 32, w2: w_g / 32 });
  near(starts("normal"), { w_g: -0.02, w1: -0.02, w2: -0.02 / Math.sqrt(12) });
});

Deno.test("the dense layer that a token's experts make together starts as they do", () => {
  for (
    const [expert_init, init] of [
      ["fan_in", ["uniform", "uniform"]],
      ["normal", ["normal", "normal"]],
    ] as const
  ) {
    const { dense, ...sparse } = modelOf({ ...SPARSE, expert_init }).feedForward(0);
    const joined = modelOf({ ...dense });
    const parameters = joined.feedForward(0).parameters("ffn");
    assertEquals(parameters.map(({ name, shape }) => [name, shape]), [
      ["ffn.w_up", [512, 2048]],
      ["ffn.w_down", [2048, 512]],
    ]);
    assertEquals(parameters.map(({ init }) => init.kind), [...init]);
    if (expert_init === "fan_in") {
      const bounds = parameters.map(({ init }) => init.kind === "uniform" ? init.bound : NaN);
      assertEquals(bounds, [1 / Math.sqrt(512), 1 / Math.sqrt(2048)]);
    }
    assertEquals(joined.feedForward(0).counts.active + 8192, sparse.counts.active);
  }
});

Deno.test("a section that cannot be is answered in one line", () => {
  const mixture = { kind: "topk_moe", num_experts: 4 };
  for (
    const [ffn, path, message = ""] of [
      [{ ...mixture, top_k: 5 }, "ffn.top_k", "5 is more than num_experts 4; at most 4"],
      [{ ...mixture, top_k: 0 }, "ffn.top_k"],
      [{ ...mixture, d_expert: 0 }, "ffn.d_expert"],
      [{ ...mixture, d_expert: 30 }, "ffn.d_expert", "30 is not a multiple of 4; 28 and 32 are"],
      [{ ...mixture, num_experts: 0 }, "ffn.num_experts"],
      [{ ...mixture, num_experts: 2.5 }, "ffn.num_experts", "must be a whole number"],
      [{ ...mixture, load_balance_coef: -1 }, "ffn.load_balance_coef"],
      [{ ...mixture, choice: "top_p" }, "ffn.top_p", "choice top_p needs it: a number above 0"],
      [{ ...mixture, top_p: 0.5 }, "ffn.top_p", "0.5 means nothing with choice top_k"],
      [{ ...mixture, choice: "top_p", top_p: 0 }, "ffn.top_p"],
      [{ ...mixture, choice: "top_p", top_p: 1.5 }, "ffn.top_p"],
      [{ ...mixture, choice: "best" }, "ffn.choice"],
      [{ ...mixture, gelu: "relu" }, "ffn.gelu"],
      [{ ...mixture, expert_init: "zeros" }, "ffn.expert_init"],
      [{ kind: "switch", top_k: 2 }, "ffn", "top_k"],
      [{ kind: "switch", d_expert: 6 }, "ffn.d_expert", "6 is not a multiple of 4; 4 and 8 are"],
    ] as const
  ) {
    const error = assertThrows(() => modelSchema.parse({ ffn }), z.ZodError);
    assertEquals(error.issues.map((issue) => issue.path.join(".")), [path], JSON.stringify(ffn));
    assert(error.issues[0]!.message.includes(message), error.issues[0]!.message);
  }
});

Deno.test("a layer trains on no more tokens than its counts stay exact for", () => {
  const layer = modelOf(SPARSE).feedForward(0);
  assertEquals(layer.problems(2 ** 23), []);
  const [problem] = layer.problems(2 ** 23 + 1);
  assert(problem?.includes("at most 16777216: lower train.micro_batch"), problem);
});

for (const kind of ["switch", "topk_moe"] as const) {
  for (const balanced of [false, true]) {
    const name = `${kind}, ${balanced ? "with" : "without"} the balance term`;
    Deno.test(`what no token keeps has no gradient: ${name}`, async () => {
      const gpu = await openTestGpu();
      using inputs = new Inputs(gpu);
      const [tokens, experts, d_model] = [6, 16, 12];
      const top_k = kind === "switch" ? 1 : 2;
      const architecture = modelOf({
        kind,
        num_experts: experts,
        d_expert: 8,
        load_balance_coef: balanced ? 0.1 : 0,
        ...(kind === "topk_moe" && { top_k }),
      }, { d_model, num_layers: 1 });
      const at = "layers.0.ffn";
      const specs = parameterSpecs(architecture).filter(({ name }) => name.startsWith(`${at}.`))
        .map((spec) => ({ ...spec, trained: true }));
      const weights = new Weights(gpu, specs, { train: true, precision: "f32" });
      specs.forEach((spec, i) =>
        uploadParts(gpu, weights.value(spec.name).parts, noise(size(spec), i + 1))
      );
      const of = (name: string, seed: number) =>
        inputs.tensor(name, [tokens, d_model], { values: noise(tokens * d_model, seed) });
      const [x, residual, dy] = [of("x", 50), of("residual", 51), of("dy", 52)];
      const plan = new Plan(gpu, "layer");
      const context = new LayerContext(plan, weights, { batch: 1, length: tokens, mode: "train" });
      const pass = architecture.feedForward(0).forward(context, at, { x, residual });
      const use = pass.use!;
      plan.keep(use.index);
      plan.keep(pass.backward(dy));
      const built = await buildPlans(gpu, [plan]);
      built.plans[0]!.run();
      const index = Array.from(await download(gpu, use.index));
      assertEquals([use.experts, index.length], [experts, tokens * top_k]);
      for (let t = 0; t < tokens; t++) {
        assertEquals(new Set(index.slice(t * top_k, (t + 1) * top_k)).size, top_k);
      }
      const used = new Set(index);
      assert(used.size < experts);
      for (const { name, shape } of specs) {
        const gradient = Array.from(await downloadParts(gpu, weights.gradient(name).parts));
        assert(gradient.every(Number.isFinite), name);
        for (let e = 0; e < experts; e++) {
          const part = name.endsWith("w_g")
            ? gradient.filter((_, i) => i % experts === e)
            : gradient.slice(...[e, e + 1].map((n) => n * gradient.length / shape[0]!));
          // A switch's probability depends on every logit, and so does the balance term.
          const everywhere = name.endsWith("w_g") && (balanced || kind === "switch");
          const some = part.some((v) => v !== 0);
          assertEquals(some, everywhere || used.has(e), `${name} of expert ${e}`);
        }
      }
      built.destroy();
      weights.destroy();
    });
  }
}
