import { assert, assertEquals } from "@std/assert";
import { DEVICE_PROFILES, profileGpu } from "../../gpu/recording.ts";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { batchTensors } from "../../inference/evaluator.ts";
import { LayerContext } from "../../layer/context.ts";
import { Weights } from "../../layer/weights.ts";
import { architectureOf } from "../../config.ts";
import { joinedExperts } from "../../equal_size.ts";
import { changedModel } from "../../testing.ts";
import { tinyModel, tinyTrain } from "../../training/trainer_testing.ts";
import { countFlops } from "../../trunk/counts.ts";
import { recordEvaluation } from "../../trunk/network.ts";
import { parameterSpecs, weightSpecs } from "../../trunk/parameters.ts";
import { forwardLengths, modelSuite } from "./model_suite.ts";
import { measureCase, type SuiteContext } from "./suite.ts";

const SPARSE = {
  attention: { kind: "mha", num_heads: 5 },
  ffn: { kind: "topk_moe", num_experts: 5, d_expert: 12, biases: false, gelu: "exact" },
  trunk: { norm: "layer", positions: "learned", max_positions: 24, head: "own" },
} as const;

Deno.test("a model and its dense equivalent are measured alike", async () => {
  const gpu = await openTestGpu();
  const architecture = tinyModel(SPARSE);
  const dense = architectureOf(joinedExperts(architecture.config)!);
  const context: SuiteContext = {
    gpu,
    architecture,
    dense,
    train: tinyTrain(),
    timing: { warmup: 1, repeats: 2, minimum: 0.0001 },
    steps: 2,
    seed: 1,
  };
  const cases = modelSuite(context);
  const sizes = ["forward.4x1", "forward.24x1", "decode.22", "prefill.24", "training.13x2"];
  assertEquals(
    cases.map(({ id }) => id),
    ["base", "dense"].flatMap((side) => sizes.map((size) => `model.${side}.${size}`)),
  );
  const { dense: _, ...alone } = context;
  assertEquals(modelSuite(alone).length, sizes.length);
  const entries = new Map<string, Awaited<ReturnType<typeof measureCase>>>();
  for (const each of cases) entries.set(each.id, await measureCase(each));
  for (const [id, entry] of entries) {
    assert(entry.median > 0 && entry.tokens_per_second! > 0 && entry.peak_bytes! > 0, id);
    assertEquals(entry.flops !== undefined, id.includes("forward"), id);
  }
  const bytes = (id: string) => entries.get(id)!.peak_bytes!;
  const stored = (model: typeof dense) =>
    parameterSpecs(model).reduce((n, { shape }) => n + 4 * shape.reduce((a, b) => a * b, 1), 0);
  for (const [side, model] of [["base", architecture], ["dense", dense]] as const) {
    // Weights are in every sum, gradients and moments in that of training.
    assert(bytes(`model.${side}.forward.4x1`) > stored(model));
    assert(bytes(`model.${side}.decode.22`) < 4 * stored(model));
    assert(bytes(`model.${side}.forward.4x1`) < bytes(`model.${side}.forward.24x1`));
    assert(bytes(`model.${side}.training.13x2`) > 4 * stored(model));
  }
});

Deno.test("forward passes have the published lengths as far as a model has positions", () => {
  assertEquals(forwardLengths({ longest: Infinity }), [4, 128, 256]);
  assertEquals(forwardLengths({ longest: 256 }), [4, 128, 256]);
  assertEquals(forwardLengths({ longest: 200 }), [4, 128]);
  assertEquals(forwardLengths({ longest: 24 }), [4, 24]);
  assertEquals(forwardLengths({ longest: 4 }), [4]);
  assertEquals(forwardLengths({ longest: 2 }), [2]);
});

Deno.test("the products that are dispatched are those that the sizes ask for", async () => {
  const memory = await openTestGpu();
  const sparse = changedModel({ d_model: 512, num_layers: 1, vocab_size: 1000 }, {
    leading_dense: { num_layers: 0 },
    attention: { kind: "mha", num_heads: 8 },
    ffn: { ...SPARSE.ffn, num_experts: 16, d_expert: 1024 },
    trunk: { ...SPARSE.trunk, max_positions: 128 },
  });
  const dense = architectureOf(joinedExperts(sparse.config)!);
  for (const profile of DEVICE_PROFILES) {
    const gpu = profileGpu(profile, memory);
    for (const architecture of [sparse, dense]) {
      const weights = new Weights(gpu, weightSpecs(architecture), {
        train: false,
        precision: "f32",
      });
      for (const length of [4, 128]) {
        const plan = new Plan(gpu, "forward");
        const context = new LayerContext(plan, weights, { batch: 1, length, mode: "evaluate" });
        recordEvaluation(context, architecture, batchTensors(length));
        const calls = plan.steps.flatMap((step) => step.kind === "dispatch" ? [step.call] : []);
        const sum = (part: RegExp) =>
          calls.filter(({ label, name }) => part.test(label) && name !== "gemm_reduce")
            .reduce((n, { flops }) => n + flops, 0);
        const { total } = countFlops(architecture, { sequenceLength: length });
        const products =
          /(w_qkv|attn\.attention|w_o|ffn\.logits|ffn\.up|ffn\.down|head\.logits)(\.|$)/;
        assertEquals(sum(products), length * total, `${profile.name}, ${length} tokens`);
        // Norms, activations and losses come on top: 3 % of four tokens, whose experts are mostly padding.
        assert(sum(/./) < 1.03 * length * total);
      }
      weights.destroy();
    }
  }
});
