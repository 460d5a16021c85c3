import { assertEquals, assertThrows } from "@std/assert";
import { Plan } from "../../gpu/plan.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { Inputs, noise, runOnce } from "../testing.ts";
import { joinHeads, splitHeads } from "./heads.ts";

/** Numbers with which sums of a few are exact in f16. */
const exact = (count: number, seed: number) =>
  noise(count, seed).map((v) => Math.round(v * 32) / 32);

Deno.test("Products fall into heads, and their gradients back", async () => {
  const gpu = await openTestGpu();
  const rows = 5;
  for (const dtype of ["f32", "f16"] as const) {
    for (const [heads, kv_heads, d_head] of [[3, 3, 8], [6, 2, 12], [4, 1, 4]] as const) {
      using inputs = new Inputs(gpu);
      const groups = { heads, kv_heads, d_head };
      const width = (heads + 2 * kv_heads) * d_head;
      const values = exact(rows * width, 1);
      const biases = exact(width, 2);
      const qkv = inputs.tensor("qkv", [rows, width], { values, dtype });
      const bias = inputs.tensor("bias", [width], { values: biases });
      const tensor = (name: string, columns: number, seed?: number) =>
        inputs.tensor(name, [rows, columns], {
          dtype,
          ...(seed !== undefined && { values: exact(rows * columns, seed) }),
        });
      const q = tensor("q", heads * d_head);
      const copies = tensor("copies", 2 * heads * d_head);
      const plain = tensor("plain", heads * d_head);
      const kv = tensor("kv", 2 * kv_heads * d_head);
      const d_q = tensor("d_q", heads * d_head, 3);
      const d_kv = tensor("d_kv", 2 * heads * d_head, 4);
      const d_qkv = tensor("d_qkv", width);
      const out = await runOnce(gpu, (plan) => {
        splitHeads(plan, "split", { groups, qkv, bias, q, kv: copies });
        splitHeads(plan, "split", { groups, qkv, q: plain, kv });
        joinHeads(plan, "join", { groups, d_q, d_kv, d_qkv });
        return { q, copies, plain, kv, d_qkv };
      });
      const at = (part: number, h: number, d: number) =>
        part === 0 ? h * d_head + d : (heads + (part - 1) * kv_heads + h) * d_head + d;
      const value = (t: number, column: number, biased: boolean) =>
        values[t * width + column]! + (biased ? biases[column]! : 0);
      const gradient = new Float64Array(rows * width);
      const gradients = { q: exact(d_q.size, 3), kv: exact(d_kv.size, 4) };
      for (let t = 0; t < rows; t++) {
        for (let h = 0; h < heads; h++) {
          const g = Math.floor(h / (heads / kv_heads));
          for (let d = 0; d < d_head; d++) {
            const i = (t * heads + h) * d_head + d;
            assertEquals(out.q[i], value(t, at(0, h, d), true));
            assertEquals(out.plain[i], value(t, at(0, h, d), false));
            gradient[t * width + at(0, h, d)] = gradients.q[i]!;
            for (const part of [1, 2]) {
              const copy = ((t * heads + h) * 2 + part - 1) * d_head + d;
              const own = ((t * kv_heads + g) * 2 + part - 1) * d_head + d;
              assertEquals(out.copies[copy], value(t, at(part, g, d), true));
              assertEquals(out.kv[own], value(t, at(part, g, d), false));
              gradient[t * width + at(part, g, d)]! += gradients.kv[copy]!;
            }
          }
        }
      }
      assertEquals([...out.d_qkv], [...gradient]);
    }
  }
});

Deno.test("Heads that do not fit are named", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const plan = new Plan(gpu, "test");
  const [qkv, q, kv] = [["qkv", 64], ["q", 32], ["kv", 32]].map(([name, width]) =>
    inputs.tensor(name as string, [4, width as number])
  );
  const operands = { qkv: qkv!, q: q!, kv: kv! };
  const split = (groups: { heads: number; kv_heads: number; d_head: number }) => () =>
    splitHeads(plan, "split", { groups, ...operands });
  split({ heads: 4, kv_heads: 2, d_head: 8 })();
  assertThrows(split({ heads: 4, kv_heads: 3, d_head: 8 }), RangeError, "expected keys and values");
  assertThrows(split({ heads: 8, kv_heads: 2, d_head: 8 }), RangeError, "do not fit 8 heads of 8");
  assertThrows(
    () =>
      joinHeads(plan, "join", {
        groups: { heads: 4, kv_heads: 2, d_head: 8 },
        d_q: q!,
        d_kv: kv!,
        d_qkv: qkv!,
      }),
    RangeError,
    "kv is 32 wide, expected 64",
  );
});
