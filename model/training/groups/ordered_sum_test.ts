import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { noise } from "../../ops/testing.ts";
import { connectedRanks } from "./groups_testing.ts";
import { OrderedSum } from "./ordered_sum.ts";
import { ALONE } from "./ranks.ts";

const SIZES = [7, 1, 130];

/** Numbers of a group's part, of all magnitudes, so that another order of additions gives other bits. */
function values(group: number, part: number): Float32Array {
  return Float32Array.from(
    noise(SIZES[part]!, 100 * group + part + 1),
    (v, i) => v * 2 ** ((7 * i + 5 * group) % 24),
  );
}

/** Totals of all parts in each of so many ranks. */
async function totals(size: number, groups: number): Promise<Float32Array[][]> {
  const own = groups / size;
  return await Promise.all(
    connectedRanks(size).map(async (ranks) => {
      const sum = new OrderedSum({ ranks, groups: own, sizes: SIZES });
      const found: Promise<Float32Array>[] = [];
      for (let group = 0; group < own; group++) {
        for (const part of SIZES.keys()) {
          sum.give(part, values(ranks.rank * own + group, part));
          if (group === own - 1) found.push(sum.total(part));
        }
      }
      const all = await Promise.all(found);
      const expected = ranks.rank === 0 || ranks.rank === size - 1 ? 1 : 2;
      assertEquals(ranks.sent, {
        messages: size === 1 ? 0 : expected * SIZES.length,
        bytes: size === 1 ? 0 : expected * 4 * SIZES.reduce((a, b) => a + b, 0),
      });
      return all.map((part) => part.slice());
    }),
  );
}

Deno.test("A sum has the order of its groups, whatever the ranks", async () => {
  const expected = SIZES.map((size, part) => {
    const sum = new Float32Array(size);
    for (let group = 0; group < 8; group++) {
      values(group, part).forEach((v, i) => sum[i] = Math.fround(sum[i]! + v));
    }
    return sum;
  });
  for (const size of [1, 2, 4, 8]) {
    for (const rank of await totals(size, 8)) assertEquals(rank, expected);
  }
  // The order matters: a sum by pairs has other bits.
  const pairs = [0, 2, 4, 6].map((group) =>
    values(group, 2).map((v, i) => v + values(group + 1, 2)[i]!)
  );
  const other = pairs.reduce((sum, pair) => sum.map((v, i) => v + pair[i]!));
  assertEquals(other.every((v, i) => v === expected[2]![i]), false);
});

Deno.test("A sum knows how many groups it has", async () => {
  const sum = new OrderedSum({ ranks: ALONE, groups: 2, sizes: [1] });
  sum.give(0, Float32Array.of(1));
  await assertRejects(() => sum.total(0), RangeError, "given by 1 of 2 groups");
  sum.give(0, Float32Array.of(2));
  assertThrows(() => sum.give(0, Float32Array.of(3)), RangeError, "all 2 groups");
  assertEquals(await sum.total(0), Float32Array.of(3));
  sum.give(0, Float32Array.of(5));
  sum.give(0, Float32Array.of(6));
  assertEquals(await sum.total(0), Float32Array.of(11));
});
