import { assertEquals } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { packFields } from "../../gpu/transfer.ts";
import { crossEntropy as reference } from "../../reference/loss.ts";
import { matrix } from "../../reference/matrix.ts";
import { CONTROL } from "../control.ts";
import { crossEntropy, NO_TARGET } from "./cross_entropy.ts";
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

for (const software of [true, false]) {
  Deno.test(`crossEntropy() agrees with float64, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    for (const vocabulary of [2, 3, 5, 64, 257, 1021]) {
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
