import { assert, assertEquals, assertThrows } from "@std/assert";
import { beamCodes } from "../../reference/ffn/beam.ts";
import { idCodes } from "./codes.ts";

Deno.test("idCodes() are the reference's codes, to the bit", () => {
  for (const [ids, width] of [[5, 8], [61, 4], [512, 32], [1000, 2], [16384, 12]] as const) {
    assertEquals(Float64Array.from(idCodes(ids, width)), beamCodes(ids, width).data);
  }
});

Deno.test("idCodes() start at one and zero, and turn once a period", () => {
  const width = 12;
  const codes = idCodes(100, width);
  assertEquals([...codes.subarray(0, width)], [...Array(6).fill(1), ...Array(6).fill(0)]);
  for (let id = 0; id < 100; id++) {
    const row = codes.subarray(id * width, (id + 1) * width);
    for (let j = 0; j < 6; j++) assert(Math.abs(Math.hypot(row[j]!, row[6 + j]!) - 1) < 1e-6);
    // Frequency 1 makes the first pair (1, 0) for every id, frequency 1/10 the last one again after ten.
    assert(Math.abs(row[0]! - 1) < 1e-6 && Math.abs(row[6]!) < 1e-4);
    if (id >= 10) assert(Math.abs(row[5]! - codes[(id - 10) * width + 5]!) < 1e-4);
  }
});

Deno.test("idCodes() refuses an odd width", () => {
  assertThrows(() => idCodes(4, 7), RangeError, "The width of an id's code is 7; it must be even");
  assertThrows(() => idCodes(4, 0), RangeError, "is 0");
});
