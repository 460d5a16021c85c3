import { assertEquals } from "@std/assert";
import { allocateVectors } from "./vectors.ts";

/** The bits of numbers, which tell zeros apart. */
function bitsOf(values: Float32Array<ArrayBuffer>): Uint32Array {
  return new Uint32Array(values.slice().buffer);
}

Deno.test("Vectors of any length add up to the bits of f32 sums, and touch no neighbour", () => {
  const sizes = [1, 3, 15, 16, 17, 1000, 70_001];
  const blocks = allocateVectors(sizes, 3);
  blocks.forEach(({ vectors }, b) =>
    vectors.forEach((vector, n) => {
      assertEquals(vector.length, sizes[b]);
      for (let i = 0; i < vector.length; i++) {
        vector[i] = Math.sin(i + 7 * n) * 10 ** ((i * 13 + n) % 60 - 30);
      }
      vector[0] = -0;
    })
  );
  blocks.forEach(({ vectors, add }) => {
    const [sum, other, last] = vectors.map((vector) => vector.slice());
    const expected = Float32Array.from(sum!, (value, i) => value + last![i]!);
    add(0, 2);
    assertEquals(bitsOf(vectors[0]!), bitsOf(expected));
    assertEquals(vectors[1]!.slice(), other);
    assertEquals(vectors[2]!.slice(), last);
  });
});

Deno.test("Blocks share a memory up to a gigabyte", () => {
  const blocks = allocateVectors([2 ** 10, 2 ** 12], 2);
  assertEquals(blocks[0]!.vectors[0]!.buffer, blocks[1]!.vectors[1]!.buffer);
  assertEquals(blocks[0]!.vectors[0]!.buffer.byteLength, 65_536);
});
