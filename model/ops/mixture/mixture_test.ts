/** The operations of a mixture of experts beside plain arithmetic: ties, dropped experts, experts without tokens, other precisions. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import type { DType, Tensor } from "../../gpu/tensor.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { intoColumns, padColumns } from "../elementwise/pad_columns.ts";
import { gemm } from "../gemm/gemm.ts";
import {
  gelu,
  geluDerivative,
  geluExact,
  geluExactDerivative,
} from "../../reference/activation.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { gate, gateBackward, gateBalance } from "./gate.ts";
import {
  biasedGelu,
  biasedGeluBackward,
  combineRows,
  gatherRows,
  groupSums,
  weightGradient,
} from "./rows.ts";
import { segmentsOf } from "./segments.ts";

const softmax = (values: readonly number[]) => {
  const most = Math.max(...values);
  const powers = values.map((v) => Math.exp(v - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / sum);
};

/** Logits of tokens with ties, as they lie in memory: rows of `stride` numbers, with numbers beyond the experts that nobody may read. */
function logitsOf(tokens: number, experts: number, stride: number) {
  const rows = Array.from(
    { length: tokens },
    (_, t) => Array.from({ length: experts }, (_, e) => ((t * 5 + e * e * 3 + t * e) % 7) / 4),
  );
  const padding = Array(stride - experts).fill(100);
  return { rows, values: rows.flatMap((row) => [...row, ...padding]) };
}

const best = (row: readonly number[], k: number) =>
  Array.from(row.keys()).sort((a, b) => row[b]! - row[a]! || a - b).slice(0, k);

for (const software of [true, false]) {
  const device = software ? "software" : "tiled";
  Deno.test(`gate() keeps the best, the lower of equal ones, ${device}`, async () => {
    const gpu = await openTestGpu({ software });
    using inputs = new Inputs(gpu);
    const [tokens, experts, stride] = [29, 7, 8];
    const { rows, values } = logitsOf(tokens, experts, stride);
    assert(rows.some((row) => new Set(row).size < experts), "there are ties");
    const logits = inputs.tensor("logits", [tokens, stride], { values });
    const out: Record<string, Float32Array> = await runOnce(gpu, (plan) => {
      const of = (name: string, sizes: Parameters<typeof gate>[2]["sizes"]) => {
        const { index, keys, weight } = gate(plan, name, { sizes, logits });
        return { [`${name}.index`]: index, [`${name}.keys`]: keys, [`${name}.weight`]: weight };
      };
      return {
        ...of("top", { experts, top_k: 3, weight: "softmax" }),
        ...of("one", { experts, top_k: 1, weight: "probability" }),
        ...of("few", { experts, top_k: 4, weight: "softmax", top_p: 0.5 }),
        ...of("all", { experts, top_k: experts, weight: "softmax", top_p: 1 }),
      };
    });
    const counts = new Set<number>();
    rows.forEach((row, t) => {
      const p = softmax(row);
      const at = (name: string, k: number) => Array.from(out[name]!.subarray(t * k, (t + 1) * k));
      assertEquals(at("top.index", 3), best(row, 3));
      const top = softmax(best(row, 3).map((e) => row[e]!));
      assertNear(at("top.weight", 3), top, { tolerance: 1e-6, what: "softmax" });
      const [first] = best(row, 1);
      assertEquals(at("one.index", 1), [first]);
      assertNear(at("one.weight", 1), [p[first!]!], { tolerance: 1e-6, what: "probability" });
      let before = 0;
      const kept = best(row, 4).filter((e, j) => {
        const keeps = j === 0 || before < 0.5;
        before += p[e]!;
        return keeps;
      });
      counts.add(kept.length);
      assertEquals(at("few.index", 4), best(row, 4));
      const padded = (values: number[], value: number) =>
        Array.from({ length: 4 }, (_, j) => values[j] ?? value);
      assertEquals(at("few.keys", 4), padded(kept, experts));
      const few = padded(softmax(kept.map((e) => row[e]!)), 0);
      assertNear(at("few.weight", 4), few, { tolerance: 1e-6, what: "dynamic" });
      assertEquals(at("all.index", experts), best(row, experts));
    });
    assert(counts.size > 1, "tokens keep different numbers of experts");
  });
}

Deno.test("gate() keeps one expert at least, and as many as it may where one is never enough", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  // One expert is certain; all are alike.
  const values = [0, 50, 0, 0, 1, 1, 1, 1];
  const logits = inputs.tensor("logits", [2, 4], { values });
  const { keys, weight } = await runOnce(gpu, (plan) => {
    const sizes = { experts: 4, top_k: 3, weight: "softmax", top_p: 0.9 } as const;
    const { keys, weight } = gate(plan, "gate", { sizes, logits });
    return { keys, weight };
  });
  assertEquals(Array.from(keys), [1, 4, 4, 0, 1, 2]);
  assertNear(weight, [1, 0, 0, 1 / 3, 1 / 3, 1 / 3], { tolerance: 1e-6, what: "weights" });
  assertThrows(
    () =>
      gate(new Plan(gpu, "test"), "g", {
        sizes: { experts: 4, top_k: 2, weight: "probability" },
        logits,
      }),
    RangeError,
    "g: a weight that is a probability is of 1 expert, not 2",
  );
});

Deno.test("the gate's gradients are those of the weights and of the balance term, given or chosen", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const [tokens, experts, stride, coefficient] = [23, 5, 8, 0.3];
  const { rows, values } = logitsOf(tokens, experts, stride);
  const logits = inputs.tensor("logits", [tokens, stride], { values });
  for (
    const sizes of [
      { experts, top_k: 2, weight: "softmax" },
      { experts, top_k: 1, weight: "probability" },
      { experts, top_k: 3, weight: "softmax", top_p: 0.5 },
    ] as const
  ) {
    const { top_k } = sizes;
    const drops = "top_p" in sizes;
    const dw = noise(tokens * top_k, 3);
    const dweight = inputs.tensor("dweight", [tokens, top_k], { values: dw });
    const run = (given?: Tensor) =>
      runOnce(gpu, (plan) => {
        const gated = gate(plan, "gate", { sizes, logits, given });
        const { sorted: { begin } } = segmentsOf(plan, "s", {
          keys: gated.keys,
          experts,
          drops,
          gradients: true,
          dtype: "f32",
        });
        const common = { sizes, logits, gated, dweight };
        return {
          keys: gated.keys,
          value: gateBalance(plan, "gate", { experts, logits, begin, coefficient }),
          weight: gated.weight,
          alone: gateBackward(plan, "alone", common),
          both: gateBackward(plan, "both", {
            ...common,
            balance: { factor: coefficient, begin },
          }),
        };
      });
    const out = await run();
    const kept = Array.from(out.keys).filter((e) => e < experts);
    const share = Array.from(
      { length: experts },
      (_, e) => kept.filter((k) => k === e).length / kept.length,
    );
    let balance = 0;
    const expected = { alone: [] as number[], both: [] as number[] };
    rows.forEach((row, t) => {
      const p = softmax(row);
      const of = Array.from(out.keys.subarray(t * top_k, (t + 1) * top_k));
      const gradients = Array.from(dw.subarray(t * top_k, (t + 1) * top_k));
      const along = p.reduce((sum, v, e) => sum + v * share[e]!, 0);
      balance += coefficient * experts * along / tokens;
      const weights = sizes.weight === "probability"
        ? [p[of[0]!]!]
        : softmax(of.map((e) => row[e] ?? -Infinity));
      const mean = weights.reduce((sum, w, j) => sum + w * gradients[j]!, 0);
      const alone = p.map((probability, e) => {
        if (sizes.weight === "probability") {
          return weights[0]! * gradients[0]! * ((e === of[0] ? 1 : 0) - probability);
        }
        const j = of.indexOf(e);
        return j < 0 ? 0 : weights[j]! * (gradients[j]! - mean);
      });
      const both = alone.map((v, e) =>
        v + coefficient * experts / tokens * p[e]! * (share[e]! - along)
      );
      expected.alone.push(...alone, 0, 0, 0);
      expected.both.push(...both, 0, 0, 0);
    });
    assertNear(out.value, [balance], { tolerance: 1e-6, what: "balance" });
    for (const name of ["alone", "both"] as const) {
      assertNear(out[name], expected[name], { tolerance: 2e-6, what: name });
    }
    // The same choice, given, gives the same numbers.
    const given = inputs.tensor("given", [tokens, top_k], { values: out.keys, dtype: "u32" });
    const again = await run(given);
    for (const name of ["value", "weight", "alone", "both"] as const) {
      assertNear(again[name], out[name], { tolerance: 1e-6, what: `${name}, given` });
    }
  }
});

for (const [software, dtype] of [[true, "f32"], [true, "f16"], [false, "f16"]] as const) {
  const name = `${dtype}, ${software ? "software" : "tiled"}`;
  Deno.test(`rows go to their experts and back, ${name}`, async () => {
    const gpu = await openTestGpu({ software });
    using inputs = new Inputs(gpu);
    const [tokens, top_k, experts, width] = [9, 3, 6, 12];
    // Expert 4 gets nothing; some slots keep none.
    const keys = Array.from({ length: tokens * top_k }, (_, i) => [0, 5, 6, 2, 1, 3, 6][i % 7]!);
    const half = (values: Float64Array) =>
      dtype === "f16" ? Float64Array.from(Float16Array.from(values)) : values;
    const of = (name: string, shape: number[], seed: number, type: DType = "f32") => {
      const raw = noise(shape.reduce((a, b) => a * b), seed);
      const values = type === "f16" ? half(raw) : raw;
      return { values, tensor: inputs.tensor(name, shape, { values, dtype: type }) };
    };
    const x = of("x", [tokens, width], 1, dtype);
    const dy = of("dy", [tokens, width], 2);
    const residual = of("residual", [tokens, width], 3);
    const weight = of("weight", [tokens, top_k], 4);
    const bias = of("bias", [experts, width], 5);
    const before = of("before", [experts, width], 6);
    const kept = inputs.tensor("keys", [tokens, top_k], { values: keys, dtype: "u32" });
    const gated = { index: kept, keys: kept, weight: weight.tensor };
    const names = ["tanh", "exact"] as const;
    const out: Record<string, Float32Array> = await runOnce(gpu, (plan) => {
      const segments = segmentsOf(plan, "s", {
        keys: kept,
        experts,
        drops: true,
        gradients: true,
        dtype,
      });
      const { groups } = segments;
      const rows = (name: string) => plan.tensor(name, [groups.rows, width], { dtype });
      const [gathered, spread] = [rows("gathered"), rows("spread")];
      gatherRows(plan, "gather", { segments, x: x.tensor, out: gathered });
      gatherRows(plan, "spread", {
        segments,
        x: dy.tensor,
        out: spread,
        weight: weight.tensor,
      });
      const y = plan.tensor("y", [tokens, width]);
      const back = { segments, rows: gathered, gated, bias: bias.tensor };
      combineRows(plan, "y", { ...back, y, residual: residual.tensor });
      const plain = plan.tensor("plain", [tokens, width]);
      combineRows(plan, "plain", { segments, rows: gathered, y: plain });
      const written = plan.tensor("written", [experts, width]);
      const target = { tensor: written, epilogue: "none" } as const;
      groupSums(plan, "written", { segments, rows: spread, target });
      const added = { tensor: before.tensor, epilogue: "accumulate" } as const;
      groupSums(plan, "added", { segments, rows: spread, target: added });
      const activated = names.flatMap((form) => {
        const [h, slope] = [rows(`h.${form}`), rows(`slope.${form}`)];
        const common = { groups, gelu: form, x: gathered, bias: bias.tensor };
        biasedGelu(plan, form, { ...common, h });
        biasedGeluBackward(plan, form, { ...common, dh: spread, dx: slope });
        return [[`h.${form}`, h], [`slope.${form}`, slope]] as const;
      });
      return {
        place: segments.place,
        gathered,
        spread,
        y,
        plain,
        written,
        added: before.tensor,
        dweight: weightGradient(plan, "dweight", { ...back, dy: dy.tensor }),
        ...Object.fromEntries(activated),
      };
    });
    const tolerance = dtype === "f16" ? 1e-3 : 2e-6;
    const near = (name: string, expected: ArrayLike<number>, within = tolerance) =>
      assertNear(out[name]!, expected, { tolerance: within, what: name });
    const place = Array.from(out["place"]!);
    assertEquals(place.map((row) => row < 1e9), keys.map((key) => key < experts));
    const entries = keys.flatMap((key, i) => key < experts ? [i] : []);
    assertEquals(new Set(entries.map((i) => place[i])).size, entries.length);
    const row = (values: ArrayLike<number>, r: number) =>
      Array.from({ length: width }, (_, c) => values[r * width + c]!);
    const tokenOf = (i: number) => Math.floor(i / top_k);
    const size = out["gathered"]!.length;
    const rowsOf = (of: (i: number, c: number) => number) => {
      const all = new Float64Array(size);
      for (const i of entries) {
        for (let c = 0; c < width; c++) all[place[i]! * width + c] = of(i, c);
      }
      return all;
    };
    near("gathered", rowsOf((i, c) => x.values[tokenOf(i) * width + c]!), 0);
    const slope = (i: number, c: number) => weight.values[i]! * dy.values[tokenOf(i) * width + c]!;
    near("spread", rowsOf(slope));
    const y = residual.values.slice();
    const plain = new Float64Array(tokens * width);
    const sums = new Float64Array(experts * width);
    const dweight = new Float64Array(tokens * top_k);
    for (const i of entries) {
      for (let c = 0; c < width; c++) {
        const at = tokenOf(i) * width + c;
        const biased = x.values[at]! + bias.values[keys[i]! * width + c]!;
        y[at]! += weight.values[i]! * biased;
        plain[at]! += x.values[at]!;
        sums[keys[i]! * width + c]! += slope(i, c);
        dweight[i]! += dy.values[at]! * biased;
      }
    }
    near("y", y, 2e-6);
    near("plain", plain, 2e-6);
    near("dweight", dweight, 2e-6);
    near("written", sums);
    near("added", sums.map((v, i) => v + before.values[i]!));
    assertEquals(row(out["written"]!, 4), Array(width).fill(0));
    // Padding may hold an activation of the bias: rows of entries are what counts.
    const forms = {
      tanh: [gelu, geluDerivative],
      exact: [geluExact, geluExactDerivative],
    } as const;
    for (const name of names) {
      const [value, derivative] = forms[name];
      for (const i of entries) {
        const biased = row(x.values, tokenOf(i)).map((v, c) =>
          v + bias.values[keys[i]! * width + c]!
        );
        const what = `${name} of entry ${i}`;
        const within = Math.max(tolerance, 2e-6);
        assertNear(row(out[`h.${name}`]!, place[i]!), biased.map(value), {
          tolerance: within,
          what,
        });
        const expected = biased.map((v, c) => slope(i, c) * derivative(v));
        assertNear(row(out[`slope.${name}`]!, place[i]!), expected, {
          tolerance: 2 * within,
          what: `slope of ${what}`,
        });
      }
    }
  });
}

Deno.test("exact gelu keeps its digits over its whole range", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const count = 4096;
  const values = Float32Array.from({ length: count }, (_, i) => (i - count / 2) / count * 30);
  const keys = inputs.tensor("keys", [count / 4, 1], { dtype: "u32" });
  const out = await runOnce(gpu, (plan) => {
    const { groups, ...segments } = segmentsOf(plan, "s", {
      keys,
      experts: 1,
      drops: false,
      gradients: true,
      dtype: "f32",
    });
    const tensor = (name: string) => plan.tensor(name, [groups.rows, 4]);
    const [x, ones, h, dx] = [tensor("x"), tensor("ones"), tensor("h"), tensor("dx")];
    const source = inputs.tensor("source", [count / 4, 4], { values });
    const one = inputs.tensor("one", [count / 4, 4], { values: Array(count).fill(1) });
    gatherRows(plan, "x", { segments: { groups, ...segments }, x: source, out: x });
    gatherRows(plan, "ones", { segments: { groups, ...segments }, x: one, out: ones });
    biasedGelu(plan, "h", { groups, gelu: "exact", x, h });
    biasedGeluBackward(plan, "dx", { groups, gelu: "exact", x, dh: ones, dx });
    return { h, dx };
  });
  values.forEach((v, i) => {
    assert(Math.abs(out.h[i]! - geluExact(v)) <= 1e-6 * Math.max(1, Math.abs(v)), `gelu(${v})`);
    assert(Math.abs(out.dx[i]! - geluExactDerivative(v)) <= 1e-6, `slope at ${v}`);
  });
});

Deno.test("matrices of any number of columns are products' operands and results", async () => {
  const gpu = await openTestGpu();
  for (const columns of [1, 3, 4, 7]) {
    using inputs = new Inputs(gpu);
    const [rows, inner] = [5, 12];
    const x = noise(rows * inner, 1);
    const w = noise(inner * columns, 2);
    const dy = noise(rows * columns, 3);
    const a = inputs.tensor("a", [rows, inner], { values: x });
    const b = inputs.tensor("b", [inner, columns], { values: w });
    const g = inputs.tensor("g", [rows, columns], { values: dy });
    const tensors = (["none", "accumulate"] as const).map((epilogue) => ({
      epilogue,
      tensor: inputs.tensor(epilogue, [inner, columns], { values: w }),
    }));
    const out: Record<string, Float32Array> = await runOnce(gpu, (plan) => {
      const padded = padColumns(plan, "b", b);
      assertEquals([padded.columns, padded.stride % 4], [columns, 0]);
      const c = plan.tensor("c", [rows, padded.stride]);
      gemm(plan, "c", { a, b: padded, c: { ...padded, tensor: c, rows } });
      for (const target of tensors) {
        intoColumns(
          plan,
          target.epilogue,
          target,
          (c, epilogue) =>
            gemm(plan, "d", { a, b: padColumns(plan, "g", g), c, layout: "tn", epilogue }),
        );
      }
      return { c, none: tensors[0]!.tensor, accumulate: tensors[1]!.tensor };
    });
    const stride = out["c"]!.length / rows;
    const product = Array.from({ length: rows * stride }, (_, i) => {
      const [r, c] = [Math.floor(i / stride), i % stride];
      let sum = 0;
      for (let k = 0; c < columns && k < inner; k++) sum += x[r * inner + k]! * w[k * columns + c]!;
      return sum;
    });
    assertNear(out["c"]!, product, { tolerance: 1e-6, what: `${columns} columns` });
    const gradient = Array.from({ length: inner * columns }, (_, i) => {
      const [k, c] = [Math.floor(i / columns), i % columns];
      let sum = 0;
      for (let r = 0; r < rows; r++) sum += x[r * inner + k]! * dy[r * columns + c]!;
      return sum;
    });
    assertNear(out["none"]!, gradient, { tolerance: 1e-6, what: "written" });
    const added = gradient.map((v, i) => v + w[i]!);
    assertNear(out["accumulate"]!, added, { tolerance: 1e-6, what: "added" });
  }
});
