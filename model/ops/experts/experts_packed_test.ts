/** Dropped assignments: they come last, no expert's segment counts them, and no kernel goes round for them. */

import { assert, assertEquals } from "@std/assert";
import { openTestGpu, testDevices } from "../../gpu/testing.ts";
import { matrix, transpose } from "../gemm/matrix.ts";
import { sortByKey } from "../routing/sort.ts";
import { Inputs, noise, runOnce } from "../testing.ts";
import type { Generator, Kept } from "./experts.ts";
import { expertsFused, expertsFusedBackward } from "./experts_fused.ts";
import { expertsMaterialized, expertsMaterializedBackward } from "./experts_materialized.ts";
import { expertsNaive, expertsNaiveBackward } from "./experts_naive.ts";
import { packKept, unpackScores } from "./experts_packed.ts";

Deno.test("packKept() puts the experts of score 0 last, and no segment has them", async () => {
  const gpu = await openTestGpu();
  using inputs = new Inputs(gpu);
  const [tokens, per, experts] = [19, 7, 11];
  const index = Array.from({ length: tokens * per }, (_, i) => (i * i + 5 * i) % experts);
  // One token keeps all, one only its last.
  const weight = (token: number, j: number) =>
    token === 3 || (token === 4 ? j === per - 1 : (token * 5 + j * j) % 3 > 0) ? 0.25 + j / 8 : 0;
  const score = index.map((_, i) => weight(Math.floor(i / per), i % per));
  const kept = {
    index: inputs.tensor("index", [tokens, per], { values: index, dtype: "u32" }),
    score: inputs.tensor("score", [tokens, per], { values: score }),
  };
  const found = inputs.tensor("found", [tokens, per], { values: noise(tokens * per, 1) });
  const dscore = inputs.tensor("dscore", [tokens, per]);
  const out = await runOnce(gpu, (plan) => {
    const packed = packKept(plan, "packed", { kept, experts });
    const { begin } = sortByKey(plan, "sort", { keys: packed.index, bound: experts + 1 });
    unpackScores(plan, "dscore", { kept: packed, found, dscore });
    return { index: packed.index, score: packed.score, begin, found, dscore };
  });
  const gradients = new Array<number>(tokens * per).fill(0);
  for (let token = 0; token < tokens; token++) {
    const all = Array.from({ length: per }, (_, j) => token * per + j);
    const used = all.filter((i) => score[i] !== 0);
    const row = <T>(values: ArrayLike<T>) => all.map((i) => values[i]!);
    const dropped = <T>(value: T) => new Array<T>(per - used.length).fill(value);
    assertEquals(row(out.index), [...used.map((i) => index[i]!), ...dropped(experts)]);
    assertEquals(row(out.score), [...used.map((i) => Math.fround(score[i]!)), ...dropped(0)]);
    used.forEach((i, place) => gradients[i] = out.found[token * per + place]!);
  }
  assertEquals(Array.from(out.dscore), gradients);
  const rows = Array.from(
    { length: experts },
    (_, expert) => index.filter((of, i) => of === expert && score[i] !== 0).length,
  );
  assert(rows.reduce((sum, n) => sum + n, 0) < tokens * per);
  assertEquals(rows.map((_, expert) => out.begin[expert + 1]! - out.begin[expert]!), rows);
});

const DEVICES = testDevices([
  ["software", { software: true }],
  ["no subgroups", { software: false, subgroups: false }],
  ["subgroups", { software: false }],
]);
/** Experts that a round takes at most. */
const ROUND = 16;

for (const [device, restrict] of DEVICES) {
  for (const execution of ["fused", "materialized"] as const) {
    // Without subgroups, an assignment of a table has an invocation or eight of its own, which go no round.
    if (execution === "materialized" && device !== "subgroups") continue;
    for (const context of [false, true]) {
      const name = `${execution}${context ? ", context" : ""}, ${device}`;
      Deno.test(`kernels end where a token's kept experts do: ${name}`, async () => {
        const gpu = await openTestGpu(restrict);
        // So many tokens that each has one workgroup.
        const [tokens, per, experts, d_latent, d_hidden] = [67, 53, 31, 8, 12];
        const number = (token: number) => [1, 8, 17, 0][token % 4]!;
        // An expert of each round after the first without any: whoever computes it spreads its score.
        const trapped = (token: number, j: number) =>
          j > Math.ceil((number(token) + 1) / ROUND) * ROUND;
        const assignment = <T>(of: (token: number, j: number) => T) =>
          Array.from({ length: tokens * per }, (_, i) => of(Math.floor(i / per), i % per));
        const run = async (traps: boolean) => {
          using inputs = new Inputs(gpu);
          const kept: Kept = {
            index: inputs.tensor("index", [tokens, per], {
              values: assignment((token, j) =>
                j < number(token) || traps && trapped(token, j)
                  ? (7 * token + j) % experts
                  : experts
              ),
              dtype: "u32",
            }),
            score: inputs.tensor("score", [tokens, per], {
              values: assignment((token, j) =>
                j < number(token) ? 0.5 + j / 16 : traps && trapped(token, j) ? NaN : 0
              ),
            }),
            packed: {
              none: experts,
              place: inputs.tensor("place", [tokens, per], { dtype: "u32" }),
            },
          };
          const z = inputs.tensor("z", [experts, d_latent], {
            values: noise(experts * d_latent, 1),
          });
          const w1 = inputs.tensor("w1", [d_latent, d_hidden], {
            values: noise(d_latent * d_hidden, 2),
          });
          const width = context ? 2 * d_hidden : d_hidden;
          const generator: Generator = {
            z: [z],
            w1,
            tokens: inputs.tensor("x", [tokens, width], { values: noise(tokens * width, 3) }),
            context,
          };
          const dacc = inputs.tensor("dacc", [tokens, d_hidden], {
            values: noise(tokens * d_hidden, 4),
          });
          const gradient = (name: string, shape: readonly number[]) => ({
            tensor: inputs.tensor(name, shape),
            epilogue: "none" as const,
          });
          const dscore = inputs.tensor("dscore", [tokens, per]);
          // Segments never have the traps: only the kernels that go over a token's experts are tested.
          const keys = inputs.tensor("keys", [tokens, per], {
            values: assignment((token, j) =>
              j < number(token) ? (7 * token + j) % experts : experts
            ),
            dtype: "u32",
          });
          return await runOnce(gpu, (plan) => {
            const operands = { generator, kept, dtype: "f32" } as const;
            const forward = execution === "fused"
              ? { acc: expertsFused(plan, "experts", operands) }
              : expertsMaterialized(plan, "experts", operands);
            const backward = execution === "fused"
              ? expertsFusedBackward
              : expertsMaterializedBackward;
            const gradients = {
              z: [gradient("dz", z.shape)],
              w1: gradient("dw1", w1.shape),
            };
            const dx = backward(plan, "experts", {
              ...forward,
              ...operands,
              sorted: sortByKey(plan, "sort", { keys, bound: experts + 1 }),
              dacc,
              dscore,
              gradients,
            });
            return { acc: forward.acc, dx, dz: gradients.z[0]!.tensor, dw1: gradients.w1.tensor };
          });
        };
        const [plain, traps] = [await run(false), await run(true)];
        assertEquals(traps, plain);
        // A token that keeps none has a sum of nothing, the others one of numbers.
        const row = (token: number) => plain.acc.subarray(token * d_hidden, (token + 1) * d_hidden);
        assert(row(3).every((v) => v === 0));
        for (const token of [0, 1, 2]) assert(row(token).some((v) => v !== 0));
        assert(plain.dw1.every(Number.isFinite));
      });
    }
  }
}

Deno.test("naive experts form zeros, not what memory holds, where a token keeps none", async () => {
  const gpu = await openTestGpu();
  // Two parts of the codes, of which the first writes the zeros.
  const [tokens, per, d_latent, d_context, d_hidden, width] = [13, 5, 8, 4, 12, 20];
  const [counts, experts] = [[7, 6], 13];
  const number = (token: number) => token % (per + 1);
  const codes = [tokens * per, d_latent + d_context];
  const run = async (poisoned: boolean) => {
    using inputs = new Inputs(gpu);
    const filled = (name: string, shape: readonly number[], seed: number) =>
      inputs.tensor(name, shape, { values: noise(shape.reduce((a, b) => a * b), seed) });
    const zeros = (name: string, shape: readonly number[]) => ({
      tensor: inputs.tensor(name, shape),
      epilogue: "none" as const,
    });
    const assignment = (of: (token: number, j: number) => number) =>
      Array.from({ length: tokens * per }, (_, i) => of(Math.floor(i / per), i % per));
    const kept: Kept = {
      index: inputs.tensor("index", [tokens, per], {
        values: assignment((token, j) =>
          j < number(token) ? (3 * token + 5 * j) % experts : experts
        ),
        dtype: "u32",
      }),
      score: inputs.tensor("score", [tokens, per], {
        values: assignment((token, j) => j < number(token) ? 0.5 + j / 16 : 0),
      }),
      packed: { none: experts, place: inputs.tensor("place", [tokens, per], { dtype: "u32" }) },
    };
    const common = {
      z: counts.map((count, i) => filled(`z.${i}`, [count, d_latent], 1 + i)),
      w1: filled("w1", [d_latent + d_context, d_hidden], 3),
      w_u: filled("w_u", [width, d_hidden], 4),
      w_v: filled("w_v", [d_hidden, width], 5),
      x: filled("x", [tokens, width], 6),
      code: filled("code", [tokens, d_context], 7),
      kept,
      dtype: "f32" as const,
    };
    const y = inputs.tensor("y", [tokens, width]);
    const dx = inputs.tensor("dx", [tokens, width]);
    const dscore = inputs.tensor("dscore", [tokens, per]);
    const gradients = {
      z: counts.map((count, i) => zeros(`dz.${i}`, [count, d_latent])),
      w1: zeros("dw1", common.w1.shape),
      w_u: zeros("dw_u", common.w_u.shape),
      w_v: zeros("dw_v", common.w_v.shape),
    };
    const nothing = matrix(inputs.tensor("nothing", codes, {
      values: new Float64Array(codes[0]! * codes[1]!).fill(poisoned ? NaN : 0),
    }));
    return await runOnce(gpu, (plan) => {
      // Buffers that later tensors of that size get.
      const poison = () => transpose(plan, "poison", transpose(plan, "poison", nothing));
      poison();
      expertsNaive(plan, "experts", { ...common, y });
      poison();
      const dy = filled("dy", [tokens, width], 8);
      const dcode = expertsNaiveBackward(plan, "experts", {
        ...common,
        dy,
        dx,
        dscore,
        gradients,
      })!;
      return {
        ...{ y, dx, dscore, dcode },
        dz: gradients.z[1]!.tensor,
        dw1: gradients.w1.tensor,
        dw_u: gradients.w_u.tensor,
        dw_v: gradients.w_v.tensor,
      };
    });
  };
  const [plain, poisoned] = [await run(false), await run(true)];
  assertEquals(poisoned, plain);
  for (const values of Object.values(plain)) assert(values.every(Number.isFinite));
  assert(plain.y.some((v) => v !== 0));
});
