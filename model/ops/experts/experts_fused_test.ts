/** Fused experts in halves on matrix units, beside float64. Other kernels of theirs are tested with the layer. */

import { assertEquals } from "@std/assert";
import { openTestGpu } from "../../gpu/testing.ts";
import { gelu, geluDerivative } from "../../reference/activation.ts";
import { hasSquareUnits } from "../gemm/matrix_unit.ts";
import { sortByKey } from "../routing/sort.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import type { Generator, Kept } from "./experts.ts";
import { expertsFused, expertsFusedBackward } from "./experts_fused.ts";

/** So many tokens that each has one workgroup, in groups of eight with some left over; codes in two parts; a last round that is not full. */
const SIZES = { tokens: 67, per: 37, parts: [17, 14], d_hidden: 256 } as const;
const EXPERTS = SIZES.parts[0] + SIZES.parts[1];

/** Numbers as halves hold them. */
const halves = (count: number, seed: number, scale: number) =>
  Float64Array.from(new Float16Array(noise(count, seed).map((v) => scale * v)));

/** Columns of a token or of an expert. */
const row = (values: Float64Array, i: number, width: number) =>
  values.subarray(i * width, (i + 1) * width);
const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);

const gpu = await openTestGpu();
const units = hasSquareUnits(gpu.capabilities);

for (const drops of [false, true]) {
  for (const d_latent of [32, 128]) {
    const name = `${d_latent} numbers a code${drops ? ", some experts dropped" : ""}`;
    // Adapters without units would compile other kernels for long.
    Deno.test({
      name: `fused experts of halves agree with float64: ${name}`,
      ignore: !units,
      async fn() {
        const { tokens, per, parts, d_hidden } = SIZES;
        /** Kept experts of a token: rounds of 16 that are full, begun, or none. */
        const number = (token: number) => drops ? [1, 16, 17, 0, per][token % 5]! : per;
        const assignments = Array.from({ length: tokens * per }, (_, i) => {
          const [token, j] = [Math.floor(i / per), i % per];
          const kept = j < number(token);
          return {
            index: kept ? (7 * token + 3 * j) % EXPERTS : EXPERTS,
            score: kept ? 0.1 + j / 40 : 0,
          };
        });
        const values = {
          z: halves(EXPERTS * d_latent, 1, 1),
          w1: halves(d_latent * d_hidden, 2, 1 / Math.sqrt(d_latent)),
          x: noise(tokens * d_hidden, 3).map((v) => v / 4),
          dacc: noise(tokens * d_hidden, 4),
        };
        using inputs = new Inputs(gpu);
        const first = parts[0] * d_latent;
        const z = [values.z.subarray(0, first), values.z.subarray(first)].map((part, i) =>
          inputs.tensor(`z${i}`, [parts[i]!, d_latent], { values: part, dtype: "f16" })
        );
        const w1 = inputs.tensor("w1", [d_latent, d_hidden], { values: values.w1, dtype: "f16" });
        const x = inputs.tensor("x", [tokens, d_hidden], { values: values.x });
        const generator: Generator = { z, w1, tokens: x, context: false };
        const indices = { values: assignments.map(({ index }) => index), dtype: "u32" } as const;
        const scores = { values: assignments.map(({ score }) => score) };
        const kept: Kept = {
          index: inputs.tensor("index", [tokens, per], indices),
          score: inputs.tensor("score", [tokens, per], scores),
          ...drops &&
            {
              packed: {
                none: EXPERTS,
                place: inputs.tensor("place", [tokens, per], { dtype: "u32" }),
              },
            },
        };
        const dscore = inputs.tensor("dscore", [tokens, per]);
        const dacc = inputs.tensor("dacc", [tokens, d_hidden], { values: values.dacc });
        const gradient = (name: string, shape: readonly number[]) => ({
          tensor: inputs.tensor(name, shape),
          epilogue: "none" as const,
        });
        const kernels = new Set<string>();
        const actual = await runOnce(gpu, (plan) => {
          const acc = expertsFused(plan, "experts", { generator, kept, dtype: "f32" });
          const dx = expertsFusedBackward(plan, "experts", {
            generator,
            kept,
            sorted: sortByKey(plan, "sort", { keys: kept.index, bound: EXPERTS + 1 }),
            dacc,
            dscore,
            dtype: "f32",
            gradients: {
              z: z.map(({ shape }, i) => gradient(`dz${i}`, shape)),
              w1: gradient("dw1", w1.shape),
            },
          });
          for (const step of plan.steps) if (step.kind === "dispatch") kernels.add(step.call.name);
          return { acc, dx, dscore };
        });
        assertEquals(kernels.has("experts_fused_matrix"), true);

        const hidden = Array.from({ length: EXPERTS }, (_, expert) => {
          const code = row(values.z, expert, d_latent);
          return Float64Array.from(
            { length: d_hidden },
            (_, column) =>
              gelu(code.reduce((sum, v, l) => sum + v * values.w1[l * d_hidden + column]!, 0)),
          );
        });
        const expected = {
          acc: new Float64Array(tokens * d_hidden),
          dx: new Float64Array(tokens * d_hidden),
          dscore: new Float64Array(tokens * per),
        };
        for (const [i, { index, score }] of assignments.entries()) {
          const h = hidden[index];
          if (!h) continue;
          const token = Math.floor(i / per);
          const product = dot(h, row(values.x, token, d_hidden));
          const [p, slope] = [gelu(product), geluDerivative(product)];
          const q = dot(h, row(values.dacc, token, d_hidden));
          const [acc, dx] = [row(expected.acc, token, d_hidden), row(expected.dx, token, d_hidden)];
          h.forEach((v, column) => {
            acc[column]! += p * score * v;
            dx[column]! += q * score * slope * v;
          });
          expected.dscore[i] = q * p;
        }
        for (const name of ["acc", "dx", "dscore"] as const) {
          const compared = name === "dscore"
            ? actual.dscore.map((v, i) => assignments[i]!.index < EXPERTS ? v : 0)
            : actual[name];
          assertNear(compared, expected[name], { tolerance: 1e-5, what: name });
        }
      },
    });
  }
}
