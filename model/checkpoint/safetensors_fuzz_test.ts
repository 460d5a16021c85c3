/** Any bytes at all in the place of a safetensors file: a sentence that names the file, or a valid file. */

import fc from "fast-check";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { elementBytes } from "./safetensors_header.ts";
import { encodeSafetensors, parseSafetensors, SafetensorsFile } from "./safetensors.ts";

const WHERE = "/x/model.safetensors";

/** A file with this header and so many bytes of data; `length` stands in the place of the header's length. */
function file(header: string, data: number, length?: bigint): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + json.length + data);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

const size = fc.oneof(
  fc.integer({ min: 0, max: 6 }),
  fc.constantFrom(-1, 0.5, 2 ** 31, 2 ** 53 - 1, 2 ** 53, 1e300, -0),
);
const offset = fc.oneof(fc.integer({ min: 0, max: 40 }), size);
const entry = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      dtype: fc.constantFrom(...Object.keys(elementBytes), "F8", "toString"),
      shape: fc.array(size, { maxLength: 4 }),
      data_offsets: fc.oneof(fc.tuple(offset, offset), fc.array(offset, { maxLength: 3 })),
    }, { requiredKeys: [] }),
  },
  { weight: 1, arbitrary: fc.jsonValue() },
);
const name = fc.oneof(
  fc.constantFrom("a", "b", "__proto__", "__metadata__", "constructor", 'a"b', "new\nline"),
  fc.string({ maxLength: 4 }),
);
/** A list of keys, so that some are there twice. */
const header = fc.array(fc.tuple(name, entry), { maxLength: 4 }).map((entries) =>
  `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`
);
/** Entries that fit one another, so that much of what is made is valid, with one number changed or none. */
const nearlyValid = fc.record({
  tensors: fc.array(
    fc.record({
      dtype: fc.constantFrom(...Object.keys(elementBytes) as (keyof typeof elementBytes)[]),
      shape: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 3 }),
    }),
    { minLength: 1, maxLength: 3 },
  ),
  change: fc.option(fc.tuple(fc.nat(2), fc.nat(1), offset)),
}).map(({ tensors, change }) => {
  let end = 0;
  const entries = tensors.map(({ dtype, shape }, index) => {
    const offsets = [end, end += shape.reduce((a, b) => a * b, 1) * elementBytes[dtype]];
    if (change?.[0] === index) offsets[change[1]] = change[2];
    return [`t${index}`, { dtype, shape, data_offsets: offsets }];
  });
  return file(JSON.stringify(Object.fromEntries(entries)), end);
});
const bytes = fc.oneof(
  nearlyValid,
  fc.tuple(header, fc.integer({ min: 0, max: 64 })).map(([text, data]) => file(text, data)),
  fc.tuple(header, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })).map(([text, length]) =>
    file(text, 8, length)
  ),
  fc.tuple(fc.json(), fc.integer({ min: 0, max: 8 })).map(([text, data]) => file(text, data)),
  fc.uint8Array({ maxLength: 64 }).map((raw) => new Uint8Array(raw)),
);

/** Refuses what is neither a sentence about the file nor a file whose tensors cover its data. */
function check(input: Uint8Array<ArrayBuffer>): "valid" | "refused" {
  let parsed: ReturnType<typeof parseSafetensors>;
  try {
    parsed = parseSafetensors(input, WHERE);
  } catch (error) {
    assert(error instanceof SyntaxError, String(error));
    const { message } = error;
    assert(message.startsWith(`${WHERE} is not a valid safetensors file: `), message);
    assert(!message.includes("\n") && message.length < 1000, message);
    assert(!/NaN|Infinity|undefined is|\[object/.test(message), message);
    return "refused";
  }
  const total = [...parsed.tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
  const length = Number(new DataView(input.buffer).getBigUint64(0, true));
  assertEquals(8 + length + total, input.length);
  for (const { dtype, shape, data } of parsed.tensors.values()) {
    assertEquals(data.byteLength, shape.reduce((a, b) => a * b, 1) * elementBytes[dtype]);
  }
  return "valid";
}

Deno.test("any bytes are a valid file or a sentence that names the file", () => {
  const counts = { valid: 0, refused: 0 };
  fc.assert(fc.property(bytes, (input) => void counts[check(input)]++), {
    numRuns: 2000,
    seed: 18,
  });
  assert(counts.valid > 100 && counts.refused > 500, JSON.stringify(counts));
});

Deno.test("a file on disk is read and refused as bytes in memory are", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "x.safetensors");
    await fc.assert(
      fc.asyncProperty(bytes, async (input) => {
        await Deno.writeFile(path, input);
        const inMemory = (() => {
          try {
            return [...parseSafetensors(input, path).tensors.keys()].join();
          } catch (error) {
            return (error as Error).message;
          }
        })();
        let onDisk: string;
        try {
          using opened = await SafetensorsFile.open(path);
          onDisk = [...opened.tensors.keys()].join();
        } catch (error) {
          onDisk = (error as Error).message;
        }
        assertEquals(onDisk, inMemory);
      }),
      { numRuns: 300, seed: 19 },
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("headers that are deep, long or of impossible sizes end in a sentence", () => {
  const deep = "[".repeat(200_000) + "]".repeat(200_000);
  const long = "x".repeat(20_000_000);
  const shape = JSON.stringify([...Array(20).fill(2 ** 53 - 1), 0]);
  const entryOf = (dtype: string, shape: string, offsets: string) =>
    `{"a":{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}}`;
  const refused = [
    entryOf(deep, "[]", "[0,0]"),
    entryOf('"F32"', deep, "[0,0]"),
    entryOf('"F32"', "[]", deep),
    entryOf(`"${long.slice(0, 1e6)}"`, "[]", "[0,0]"),
    entryOf('"F32"', `[${"7,".repeat(1e5)}7]`, "[0,4]"),
    `{"${long.slice(0, 1e6)}":7}`,
    `{"__metadata__":${deep}}`,
    deep,
  ];
  for (const text of refused) assertEquals(check(file(text, 0)), "refused", text.slice(0, 60));
  // No element, however large the other sizes are.
  assertEquals(parseSafetensors(file(entryOf('"F32"', shape, "[0,0]"), 0)).tensors.size, 1);
  const metadata = { long };
  const whole = encodeSafetensors([], { metadata });
  assertEquals(parseSafetensors(whole).metadata["long"]?.length, long.length);
  assertThrows(() => parseSafetensors(file("{}", 0, 2n ** 64n - 1n), WHERE), SyntaxError, WHERE);
});
