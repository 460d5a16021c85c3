import { assertEquals } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { packFields } from "../../gpu/transfer.ts";
import { crossEntropy as reference } from "../../reference/loss.ts";
import { matrix } from "../../reference/matrix.ts";
import { CONTROL } from "../control.ts";
import { countTargets, crossEntropy, NO_TARGET } from "./cross_entropy.ts";
import { sumInto } from "../optimizer/optimizer.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";

/** Compares losses and gradients of `rows` predictions from `first` on with float64. */
async function check(
  gpu: Gpu,
  c: { rows: number; vocabulary: number; first: number; spread: number },
): Promise<void> {
  const { rows, vocabulary, first } = c;
  const stride = Math.ceil(vocabulary / 4) * 4;
  const values = noise(rows * stride, vocabulary).map((v, i) =>
    i % stride < vocabulary ? Math.fround(v * c.spread) : 0
  );
  const before = noise(first + rows + 2, 5);
  const targets = Uint32Array.from(noise(first + rows + 2, 6), (v) => (v + 1) / 2 * vocabulary);
  const skipped = rows > 2 ? first + 1 : -1;
  if (skipped >= 0) targets[skipped] = NO_TARGET;
  using inputs = new Inputs(gpu);
  const tensors = {
    logits: inputs.tensor("logits", [rows, stride], { values }),
    targets: inputs.tensor("targets", [targets.length], { values: targets, dtype: "u32" }),
    losses: inputs.tensor("losses", [before.length], { values: before }),
  };
  const control = inputs.tensor("control", [CONTROL.length], {
    values: packFields(CONTROL, { loss_scale: 256 }),
  });
  const scale = 1 / 7;
  const out = await runOnce(gpu, (plan) => {
    crossEntropy(plan, "loss", tensors, {
      vocabulary,
      rows,
      first,
      gradient: { scale, control },
    });
    return { logits: tensors.logits, losses: tensors.losses };
  });
  const losses = before.slice();
  const gradient = new Float64Array(rows * stride);
  for (let row = 0; row < rows; row++) {
    if (first + row === skipped) {
      losses[skipped] = 0;
      continue;
    }
    const logits = values.slice(row * stride, row * stride + vocabulary);
    const target = targets[first + row]!;
    const expected = reference(matrix(1, vocabulary, logits), [target]);
    losses[first + row] = expected.loss;
    gradient.set(expected.gradient.data.map((g) => g * scale * 256), row * stride);
  }
  const what = JSON.stringify(c);
  assertNear(out.losses, losses, { tolerance: 3e-6, what: `losses of ${what}` });
  assertNear(out.logits, gradient, { tolerance: 3e-6, what: `gradient of ${what}` });
}

for (
  const restrict of [{ software: true }, { software: true, subgroups: false }, { software: false }]
) {
  Deno.test(`crossEntropy() agrees with float64, ${JSON.stringify(restrict)}`, async () => {
    const gpu = await openTestGpu(restrict);
    for (const vocabulary of [2, 3, 5, 64, 257, 512, 1021]) {
      for (const rows of [1, 9, 37]) {
        await check(gpu, { rows, vocabulary, first: rows === 9 ? 4 : 0, spread: 5 });
      }
    }
    // Beyond what exp() can take without the maximum.
    await check(gpu, { rows: 5, vocabulary: 33, first: 0, spread: 300 });
  });
}

Deno.test("crossEntropy() without a gradient leaves the logits alone", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const values = Float32Array.from(noise(24, 1));
  const logits = inputs.tensor("logits", [3, 8], { values });
  const targets = inputs.tensor("targets", [3], { values: [1, 2, 6], dtype: "u32" });
  const losses = inputs.tensor("losses", [3]);
  const out = await runOnce(gpu, (plan) => {
    const options = { vocabulary: 7, rows: 3, first: 0 };
    crossEntropy(plan, "loss", { logits, targets, losses }, options);
    return { logits, losses };
  });
  assertEquals(out.logits, values);
  const expected = [1, 2, 6].map((target, row) =>
    reference(matrix(1, 7, Float64Array.from(values.slice(8 * row, 8 * row + 7))), [target]).loss
  );
  assertNear(out.losses, expected, { tolerance: 1e-6, what: "losses" });
});

for (const software of [true, false]) {
  Deno.test(`crossEntropy() of padded targets is the mean over the others, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    for (const [rows, kept] of [[1, 1], [9, 4], [37, 36], [300, 1], [5, 0]] as const) {
      const vocabulary = 13;
      const stride = 16;
      const values = noise(rows * stride, rows).map((v, i) =>
        i % stride < vocabulary ? Math.fround(5 * v) : 0
      );
      // The kept rows are spread over the batch.
      const targets = Uint32Array.from(
        { length: rows },
        (_, row) =>
          Math.floor(row * kept / rows) < Math.floor((row + 1) * kept / rows)
            ? row % 13
            : NO_TARGET,
      );
      using inputs = new Inputs(gpu);
      const tensors = {
        logits: inputs.tensor("logits", [rows, stride], { values }),
        targets: inputs.tensor("targets", [rows], { values: targets, dtype: "u32" }),
        losses: inputs.tensor("losses", [rows]),
      };
      const total = inputs.tensor("total", [4], { values: [1, 2, 3, 4] });
      const predictions = inputs.tensor("predictions", [1, 4], { values: [NaN, 0, 0, 0] });
      const control = inputs.tensor("control", [CONTROL.length], {
        values: packFields(CONTROL, { loss_scale: 256 }),
      });
      const out = await runOnce(gpu, (plan) => {
        countTargets(plan, "count", { targets: tensors.targets, predictions });
        crossEntropy(plan, "loss", tensors, {
          vocabulary,
          rows,
          first: 0,
          gradient: { scale: 0.5, control, predictions },
        });
        const sum = { x: tensors.losses, total, divisor: predictions };
        sumInto(plan, "sum", sum, { slot: 1, scale: 0.5, add: true });
        return { logits: tensors.logits, predictions, total };
      });
      assertEquals(out.predictions[0], Math.max(1, kept));
      const narrow = values.filter((_, i) => i % stride < vocabulary);
      const { loss, gradient } = reference(matrix(rows, vocabulary, narrow), targets);
      const expected = new Float64Array(rows * stride);
      gradient.data.forEach((g, i) => {
        expected[Math.floor(i / vocabulary) * stride + i % vocabulary] = g * 128;
      });
      const what = `${kept} of ${rows}`;
      assertNear(out.logits, expected, { tolerance: 3e-6, what: `gradient of ${what}` });
      assertNear(out.total, [1, 2 + loss / 2, 3, 4], { tolerance: 1e-6, what: `loss of ${what}` });
    }
  });
}

Deno.test("The reference's gradient of padded targets is that of its loss", () => {
  const [rows, columns] = [4, 5];
  const logits = Float64Array.from(noise(rows * columns, 3));
  const targets = [2, NO_TARGET, 4, NO_TARGET];
  const { gradient } = reference(matrix(rows, columns, logits), targets);
  const value = (i: number, by: number) =>
    reference(matrix(rows, columns, logits.with(i, logits[i]! + by)), targets).loss;
  for (let i = 0; i < logits.length; i++) {
    const slope = (value(i, 1e-5) - value(i, -1e-5)) / 2e-5;
    assertNear([gradient.data[i]!], [slope], { tolerance: 1e-8, what: `slope ${i}` });
  }
});
