/** Compressed forms unpack to the numbers that were packed, and name what does not fit. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { randomGrid, randomPruned } from "./compressed_testing.ts";
import { packedWords } from "./bits.ts";
import {
  checkCompressed,
  compressedBytes,
  type CompressedMatrix,
  type Compression,
  type PrunedWeights,
  type ValueType,
} from "./forms.ts";
import { packMatrix, unpackMatrix } from "./pack.ts";

const valueTypes: fc.Arbitrary<ValueType> = fc.oneof(
  fc.constantFrom<ValueType[]>({ kind: "f32" }, { kind: "f16" }),
  fc.record({ bits: fc.integer({ min: 2, max: 8 }), symmetric: fc.boolean() }).map((
    { bits, symmetric },
  ): ValueType => ({ kind: "levels", bits, lowest: symmetric ? 1 - 2 ** (bits - 1) : 0 })),
);

const cases = fc.record({
  outputs: fc.integer({ min: 1, max: 9 }),
  groups: fc.integer({ min: 1, max: 24 }),
  group: fc.integer({ min: 1, max: 17 }),
  zeros: fc.option(fc.integer({ min: 1, max: 17 }), { nil: undefined }),
  dead: fc.option(fc.integer({ min: 0, max: 6 }), { nil: undefined }),
  seed: fc.integer({ min: 0, max: 1000 }),
  values: valueTypes,
});

Deno.test("a packed matrix unpacks to the same numbers", () => {
  fc.assert(
    fc.property(cases, ({ outputs, groups, group, zeros, dead, seed, values }) => {
      const inputs = groups * group;
      const pattern = zeros === undefined ? undefined : [Math.min(zeros, group), group] as const;
      const grid = values.kind === "levels" ? randomGrid(outputs, { ...values, seed }) : undefined;
      const pruned = randomPruned({ outputs, inputs, pattern, values, seed, dead }, grid);
      const packed = packMatrix("w", pruned, { inputs, pattern, values });
      checkCompressed(packed, "w");
      const back = unpackMatrix(packed, { name: "w", grid });
      assertEquals(back.weight, pruned.weight);
      assertEquals(back.quantised?.level, pruned.quantised?.level);
      if (!pattern || dead === undefined) return assertEquals(back.mask, pruned.mask);
      // A pattern stores as many of each group, so some of what dead inputs had besides.
      assert(back.mask.every((v, i) => v <= pruned.mask[i]!));
    }),
    { numRuns: 300 },
  );
});

/** The bits of what a matrix stores, a number at a time, by the definition of the forms. */
function packedPlainly(
  { weight, mask, quantised }: PrunedWeights,
  { inputs, pattern, values }: Compression,
): { where: number[]; stored: number[] } {
  const where: number[] = [];
  const stored: number[] = [];
  const put = (words: number[], numbers: readonly number[], bits: number) => {
    const whole = numbers.reduce((sum, v, e) => sum | BigInt(v) << BigInt(e * bits), 0n);
    for (let w = 0; w < packedWords(numbers.length, bits); w++) {
      words.push(Number(whole >> BigInt(32 * w) & 0xffffffffn));
    }
  };
  for (let r = 0; r < weight.length / inputs; r++) {
    const kept = (c: number) => mask[r * inputs + c] === 0;
    const columns: number[] = [];
    for (let c = 0; c < inputs; c++) {
      if (kept(c)) columns.push(c);
      if (!pattern || (c + 1) % pattern[1] !== 0) continue;
      const [zeros, group] = pattern;
      const first = c + 1 - group;
      const own = columns.filter((c) => c >= first).length;
      const pruned = Array.from({ length: group }, (_, p) => first + p).filter((c) => !kept(c));
      columns.push(...pruned.slice(0, group - zeros - own));
      columns.sort((a, b) => a - b);
    }
    const at = (c: number) => r * inputs + c;
    if (pattern) put(where, columns.map((c) => c % pattern[1]), Math.ceil(Math.log2(pattern[1])));
    else put(where, Array.from({ length: inputs }, (_, c) => Number(kept(c))), 1);
    if (values.kind !== "levels") {
      const round = values.kind === "f16" ? Math.f16round : Math.fround;
      stored.push(...columns.map((c) => kept(c) ? round(weight[at(c)]!) : 0));
      continue;
    }
    const { level, zero } = quantised!;
    const codes = columns.map((c) => (kept(c) ? level[at(c)]! : zero[r]!) - values.lowest);
    put(stored, codes, values.bits);
  }
  return { where, stored };
}

Deno.test("a packed matrix has the bits that the definition of its form gives", () => {
  fc.assert(
    fc.property(cases, ({ outputs, groups, group, zeros, dead, seed, values }) => {
      const inputs = groups * group;
      const pattern = zeros === undefined ? undefined : [Math.min(zeros, group), group] as const;
      const grid = values.kind === "levels" ? randomGrid(outputs, { ...values, seed }) : undefined;
      const pruned = randomPruned({ outputs, inputs, pattern, values, seed, dead }, grid);
      // Numbers that halves do not hold, and some where nothing is kept.
      if (!grid) pruned.weight.forEach((v, i) => pruned.weight[i] = v * (1 + i / 4096) || i);
      const compression = { inputs, pattern, values };
      const packed = packMatrix("w", pruned, compression);
      const { where, stored } = packedPlainly(pruned, compression);
      assertEquals([...packed.form === "mask" ? packed.mask : packed.places], where);
      const { values: own } = packed;
      assertEquals([...own.kind === "levels" ? own.words : own.numbers], stored);
    }),
    { numRuns: 300 },
  );
});

Deno.test("a group stores its lowest pruned positions where it keeps fewer than the pattern", () => {
  const weight = Float32Array.of(0, 0, 5, 0, 0, 0, 0, 0);
  const mask = Uint8Array.of(1, 1, 0, 1, 1, 1, 1, 1);
  const packed = packMatrix("w", { weight, mask }, {
    inputs: 8,
    pattern: [2, 4],
    values: { kind: "f32" },
  });
  assertEquals(packed, {
    form: "pattern",
    outputs: 1,
    inputs: 8,
    zeros: 2,
    group: 4,
    places: Uint32Array.of(0b01_00_10_00),
    values: { kind: "f32", numbers: Float32Array.of(0, 5, 0, 0) },
  });
});

Deno.test("codes of a row begin with a word, low bits first, and may cross into the next", () => {
  // Eleven codes of three bits take 33 bits.
  const level = Int16Array.from({ length: 22 }, (_, i) => i % 7 - 3);
  const quantised = { scale: Float32Array.of(1, 2), zero: Float32Array.of(0, 0), level };
  const weight = Float32Array.from(level, (v, i) => v * (i < 11 ? 1 : 2));
  const packed = packMatrix("w", { weight, mask: new Uint8Array(22), quantised }, {
    inputs: 11,
    values: { kind: "levels", bits: 3, lowest: -3 },
  });
  const bitsOf = (first: number) =>
    Array.from({ length: 11 }, (_, e) => BigInt((first + e) % 7) << BigInt(3 * e))
      .reduce((sum, v) => sum | v, 0n);
  const words = [bitsOf(0), bitsOf(11)].flatMap((v) => [Number(v & 0xffffffffn), Number(v >> 32n)]);
  assert(packed.values.kind === "levels");
  assertEquals(Array.from(packed.values.words), words);
  assertEquals(packed.form === "mask" && Array.from(packed.mask), [0x7ff, 0x7ff]);
  assertEquals(compressedBytes(packed), 4 * (2 * packedWords(11, 3) + 2));
});

Deno.test("packing a large matrix takes seconds", () => {
  const [outputs, inputs] = [1024, 5120];
  const start = performance.now();
  const mask = Uint8Array.from({ length: outputs * inputs }, (_, i) => i & 1);
  const weight = new Float32Array(outputs * inputs);
  for (const pattern of [undefined, [2, 4]] as const) {
    packMatrix("w", { weight, mask }, { inputs, pattern, values: { kind: "f32" } });
  }
  // A matrix of 5120 × 20480 has twenty times as many weights.
  assert(performance.now() - start < 10_000);
});

Deno.test("packing and unpacking name what does not fit", () => {
  const weight = new Float32Array(8);
  const mask = new Uint8Array(8);
  const pack = (changes: Partial<Parameters<typeof packMatrix>[2]>, of = { weight, mask }) => () =>
    packMatrix("w", of, { inputs: 8, values: { kind: "f32" }, ...changes });
  assertThrows(pack({ inputs: 3 }), RangeError, "w: 8 weights and 8 marks do not make rows of 3");
  assertThrows(pack({ pattern: [2, 3] }), RangeError, "w: pattern is 2:3, expected N:M");
  assertThrows(pack({ pattern: [2, 4] }), RangeError, "row 0 keeps 4 of the inputs 0 to 3");
  const levels = { kind: "levels", bits: 2, lowest: -1 } as const;
  assertThrows(pack({ values: levels }), RangeError, "w has no levels");
  const quantised = {
    scale: Float32Array.of(1),
    zero: Float32Array.of(0),
    level: new Int16Array(8).fill(3, 5),
  };
  const graded = { weight, mask, quantised };
  assertThrows(
    pack({ values: levels }, graded),
    RangeError,
    "level of row 0, input 5 is 3, expected a whole number from -1 to 2",
  );
  assertThrows(pack({ values: { ...levels, bits: 9 } }, graded), RangeError, "bits is 9");
  const large = { weight: Float32Array.from(weight).fill(1e6, 2, 3), mask };
  assertThrows(pack({ values: { kind: "f16" } }, large), RangeError, "row 0, input 2 is 1000000");
  const half: CompressedMatrix = pack({}, { weight, mask: mask.map((_, i) => i & 1) })();
  assert(half.form === "mask");
  const check = (changes: object) => () => unpackMatrix({ ...half, ...changes }, { name: "w" });
  assertThrows(check({ mask: new Uint32Array(2) }), RangeError, "mask has 2 entries, expected 1");
  assertThrows(check({ mask: Uint32Array.of(0x155) }), RangeError, "bits beyond its 8 inputs");
  assertThrows(check({ mask: Uint32Array.of(1) }), RangeError, "values has 4 entries, expected 1");
  const zeroPoint = { ...quantised, zero: Float32Array.of(7), level: new Int16Array(8) };
  const most = { pattern: [2, 4], values: levels } as const;
  const pruned = { weight, mask: new Uint8Array(8).fill(1, 1), quantised: zeroPoint };
  assertThrows(
    pack(most, pruned),
    RangeError,
    "level of row 0, input 1 is 7, expected a whole number from -1 to 2",
  );
  for (const [number, fits] of [[65519.996, true], [65520, false], [-65520, false], [NaN, false]]) {
    const halves = pack({ values: { kind: "f16" } }, {
      weight: Float32Array.from(weight).fill(number as number, 2, 3),
      mask,
    });
    if (!fits) assertThrows(halves, RangeError, `row 0, input 2 is ${number}`);
    else assertEquals((halves().values as { numbers: Float16Array }).numbers[2], 65504);
  }
  const three = packMatrix("w", {
    weight: new Float32Array(6),
    mask: Uint8Array.of(0, 0, 1, 1, 0, 0),
  }, { inputs: 6, pattern: [1, 3], values: { kind: "f32" } });
  // The first group's places are 0 and 1; 0 twice, and 3, are none.
  for (const [places, expected] of [[0b10_01_00_00, 0], [0b10_01_11_00, 3]] as const) {
    assertThrows(
      () =>
        unpackMatrix({ ...three, places: Uint32Array.of(places) } as CompressedMatrix, {
          name: "w",
        }),
      RangeError,
      `w: place 1 of row 0 is ${expected} after 0, expected ascending places below 3`,
    );
  }
});
