import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { runPlan } from "../../gpu/build.ts";
import { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { packFields, upload } from "../../gpu/transfer.ts";
import { CONTROL } from "../../ops/control.ts";
import { Inputs, relativeError } from "../../ops/testing.ts";
import { parseSafetensors, toFloat64 } from "../../checkpoint/safetensors.ts";
import { Weights, type WeightSpec } from "../../layer/weights.ts";
import { LayerContext } from "../../layer/context.ts";
import { routerBackward, routerForward, routerQueryStatistics } from "./router.ts";
import type { ProductKeySection } from "./schema.ts";

const FILE = new URL("../../golden/testdata/router.safetensors", import.meta.url);

async function golden(): Promise<(name: string) => Float64Array> {
  const { tensors } = parseSafetensors(await Deno.readFile(FILE), FILE.pathname);
  return (name) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`No ${name}`);
    return toFloat64(tensor);
  };
}

const SIZES: ProductKeySection = {
  num_experts: 121,
  routing_heads: 3,
  top_k: 5,
  d_query: 16,
  router_batch_norm: true,
  load_balance_coef: 0,
};

function specs(): WeightSpec[] {
  const vector = (name: string, trained = true) => (
    { name: `router.${name}`, shape: [48], decay: false, trained }
  );
  const matrix = (name: string, ...shape: number[]) => (
    { name: `router.${name}`, shape, decay: true, trained: true }
  );
  return [
    matrix("w_q", 48, 48),
    matrix("k1", 11, 8),
    matrix("k2", 11, 8),
    vector("b_q"),
    vector("bn.gamma"),
    vector("bn.beta"),
    vector("bn.mean", false),
    vector("bn.var", false),
  ];
}

const TRAINED = ["w_q", "k1", "k2", "bn.gamma", "bn.beta"];

/** Runs the router once, forward and (in training) backward, on the golden input. */
async function run(gpu: Gpu, options: {
  mode?: "train" | "evaluate";
  sizes?: Partial<ProductKeySection>;
  precision?: "f32" | "mixed";
  dscore?: Float64Array;
  loss_scale?: number;
  running?: { mean: Float64Array; var: Float64Array };
}) {
  const value = await golden();
  const { mode = "train", precision = "f32" } = options;
  const weights = new Weights(gpu, specs(), { train: true, precision });
  for (const { name } of specs()) {
    const values = value(name.slice("router.".length));
    upload(gpu, weights.value(name).parts[0]!, values);
    if (precision === "mixed" && !/bn|b_q/.test(name)) {
      upload(gpu, weights.operand(name).parts[0]!, values);
    }
  }
  if (options.running) {
    upload(gpu, weights.value("router.bn.mean").parts[0]!, options.running.mean);
    upload(gpu, weights.value("router.bn.var").parts[0]!, options.running.var);
  }
  using inputs = new Inputs(gpu);
  const dtype = precision === "mixed" ? "f16" : "f32";
  const x = inputs.tensor("x", [37, 48], { values: value("x"), dtype });
  const dscore = inputs.tensor("g", [37, 15], { values: options.dscore ?? value("g") });
  const loss_scale = inputs.tensor("control", [CONTROL.length], {
    values: packFields(CONTROL, { loss_scale: options.loss_scale ?? 1 }),
  });
  const plan = new Plan(gpu, "router");
  const context = new LayerContext(plan, weights, {
    batch: 1,
    length: 37,
    mode,
  });
  const router = { ...SIZES, ...options.sizes };
  const saved = routerForward(context, "router", { x, router });
  const norms = routerQueryStatistics(context, "router", { router, saved });
  const dx = plan.tensor("dx", [37, 48]);
  plan.clear(dx);
  if (mode === "train") {
    routerBackward(context, "router", { router, saved, dscore, dx, loss_scale });
  }
  const { index, score, balance } = saved.routed;
  const outputs: Record<string, Tensor> = {
    index,
    score,
    query: saved.query,
    norms,
    x: dx,
    "bn.mean": weights.value("router.bn.mean").parts[0]!,
    "bn.var": weights.value("router.bn.var").parts[0]!,
    ...(balance && { balance: balance.value }),
  };
  for (const name of [...TRAINED, "b_q"]) {
    outputs[`grad.${name}`] = weights.gradient(`router.${name}`).parts[0]!;
  }
  const results = await runPlan<string>(plan, outputs);
  weights.destroy();
  return results;
}

function near(actual: ArrayLike<number>, expected: ArrayLike<number>, most: number, what: string) {
  const error = relativeError(actual, expected);
  assert(error <= most, `${what} is off by ${error}, at most ${most}`);
}

for (const software of [true, false]) {
  Deno.test(`Router against the golden file, software ${software}`, async (t) => {
    const gpu = await openTestGpu({ software });
    const value = await golden();
    await t.step("training", async () => {
      const out = await run(gpu, {});
      assertEquals(Array.from(out["index"]!), Array.from(value("out.index")));
      near(out["query"]!, value("out.query"), 1e-4, "query");
      near(out["score"]!, value("out.score"), 1e-4, "score");
      near(out["bn.mean"]!, value("out.bn.mean"), 1e-4, "bn.mean");
      near(out["bn.var"]!, value("out.bn.var"), 1e-4, "bn.var");
      near(out["x"]!, value("grad.x"), 5e-4, "grad.x");
      for (const name of TRAINED) {
        near(out[`grad.${name}`]!, value(`grad.${name}`), 5e-4, `grad.${name}`);
      }
      assertEquals(out["grad.b_q"], new Float32Array(48));
      const query = value("out.query");
      const norms = Array.from(
        { length: 111 },
        (_, i) => Math.hypot(...query.subarray(16 * i, 16 * i + 16)),
      );
      const mean = norms.reduce((a, b) => a + b) / 111;
      const deviation = Math.sqrt(norms.reduce((a, b) => a + (b - mean) ** 2, 0) / 111);
      near(out["norms"]!, [mean, deviation, 0, 0], 1e-5, "query norms");
    });
    await t.step("evaluation", async () => {
      const running = { mean: value("out.bn.mean"), var: value("out.bn.var") };
      const out = await run(gpu, { mode: "evaluate", running });
      assertEquals(Array.from(out["index"]!), Array.from(value("eval.index")));
      near(out["query"]!, value("eval.query"), 1e-4, "query");
      near(out["score"]!, value("eval.score"), 1e-4, "score");
      near(out["bn.mean"]!, running.mean, 0, "bn.mean stays");
    });
    await t.step("load balance, with a loss scale", async () => {
      const out = await run(gpu, {
        sizes: { load_balance_coef: 0.5 },
        dscore: new Float64Array(37 * 15),
        loss_scale: 1024,
      });
      near(out["balance"]!, value("balance.value").map((v) => v / 2), 1e-4, "value");
      const scaled = (name: string) => value(`balance.grad.${name}`).map((v) => v * 512);
      near(out["x"]!, scaled("x"), 5e-4, "grad.x");
      for (const name of TRAINED) near(out[`grad.${name}`]!, scaled(name), 5e-4, name);
    });
  });
}

Deno.test("Router in mixed precision stays close, with f16 native and packed", async () => {
  const value = await golden();
  for (const f16 of [true, false]) {
    const gpu = await openTestGpu({ f16 });
    const out = await run(gpu, { precision: "mixed" });
    near(out["query"]!, value("out.query"), 5e-3, "query");
    const same = Array.from(out["index"]!).filter((e, i) => e === value("out.index")[i]).length;
    assert(same > 0.9 * 555, `${same} of 555 experts are the same`);
  }
});

Deno.test("Router refuses a single token in training", async () => {
  const gpu = await openTestGpu();
  const weights = new Weights(gpu, specs(), { train: true, precision: "f32" });
  const context = new LayerContext(new Plan(gpu, "router"), weights, {
    batch: 1,
    length: 1,
    mode: "train",
  });
  const x = context.plan.tensor("x", [1, 48]);
  context.plan.clear(x);
  await assertRejects(
    () => Promise.resolve().then(() => routerForward(context, "router", { x, router: SIZES })),
    RangeError,
    "at least 2 tokens",
  );
  weights.destroy();
});
