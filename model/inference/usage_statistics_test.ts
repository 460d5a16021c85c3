import { assertEquals } from "@std/assert";
import { usageHistograms } from "./usage_statistics.ts";

Deno.test("a histogram counts experts by their use, in even shares", () => {
  const of = (...counts: number[]) => ({
    layer: 3,
    counts: Uint32Array.from(counts),
    statistics: {},
  });
  // Eight experts share 64 slots: an even share is 8.
  const found = usageHistograms([of(0, 1, 2, 4, 8, 16, 32, 1)]);
  assertEquals(found, {
    "expert_use.layer3.le_0": 1,
    "expert_use.layer3.le_0.125": 2,
    "expert_use.layer3.le_0.25": 1,
    "expert_use.layer3.le_0.5": 1,
    "expert_use.layer3.le_1": 1,
    "expert_use.layer3.le_2": 1,
    "expert_use.layer3.le_4": 1,
    "expert_use.layer3.le_8": 0,
    "expert_use.layer3.le_inf": 0,
  });
  const hot = usageHistograms([of(...Array(15).fill(0), 5)]);
  assertEquals([hot["expert_use.layer3.le_0"], hot["expert_use.layer3.le_inf"]], [15, 1]);
  assertEquals(usageHistograms([of(0, 0)]), {});
});
