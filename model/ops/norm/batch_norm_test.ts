/** Batch norm against float64, at rows and columns that fill nothing. */

import { assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { batchNormBackward, batchNormForward } from "../../reference/norm.ts";
import { addBias, batchNorm, batchNormBackward as recordBackward } from "./batch_norm.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

for (const software of [true, false]) {
  Deno.test(`batchNorm() and its gradients agree with float64, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    for (
      const [rows, columns, dtype] of [[9, 4, "f32"], [77, 20, "f32"], [75, 36, "f16"]] as const
    ) {
      const tolerance = dtype === "f16" ? 2e-3 : 1e-5;
      const halves = (values: Float64Array) =>
        dtype === "f16" ? Float64Array.from(new Float16Array(values)) : values;
      const x = halves(noise(rows * columns, 1).map((v, i) => 3 * v + i % columns % 5));
      const dy = halves(noise(rows * columns, 2));
      const vector = (seed: number, base = 0) => noise(columns, seed).map((v) => base + v / 2);
      const [gamma, beta, bias, mean, variance] = [
        vector(3, 1),
        vector(4),
        vector(5),
        vector(6),
        vector(7, 1),
      ] as [Float64Array, Float64Array, Float64Array, Float64Array, Float64Array];
      const reference = (training: boolean) =>
        batchNormForward(
          // The GPU is given x without the bias, which training's mean takes away again.
          { rows, columns, data: x.map((v, i) => v + bias[i % columns]!) },
          { "bn.gamma": gamma, "bn.beta": beta, "bn.mean": mean, "bn.var": variance },
          { training },
        );
      for (const training of [true, false]) {
        using inputs = new Inputs(gpu);
        const held = (name: string, values: Float64Array) =>
          inputs.tensor(name, [columns], { values });
        const many = (name: string, values: Float64Array, seven = false) =>
          inputs.tensor(name, [rows, columns], {
            // An element that no invocation writes must not pass for a zero.
            values: seven ? values.map(() => 7) : values,
            dtype,
          });
        const [given, y, d_y, dx, biased] = [
          many("x", x),
          many("y", x, true),
          many("dy", dy),
          many("dx", x, true),
          many("biased", x, true),
        ] as const;
        const weights = {
          gamma: held("gamma", gamma),
          beta: held("beta", beta),
          bias: held("bias", bias),
          running_mean: held("running_mean", mean),
          running_variance: held("running_variance", variance),
        };
        const gradients = {
          gamma: { tensor: held("dgamma", gamma), epilogue: "accumulate" },
          beta: { tensor: held("dbeta", beta), epilogue: "accumulate" },
        } as const;
        const out = await runOnce<string>(gpu, (plan): Record<string, Tensor> => {
          const statistics = batchNorm(plan, "bn", { x: given, y, weights, training });
          addBias(plan, "bias", { x: given, bias: weights.bias, y: biased });
          if (!training) return { y, biased };
          recordBackward(plan, "bn", {
            x: given,
            dy: d_y,
            dx,
            gamma: weights.gamma,
            statistics,
            gradients,
          });
          return {
            y,
            biased,
            dx,
            dgamma: gradients.gamma.tensor,
            dbeta: gradients.beta.tensor,
            running_mean: weights.running_mean,
            running_variance: weights.running_variance,
          };
        });
        const saved = reference(training);
        const back = batchNormBackward(saved, { rows, columns, data: dy });
        const expected: Record<string, Float64Array> = {
          y: saved.y.data,
          biased: x.map((v, i) => v + bias[i % columns]!),
          dx: back.x.data,
          dgamma: back.gamma.map((v, i) => v + gamma[i]!),
          dbeta: back.beta.map((v, i) => v + beta[i]!),
          running_mean: saved.running.mean,
          running_variance: saved.running.variance,
        };
        for (const [name, values] of Object.entries(out)) {
          const what = `${name} of ${rows}×${columns} ${dtype}, training ${training}`;
          assertNear(values, expected[name]!, { tolerance, what });
        }
      }
    }
  });
}

Deno.test("batchNorm() refuses one token in training", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const x = inputs.tensor("x", [1, 4]);
  const weights = { gamma: x, beta: x, bias: x, running_mean: x, running_variance: x };
  assertThrows(
    () => batchNorm(new Plan(gpu, "test"), "bn", { x, y: x, weights, training: true }),
    RangeError,
    "bn: batch norm in training needs at least 2 tokens, got 1",
  );
});
