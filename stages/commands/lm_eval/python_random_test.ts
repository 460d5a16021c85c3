import { assertEquals, assertThrows } from "@std/assert";
import { PythonRandom } from "./python_random.ts";

// Expected values are Python 3's: random.Random(seed).random() and .sample(range(size), count).
Deno.test("PythonRandom draws what Python draws", () => {
  assertEquals(draw(0, 3), [0.8444218515250481, 0.7579544029403025, 0.420571580830845]);
  assertEquals(draw(1234, 3), [0.9664535356921388, 0.4407325991753527, 0.007491470058587191]);
  assertEquals(draw(4294967301, 3), [0.15727238718789782, 0.2824866316461999, 0.6044540318498407]);
  assertEquals(draw(99, 700).at(-1), 0.1557611565809286);
  assertEquals(sample(1234, 10, 4), [7, 1, 0, 9]);
  assertEquals(sample(1234, 21, 5), [14, 3, 0, 2, 1]);
  assertEquals(sample(7, 100, 5), [41, 19, 50, 83, 6]);
  assertEquals(sample(7, 100, 6), [41, 19, 50, 83, 6, 9]);
  assertEquals(sample(7, 1000, 30), [
    331,
    970,
    154,
    404,
    666,
    49,
    74,
    840,
    548,
    96,
    374,
    596,
    59,
    931,
    519,
    219,
    38,
    88,
    444,
    428,
    71,
    246,
    92,
    564,
    434,
    60,
    846,
    579,
    126,
    228,
  ]);
  assertEquals(sample(3, 85, 6), [30, 75, 69, 16, 47, 77]);
  assertEquals(sample(3, 86, 6), [30, 75, 69, 16, 47, 77]);
  assertThrows(() => sample(1, 2, 3), RangeError, "3 elements are to be drawn of 2");
});

function draw(seed: number, count: number): number[] {
  const random = new PythonRandom(seed);
  return Array.from({ length: count }, () => random.random());
}

function sample(seed: number, size: number, count: number): number[] {
  return new PythonRandom(seed).sample(Array.from({ length: size }, (_, i) => i), count);
}
