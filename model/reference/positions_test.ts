import { assertEquals, assertThrows } from "@std/assert";
import { matrix } from "./matrix.ts";
import { addPositions } from "./positions.ts";

Deno.test("addPositions() counts each sequence from its start", () => {
  const x = matrix(4, 1, Float64Array.of(1, 2, 3, 4));
  const table = matrix(3, 1, Float64Array.of(10, 20, 30));
  assertEquals(
    addPositions(x, table, { length: 2 }).data,
    Float64Array.of(11, 22, 13, 24),
  );
  assertEquals(
    addPositions(x, table, { length: 2, start: 1 }).data,
    Float64Array.of(21, 32, 23, 34),
  );
  assertThrows(
    () => addPositions(x, table, { length: 2, start: 2 }),
    RangeError,
    "A sequence of 2 tokens from position 2 needs 4 positions; the table has 3",
  );
});
