import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { drawRows, randomCentroids } from "./centroids.ts";
import { uniform } from "./uniform.ts";

const draw = (seed: number) => (index: number) => uniform(seed, index);

Deno.test("drawRows() draws each row about as often as any other", () => {
  const counts = new Array<number>(5).fill(0);
  for (let seed = 0; seed < 500; seed++) {
    const rows = drawRows({ rows: 5, count: 2, uniform: draw(seed), same: (a, b) => a === b });
    assertEquals(new Set(rows).size, 2);
    for (const row of rows) counts[row]!++;
  }
  assert(counts.every((count) => count > 150 && count < 250), `${counts}`);
});

Deno.test("drawRows() ends where there are too few different rows", () => {
  const same = (a: number, b: number) => a % 2 === b % 2;
  assertEquals(drawRows({ rows: 9, count: 2, uniform: draw(1), same }).length, 2);
  assertThrows(
    () => drawRows({ rows: 9, count: 3, uniform: draw(1), same }),
    RangeError,
    "192 draws of 9 rows found 2 different ones of 3",
  );
});

/** Components `[3, 2]`, turned by an angle in the plane that they span. */
function turned(angle: number) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  return {
    mean: new Float32Array(3),
    components: Float32Array.of(c, -s, 0, 0, s, c),
    variance: Float64Array.of(4, 4),
  };
}

Deno.test("random centroids are equally long, and do not depend on the axes", () => {
  const find = (angle: number) => randomCentroids(turned(angle), { clusters: 7, uniform: draw(3) });
  const found = find(0);
  for (let j = 0; j < 7; j++) {
    assertAlmostEquals(Math.hypot(found[2 * j]!, found[2 * j + 1]!), Math.sqrt(8), 1e-6);
  }
  assertEquals(new Set(found).size, 14);
  const other = find(1);
  for (let j = 0; j < 7; j++) {
    const [x, y] = [other[2 * j]!, other[2 * j + 1]!];
    assertAlmostEquals(Math.cos(1) * x - Math.sin(1) * y, found[2 * j]!, 1e-5);
  }
});

Deno.test("random centroids leave out what has no variance", () => {
  const pca = { ...turned(0), variance: Float64Array.of(1, 1e-9) };
  const found = randomCentroids(pca, { clusters: 4, uniform: draw(3) });
  for (let j = 0; j < 4; j++) {
    assertAlmostEquals(Math.abs(found[2 * j]!), 1, 1e-6);
    assertEquals(found[2 * j + 1]!, 0);
  }
});
