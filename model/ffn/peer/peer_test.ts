import { assert, assertEquals } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { runPlan } from "../../gpu/build.ts";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { downloadParts, packFields, uploadParts } from "../../gpu/transfer.ts";
import { LayerContext } from "../../layer/context.ts";
import { Weights } from "../../layer/weights.ts";
import { CONTROL } from "../../ops/control.ts";
import { Inputs, noise, relativeError } from "../../ops/testing.ts";
import { peer as referenceLayer } from "../../reference/ffn/peer.ts";
import { matrix } from "../../reference/matrix.ts";
import { kind } from "./kind.ts";
import { peerBackward, peerForward } from "./peer.ts";
import { peerSchema, type PeerSection } from "./schema.ts";

const D_MODEL = 20;

/** Sizes of a layer. */
const sized = (changes: Partial<PeerSection> = {}): PeerSection =>
  peerSchema.parse({
    kind: "peer",
    num_experts: 169,
    routing_heads: 3,
    top_k: 4,
    d_query: 16,
    ...changes,
  });

/** The layer's tensors, without a prefix. */
function specsOf(section: PeerSection) {
  const layer = kind.create(section, { d_model: D_MODEL, num_layers: 1 });
  return [
    ...layer.parameters("layer").map((spec) => ({ ...spec, trained: true })),
    ...layer.statistics("layer").map((spec) => ({ ...spec, decay: false, trained: false })),
  ];
}

/** Random values of every tensor, of the input `x` and of the upstream gradient `g`. */
function valuesOf(section: PeerSection, tokens: number, seed: number) {
  const values: Record<string, Float64Array> = {};
  for (const [i, { name, shape }] of specsOf(section).entries()) {
    const numbers = noise(shape.reduce((a, b) => a * b, 1), seed + i);
    const centre = /gamma|var/.test(name) ? 1 : 0;
    const scale = /gamma|var|beta|mean|b_q/.test(name) ? 0.5 : /[.][uv]$/.test(name) ? 0.8 : 0.4;
    values[name.slice("layer.".length)] = numbers.map((v) => Math.fround(centre + scale * v));
  }
  values["x"] = noise(tokens * D_MODEL, seed + 78);
  values["g"] = noise(tokens * D_MODEL, seed + 79);
  return values;
}

type Values = ReturnType<typeof valuesOf>;
type Results = Readonly<Record<string, ArrayLike<number>>>;

interface RunOptions {
  readonly precision?: "f32" | "mixed";
  readonly isolate?: boolean;
  readonly mode?: "train" | "evaluate";
  readonly loss_scale?: number;
  /** Runs of the backward pass, each adding to the gradients of the one before. */
  readonly passes?: number;
  readonly residual?: Float64Array;
}

/** Runs the layer, forward and (in training) backward. */
async function run(gpu: Gpu, section: PeerSection, values: Values, options: RunOptions = {}) {
  const { precision = "f32", mode = "train", loss_scale = 1, passes = 1, isolate = false } =
    options;
  const specs = specsOf(section);
  const weights = new Weights(gpu, specs, { train: true, precision });
  using inputs = new Inputs(gpu);
  try {
    for (const { name, trained } of specs) {
      const tables = [weights.value(name)];
      if (precision === "mixed" && trained) tables.push(weights.operand(name));
      for (const { parts } of tables) uploadParts(gpu, parts, values[name.slice("layer.".length)]!);
    }
    const tokens = values["x"]!.length / D_MODEL;
    const shape = [tokens, D_MODEL];
    const x = inputs.tensor("x", shape, {
      values: values["x"]!,
      dtype: precision === "mixed" ? "f16" : "f32",
    });
    const residual = inputs.tensor(
      "residual",
      shape,
      options.residual ? { values: options.residual } : {},
    );
    const dy = inputs.tensor("dy", shape, { values: values["g"]!.map((v) => v * loss_scale) });
    const control = packFields(CONTROL, { loss_scale });
    const scale = inputs.tensor("control", [CONTROL.length], { values: control });
    const plan = new Plan(gpu, "peer");
    let outputs = {};
    for (let pass = 0; pass < passes; pass++) {
      const context = new LayerContext(plan, weights, {
        batch: 1,
        length: tokens,
        mode,
        accumulate: pass > 0,
      });
      const { y, saved } = peerForward(context, "layer", { x, residual, peer: section });
      const { balance } = saved.router!.routed;
      const backward = { peer: section, dy, saved, loss_scale: scale };
      outputs = {
        y,
        index: saved.kept.index,
        score: saved.kept.score,
        ...(balance && { balance: balance.value }),
        ...(mode === "train" && { "grad.x": peerBackward(context, "layer", backward) }),
      };
    }
    const results: Record<string, ArrayLike<number>> = await runPlan(plan, outputs, { isolate });
    for (const { name, trained } of specs) {
      const own = name.slice("layer.".length);
      const { parts } = trained ? weights.gradient(name) : weights.value(name);
      results[trained ? `grad.${own}` : own] = await downloadParts(gpu, parts);
    }
    return { results, parts: weights.value("layer.u").parts.length };
  } finally {
    weights.destroy();
  }
}

/** The same in float64, with the experts that the GPU kept. */
function reference(
  section: PeerSection,
  values: Values,
  options: { selection: ArrayLike<number>; training?: boolean },
): Results {
  const tokens = values["x"]!.length / D_MODEL;
  const forward = referenceLayer(section, values, {
    x: matrix(tokens, D_MODEL, values["x"]!),
    training: options.training ?? true,
    selection: Int32Array.from(options.selection),
  });
  const backward = forward.backward(matrix(tokens, D_MODEL, values["g"]!));
  const gradients = Object.entries(backward.weights).map(([name, g]) => [`grad.${name}`, g]);
  return {
    y: forward.y.data,
    score: forward.routing.score,
    lag: [forward.routing.lag],
    balance: [forward.auxiliary],
    "grad.x": backward.x.data,
    ...Object.fromEntries(gradients),
  };
}

const gradientsOf = (section: PeerSection) => [
  "grad.x",
  ...specsOf(section).filter(({ trained, name }) =>
    trained && !(section.router_batch_norm && name.endsWith("b_q"))
  ).map(({ name }) => `grad.${name.slice("layer.".length)}`),
];

function near(
  actual: Results,
  expected: Results,
  names: readonly string[],
  tolerance: { outputs: number; gradients: number } = { outputs: 1e-4, gradients: 5e-4 },
) {
  for (const name of names) {
    const error = relativeError(actual[name]!, expected[name]!);
    const most = name.startsWith("grad.") ? tolerance.gradients : tolerance.outputs;
    assert(error <= most, `${name} is off by ${error}, at most ${most}`);
  }
}

const EXECUTIONS = ["naive", "fused"] as const;

for (const software of [true, false]) {
  for (const execution of EXECUTIONS) {
    Deno.test(`PEER against float64: ${execution}, software ${software}`, async () => {
      const gpu = await openTestGpu({ software });
      const balanced = { load_balance_coef: 0.3, router_batch_norm: false };
      for (const changes of [{}, balanced]) {
        const section = sized({ execution, ...changes });
        const values = valuesOf(section, 23, 3);
        const { results } = await run(gpu, section, values);
        const expected = reference(section, values, { selection: results["index"]! });
        near(results, expected, ["y", "score", ...gradientsOf(section)]);
        if (section.load_balance_coef > 0) near(results, expected, ["balance"]);
      }
    });
  }
}

Deno.test("PEER keeps as many experts as a mass or a threshold asks for", async () => {
  for (const software of [true, false]) {
    const gpu = await openTestGpu({ software });
    for (const execution of EXECUTIONS) {
      for (
        const rule of [
          { choice: "mass", mass: 0.6, load_balance_coef: 0.3 },
          { choice: "threshold", threshold: 0.3, min_k: 2 },
        ] as const
      ) {
        const section = sized({ execution, ...rule });
        const values = valuesOf(section, 29, 5);
        const { results } = await run(gpu, section, values);
        const dropped = Array.from(results["score"]!, (s) => s === 0);
        const selection = Array.from(
          results["index"]!,
          (expert, i) => dropped[i] ? section.num_experts : expert,
        );
        const expected = reference(section, values, { selection });
        near(results, expected, ["y", "score", ...gradientsOf(section)]);
        if (rule.choice === "mass") near(results, expected, ["balance"]);
        // As many experts as the float64 scores keep, or a near tie.
        assert(expected["lag"]![0]! < 1e-4);
        assert(dropped.includes(true) && dropped.includes(false));
      }
    }
  }
});

Deno.test("PEER with tables in parts gives the bits that whole tables give", async (t) => {
  const whole = await openTestGpu({ software: true });
  // Rows of 80 bytes: 169 of them take three parts, and all other tensors fit.
  const split = await openTestGpu({ software: true, max_binding_bytes: 5120 });
  for (const execution of EXECUTIONS) {
    for (const precision of ["f32", "mixed"] as const) {
      await t.step(`${execution}, ${precision}`, async () => {
        const section = sized({ execution, routing_heads: 2, d_query: 8 });
        const values = valuesOf(section, 17, 11);
        const one = await run(whole, section, values, { precision, passes: 2 });
        const many = await run(split, section, values, { precision, passes: 2 });
        assertEquals([one.parts, many.parts], [1, 3]);
        assertEquals(many.results, one.results);
        // Experts on both sides of a cut, and of one token.
        const experts = new Set(Array.from(one.results["index"]!, (i) => Math.floor(i / 64)));
        assertEquals(experts.size, 3);
      });
    }
  }
});

Deno.test("PEER in mixed precision stays close, with f16 native and packed", async () => {
  for (const [f16, software] of [[true, true], [false, true], [true, false]] as const) {
    const gpu = await openTestGpu({ f16, software });
    for (const execution of EXECUTIONS) {
      const section = sized({ execution });
      const values = valuesOf(section, 33, 19);
      const { results } = await run(gpu, section, values, { precision: "mixed" });
      const expected = reference(section, values, { selection: results["index"]! });
      const tolerance = { outputs: 1e-2, gradients: 2e-2 };
      near(results, expected, ["y", "score", ...gradientsOf(section)], tolerance);
    }
  }
});

Deno.test("PEER is the same bits each time, and with every tensor in a buffer of its own", async () => {
  const gpu = await openTestGpu();
  for (const execution of EXECUTIONS) {
    const section = sized({ execution, load_balance_coef: 0.1 });
    const values = valuesOf(section, 41, 17);
    const first = await run(gpu, section, values);
    assertEquals((await run(gpu, section, values)).results, first.results);
    assertEquals((await run(gpu, section, values, { isolate: true })).results, first.results);
  }
});

Deno.test("PEER adds to the residual, to earlier gradients, and scales with the loss scale", async () => {
  const gpu = await openTestGpu();
  const section = sized({ load_balance_coef: 0.5 });
  const values = valuesOf(section, 21, 23);
  const residual = noise(21 * D_MODEL, 24);
  const once = await run(gpu, section, values);
  const twice = await run(gpu, section, values, { passes: 2, residual });
  const scaled = await run(gpu, section, values, { loss_scale: 256 });
  const y = Array.from(once.results["y"]!, (v, i) => v + residual[i]!);
  near(twice.results, { y }, ["y"]);
  for (const name of gradientsOf(section)) {
    const times = (factor: number) => Array.from(once.results[name]!, (v) => factor * v);
    near(scaled.results, { [name]: times(256) }, [name]);
    if (name !== "grad.x") near(twice.results, { [name]: times(2) }, [name]);
  }
});

Deno.test("PEER in evaluation takes one token, and leaves the running statistics", async () => {
  const gpu = await openTestGpu();
  const section = sized({ load_balance_coef: 0.5 });
  const values = valuesOf(section, 1, 31);
  const { results } = await run(gpu, section, values, { mode: "evaluate" });
  const selection = results["index"]!;
  const expected = reference(section, values, { selection, training: false });
  near(results, expected, ["y", "score"]);
  near(results, values, ["router.bn.mean", "router.bn.var"], { outputs: 0, gradients: 0 });
  assertEquals(results["balance"], undefined);
});

Deno.test("PEER counts what it stores and what a token uses", () => {
  const paper = kind.create(peerSchema.parse({ kind: "peer" }), { d_model: 1024, num_layers: 16 });
  const stored = 2 * 262144 * 1024;
  const router = paper.parameters("ffn").reduce(
    (n, { role, shape }) => role === "router" ? n + shape.reduce((a, b) => a * b, 1) : n,
    0,
  );
  assertEquals(paper.counts, { theoretical: router + stored, active: router + 128 * 2048 });
  assertEquals(paper.flops({})["experts"], 128 * 4 * 1024);
  assertEquals(paper.problems(1).length, 1);
});
