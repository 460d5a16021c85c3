import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { matrix, row } from "./matrix.ts";
import { rotaryFrequencies, rotate } from "./rotary.ts";

function assertNumbers(actual: ArrayLike<number>, expected: number[]): void {
  assertEquals(actual.length, expected.length);
  expected.forEach((v, i) => assertAlmostEquals(actual[i]!, v, 1e-12));
}

Deno.test("rotaryFrequencies() falls with the base and divides what the scaling says", () => {
  assertNumbers(rotaryFrequencies(4, {}), [1, 0.01]);
  assertNumbers(rotaryFrequencies(6, { base: 1000 }), [1, 0.1, 0.01]);
  const linear = { type: "linear", factor: 4 } as const;
  assertNumbers(rotaryFrequencies(6, { base: 1000, scaling: linear }), [0.25, 0.025, 0.0025]);
  // Turns of 20, 2 and 0.2 over the original length: above, between and below the factors.
  const llama3 = {
    type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 40 * Math.PI,
  } as const;
  assertNumbers(rotaryFrequencies(6, { base: 1000, scaling: llama3 }), [
    1,
    0.1 * (2 / 3 / 8 + 1 / 3),
    0.01 / 8,
  ]);
});

Deno.test("rotate() turns a fraction of a head, the first row not at all", () => {
  const u = matrix(2, 5, Float64Array.of(1, 2, 3, 4, 5, 1, 0, 3, 4, 5));
  const rotated = rotate(u, 1, { fraction: 0.5 });
  assertEquals(row(rotated, 0), row(u, 0));
  assertNumbers(row(rotated, 1), [Math.cos(1), Math.sin(1), 3, 4, 5]);
  assertNumbers(rotate(rotated, -1, { fraction: 0.5 }).data, Array.from(u.data));
  assertThrows(() => rotate(u, 1), RangeError, "5 is odd");
});
