import fc from "fast-check";
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import {
  type Dtype,
  encodeSafetensors,
  parseSafetensors,
  SafetensorsFile,
  type TensorSource,
  toFloat64,
  writeSafetensors,
} from "./safetensors.ts";

const bytesOf: Record<Dtype, number> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};

/** Files of a few tensors of every dtype and rank, the names as strange as strings can be. */
const tensors = fc.uniqueArray(
  fc.record({
    name: fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("__proto__", "7", 'a"b:{', "é"))
      .filter((name) => name !== "__metadata__" && name.isWellFormed()),
    dtype: fc.constantFrom(...Object.keys(bytesOf) as Dtype[]),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
    seed: fc.integer({ min: 0, max: 255 }),
  }),
  { selector: ({ name }) => name, maxLength: 6 },
).map((list) =>
  list.map(({ name, dtype, shape, seed }) => {
    const length = bytesOf[dtype] * shape.reduce((a, b) => a * b, 1);
    const data = Uint8Array.from({ length }, (_, i) => (seed + 37 * i) & 0xff);
    return { name, dtype, shape, data };
  })
);
const metadata = fc.dictionary(
  fc.string({ unit: "binary" }).filter((s) => s.isWellFormed()),
  fc.string(),
);

async function withPath(work: (path: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await work(join(folder, "x.safetensors"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A file with this header, as text or as a value, and so many bytes of data. */
function file(header: unknown, dataLength: number): Uint8Array {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + json.length + dataLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

Deno.test("parseSafetensors() reads back what encodeSafetensors() wrote", () => {
  fc.assert(fc.property(tensors, metadata, (list, metadata) => {
    const parsed = parseSafetensors(encodeSafetensors(list, { metadata }));
    assertEquals({ ...parsed.metadata }, { ...metadata });
    assertEquals([...parsed.tensors.keys()].sort(), list.map(({ name }) => name).sort());
    for (const { name, dtype, shape, data } of list) {
      const tensor = parsed.tensors.get(name)!;
      assertEquals(tensor.dtype, dtype);
      assertEquals([...tensor.shape], shape);
      assertEquals(new Uint8Array(tensor.data.buffer), data);
    }
  }));
});

Deno.test("SafetensorsFile reads what writeSafetensors() streamed, whole and by ranges", async () => {
  await withPath(async (path) => {
    await fc.assert(
      fc.asyncProperty(tensors, fc.integer({ min: 1, max: 9 }), async (list, piece) => {
        const sources: TensorSource[] = list.map(({ data, ...rest }) => ({
          ...rest,
          async *data() {
            for (let i = 0; i < data.length; i += piece) {
              await Promise.resolve();
              yield data.subarray(i, i + piece);
            }
          },
        }));
        await writeSafetensors(path, sources);
        assertEquals(await Deno.readFile(path), encodeSafetensors(list));
        using opened = await SafetensorsFile.open(path);
        assertEquals(opened.tensors.size, list.length);
        for (const { name, data } of list) {
          assertEquals(new Uint8Array((await opened.read(name)).data.buffer), data);
          const offset = Math.floor(data.length / 3);
          const byteLength = Math.floor(data.length / 2);
          assertEquals(
            await opened.readBytes(name, { offset, byteLength }),
            data.slice(offset, offset + byteLength),
          );
        }
      }),
      { numRuns: 25 },
    );
  });
});

Deno.test("toFloat64() converts every kind of number", () => {
  const value = (dtype: Dtype, data: ArrayBufferView) => {
    const bytes = encodeSafetensors([{ name: "x", dtype, shape: [2], data }]);
    return [...toFloat64(parseSafetensors(bytes).tensors.get("x")!)];
  };
  assertEquals(value("F16", Float16Array.of(0.5, -2)), [0.5, -2]);
  assertEquals(value("BF16", Uint16Array.of(0x3f80, 0xc040)), [1, -3]);
  assertEquals(value("F32", Float32Array.of(0.25, 3)), [0.25, 3]);
  assertEquals(value("F64", Float64Array.of(0.1, 3)), [0.1, 3]);
  assertEquals(value("I64", BigInt64Array.of(-5n, 2n ** 40n)), [-5, 2 ** 40]);
  assertEquals(value("I8", Int8Array.of(-1, 1)), [-1, 1]);
  assertEquals(value("BOOL", Uint8Array.of(0, 1)), [0, 1]);
});

Deno.test("encodeSafetensors() aligns tensors and the data", () => {
  const bytes = encodeSafetensors([
    { name: "a", dtype: "U8", shape: [3], data: new Uint8Array(3) },
    { name: "b", dtype: "F64", shape: [1], data: new Float64Array(1) },
  ]);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  assertEquals(length % 8, 0);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  assertEquals(header.b.data_offsets, [0, 8]);
  assertEquals(header.a.data_offsets, [8, 11]);
});

const f32 = (begin: number, end: number, shape = [(end - begin) / 4]) => ({
  dtype: "F32",
  shape,
  data_offsets: [begin, end],
});

const malformed: [string, Uint8Array, string][] = [
  ["an empty file", new Uint8Array(0), "0 bytes, too few"],
  ["a header longer than the file", file({}, 0).fill(9, 0, 1), "is it truncated?"],
  ["a huge header", file({}, 0).fill(255, 0, 8), "at most 100000000"],
  ["no JSON", file("{", 0), "header is not JSON"],
  ["invalid UTF-8", file({}, 0).fill(255, 8), "header is not JSON"],
  ["a list", file([], 0), "not an object"],
  ["missing bytes", file({ x: f32(0, 8) }, 4), "is it truncated?"],
  ["extra bytes", file({ x: f32(0, 8) }, 9), "end at byte"],
  ["an overlap", file({ x: f32(0, 8), y: f32(4, 12) }, 12), '"y" begins at 4, overlapping'],
  ["a hole", file({ x: f32(0, 4), y: f32(8, 12) }, 12), '"y" begins at 8, leaving a hole'],
  ["a wrong shape", file({ x: f32(0, 8, [3]) }, 8), "F32 of shape [3] takes 12"],
  ["a negative size", file({ x: f32(0, 8, [-2, -1]) }, 8), "expected a list of sizes"],
  ["an overflowing shape", file({ x: f32(0, 8, [2 ** 40, 2 ** 40]) }, 8), "takes"],
  ["offsets backwards", file({ x: f32(8, 0, [2]) }, 8), "has -8 bytes"],
  ["strange offsets", file({ x: { ...f32(0, 8), data_offsets: [0] } }, 8), "expected [begin, end]"],
  ["an unknown dtype", file({ x: { ...f32(0, 8), dtype: "F7" } }, 8), 'dtype "F7"; known are'],
  ["an inherited dtype", file({ x: { ...f32(0, 8), dtype: "toString" } }, 8), "known are"],
  ["no entry", file({ x: null }, 0), "has the dtype undefined"],
  [
    "a repeated name",
    file(`{"x":${JSON.stringify(f32(0, 4))},"y":{},"x" :${JSON.stringify(f32(0, 4))}}`, 4),
    '"x" is there twice',
  ],
  ["metadata that is no text", file({ __metadata__: { a: 1 } }, 0), "not an object of strings"],
];

for (const [what, bytes, expected] of malformed) {
  Deno.test(`parseSafetensors() and open() refuse ${what}`, async () => {
    assertThrows(() => parseSafetensors(bytes, "bad.file"), SyntaxError, expected);
    assertThrows(() => parseSafetensors(bytes, "bad.file"), SyntaxError, "bad.file is not a valid");
    await withPath(async (path) => {
      await Deno.writeFile(path, bytes);
      await assertRejects(() => SafetensorsFile.open(path), SyntaxError, expected);
    });
  });
}

Deno.test("parseSafetensors() never does worse than an error on damaged files", () => {
  const whole = encodeSafetensors([
    { name: "x", dtype: "F32", shape: [2, 2], data: new Float32Array(4) },
    { name: "y", dtype: "I32", shape: [1], data: new Int32Array(1) },
  ], { metadata: { a: "b" } });
  const damage = fc.tuple(
    fc.integer({ min: 0, max: whole.length - 1 }),
    fc.integer({ min: 0, max: 255 }),
    fc.integer({ min: 0, max: whole.length }),
  );
  fc.assert(
    fc.property(damage, ([at, value, keep]) => {
      try {
        parseSafetensors(whole.with(at, value).subarray(0, keep));
      } catch (error) {
        assertEquals(error instanceof SyntaxError, true);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("SafetensorsFile names what it has not", async () => {
  await withPath(async (path) => {
    const data = Float32Array.of(1, 2);
    await writeSafetensors(path, [{ name: "x", dtype: "F32", shape: [2], data }]);
    using opened = await SafetensorsFile.open(path);
    await assertRejects(() => opened.read("y"), RangeError, "has no tensor y");
    await assertRejects(
      () => opened.readBytes("x", { offset: 4, byteLength: 8 }),
      RangeError,
      "Bytes 4 to 12 of x",
    );
  });
});

Deno.test("writeSafetensors() refuses what does not fit, and leaves no file behind", async () => {
  const good: TensorSource = { name: "a", dtype: "F32", shape: [1], data: new Float32Array(1) };
  const stream = (count: number): TensorSource => ({
    ...good,
    name: "b",
    data: () => Array.from({ length: count }, () => new Uint8Array(1)),
  });
  const failing: TensorSource = {
    ...good,
    name: "b",
    data: () => {
      throw new Error("The device was lost");
    },
  };
  const cases: [TensorSource[], string][] = [
    [[good, good], 'two tensors of the name "a"'],
    [[{ ...good, name: "__metadata__" }], "two tensors of the name"],
    [[{ ...good, shape: [2] }], "takes 8 bytes, got 4"],
    [[{ ...good, shape: [-1] }], "impossible shape [-1]"],
    [[good, stream(3)], "takes 4 bytes, got 3"],
    [[good, stream(5)], "takes 4 bytes, got 5"],
    [[good, failing], "The device was lost"],
  ];
  await withPath(async (path) => {
    for (const [sources, expected] of cases) {
      await assertRejects(() => writeSafetensors(path, sources), Error, expected);
      await assertRejects(() => Deno.stat(path), Deno.errors.NotFound);
    }
  });
});
