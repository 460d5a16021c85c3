import { assertEquals, assertThrows } from "@std/assert";
import { runPlan } from "../../gpu/build.ts";
import { Arena } from "../../gpu/memory.ts";
import { Plan } from "../../gpu/plan.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { download, upload } from "../../gpu/transfer.ts";
import { listedExperts, withoutExperts } from "./experts_without.ts";

Deno.test("withoutExperts() zeroes the scores of listed experts alone, of one number or several", async () => {
  const gpu = await openTestGpu();
  for (const [axes, capacity] of [[1, 9], [3, 5]] as const) {
    const [tokens, kept, ids] = [13, 5, 4];
    const index = Uint32Array.from(
      { length: tokens * kept * axes },
      (_, i) => (i * 7 + (i >> 2)) % ids + (i % axes) * ids,
    );
    const score = Float32Array.from({ length: tokens * kept }, (_, i) => 1 + i / 7);
    const expertAt = (i: number) => Array.from(index.subarray(i * axes, (i + 1) * axes));
    for (const chosen of [[], [expertAt(3)], [expertAt(11), expertAt(3), expertAt(2)]]) {
      const tensors = {
        index: new Tensor("index", [tokens, kept * axes], { dtype: "u32" }),
        score: new Tensor("score", [tokens, kept], {}),
        listed: new Tensor("listed", [capacity, axes], { dtype: "u32" }),
      };
      const arenas = Object.values(tensors).map((tensor) => new Arena(gpu, tensor.name, [tensor]));
      upload(gpu, tensors.index, index);
      upload(gpu, tensors.score, score);
      upload(gpu, tensors.listed, listedExperts(chosen, { capacity, axes }));
      const plan = new Plan(gpu, "without");
      withoutExperts(plan, "without", tensors);
      await runPlan(plan);
      const out = new Set(chosen.map(String));
      assertEquals(
        await download(gpu, tensors.score),
        score.map((value, i) => out.has(String(expertAt(i))) ? 0 : value),
      );
      for (const arena of arenas) arena.destroy();
    }
  }
  assertThrows(
    () => listedExperts([[1], [2]], { capacity: 1, axes: 1 }),
    RangeError,
    "room for 1 experts, got 2",
  );
});
