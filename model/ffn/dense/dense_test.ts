/** The dense feed-forward on a device against float64: every activation, with and without biases. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { download, upload } from "../../gpu/transfer.ts";
import { LayerContext } from "../../layer/context.ts";
import { Weights } from "../../layer/weights.ts";
import { assertNear, Inputs, noise, runOnce } from "../../ops/testing.ts";
import { dense as reference } from "../../reference/ffn/dense.ts";
import { matrix } from "../../reference/matrix.ts";
import { kind } from "./kind.ts";
import { denseSchema, type DenseSection } from "./schema.ts";

const AT = "layers.1.ffn";
const [D, ROWS] = [20, 23];
const TRUNK = { d_model: D, num_layers: 2 };

const SECTIONS: readonly DenseSection[] = (["swiglu", "gelu", "gelu_exact"] as const).flatMap(
  (activation) =>
    [false, true].map((biases) => ({ kind: "dense", d_ffn: 36, activation, biases }) as const),
);

/** Both passes on the device: the result and every gradient. */
async function run(section: DenseSection, precision: "f32" | "mixed") {
  const gpu = await openTestGpu();
  const dtype = precision === "mixed" ? "f16" : "f32";
  const layer = kind.create(section, TRUNK);
  const specs = layer.parameters(AT).map((spec) => ({ ...spec, trained: true }));
  const values = Object.fromEntries(specs.map(({ name, shape }, i) => {
    const scale = shape.length === 1 ? 0.5 : 2.5 / Math.sqrt(shape[0]!);
    const size = shape.reduce((a, b) => a * b, 1);
    return [name.slice(AT.length + 1), noise(size, i).map((v) => Math.fround(v * scale))];
  }));
  const weights = new Weights(gpu, specs, { train: true, precision });
  for (const { name } of specs) {
    for (const table of [weights.value(name), weights.operand(name)]) {
      upload(gpu, table.parts[0]!, values[name.slice(AT.length + 1)]!);
    }
  }
  using inputs = new Inputs(gpu);
  const tensor = (name: string, seed: number, type: "f16" | "f32" = "f32") =>
    inputs.tensor(name, [ROWS, D], { values: noise(ROWS * D, seed), dtype: type });
  const x = tensor("x", 30, dtype);
  const [residual, dy] = [tensor("residual", 31), tensor("dy", 32)];
  const out: Record<string, Float32Array> = await runOnce(gpu, (plan) => {
    const context = new LayerContext(plan, weights, { batch: 1, length: ROWS, mode: "train" });
    const pass = layer.forward(context, AT, { x, residual });
    return { y: pass.y, x: pass.backward(dy) } as Record<string, typeof x>;
  });
  for (const { name } of specs) {
    const [gradient] = weights.gradient(name).parts;
    out[name.slice(AT.length + 1)] = await download(gpu, gradient!) as Float32Array;
  }
  weights.destroy();
  const forward = reference(section, values, { x: matrix(ROWS, D, noise(ROWS * D, 30)) });
  const backward = forward.backward(matrix(ROWS, D, noise(ROWS * D, 32)));
  const before = noise(ROWS * D, 31);
  const expected: Record<string, Float64Array> = {
    y: forward.y.data.map((v, i) => v + before[i]!),
    x: backward.x.data,
    ...backward.weights,
  };
  return { out, expected };
}

for (const section of SECTIONS) {
  const name = `${section.activation}${section.biases ? " with biases" : ""}`;
  Deno.test(`The dense layer and its gradients agree with float64, ${name}`, async () => {
    for (const precision of ["f32", "mixed"] as const) {
      const { out, expected } = await run(section, precision);
      assertEquals(Object.keys(out).sort(), Object.keys(expected).sort());
      for (const [tensor, values] of Object.entries(expected)) {
        const tolerance = precision === "f32" ? 1e-5 : 1e-2;
        assertNear(out[tensor]!, values, { tolerance, what: `${tensor}, ${precision}` });
      }
    }
  });
}

Deno.test("A dense layer without new keys is what it was, and counts what it stores", () => {
  const plain = denseSchema.parse({ kind: "dense", d_ffn: 36 });
  assertEquals(plain, { kind: "dense", d_ffn: 36 });
  const names = (section: DenseSection) =>
    kind.create(section, TRUNK).parameters("f").map(({ name }) => name);
  assertEquals(names(plain), ["f.w_gate", "f.w_up", "f.w_down"]);
  const gelu = denseSchema.parse({ ...plain, activation: "gelu", biases: true });
  assertEquals(names(gelu), ["f.w_up", "f.b_up", "f.w_down", "f.b_down"]);
  const count = (section: DenseSection) => {
    const layer = kind.create(section, TRUNK);
    return [layer.counts.active, layer.flops({}).dense];
  };
  assertEquals(count(plain), [3 * D * 36, 6 * D * 36]);
  assertEquals(count(gelu), [2 * D * 36 + D + 36, 4 * D * 36]);
  assert(
    kind.create(gelu, TRUNK).parameters("f").every(({ decay, shape }) =>
      decay === (shape.length === 2)
    ),
  );
  assertThrows(() => denseSchema.parse({ ...plain, activation: "relu" }), Error, "swiglu");
});
