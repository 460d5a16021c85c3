import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { documentHeads, Documents, tokenBlocks } from "./documents.ts";

const END = 9;

const sourceOf = (all: readonly number[]) => ({
  length: all.length,
  read: (at: number, count: number) => Uint32Array.from(all.slice(at, at + count)),
});

/** Documents with text, by the plainest means. */
function expected(all: readonly number[]): number[][] {
  const documents: number[][] = [];
  let document: number[] = [];
  for (const token of all) {
    document.push(token);
    if (token !== END) continue;
    documents.push(document);
    document = [];
  }
  documents.push(document);
  return documents.filter(({ length }) => length > 1);
}

const tokens = fc.array(fc.integer({ min: 6, max: END }), { maxLength: 60 });

Deno.test("Documents finds every document with text, and reads its head", () => {
  fc.assert(fc.property(tokens, fc.integer({ min: 1, max: 9 }), (all, most) => {
    const documents = Documents.scan(sourceOf(all), { endoftext: END });
    const wanted = expected(all);
    assertEquals(documents.count, wanted.length);
    wanted.forEach((document, i) => {
      assertEquals(documents.length(i), document.length);
      assertEquals([...documents.read(i, most)], document.slice(0, most));
    });
  }));
});

Deno.test("documentHeads() gives the same documents from a stream, wherever it is cut", async () => {
  const sizes = fc.integer({ min: 1, max: 9 });
  await fc.assert(fc.asyncProperty(tokens, sizes, sizes, async (all, size, most) => {
    function* blocks() {
      for (let at = 0; at < all.length; at += size) {
        yield Uint32Array.from(all.slice(at, at + size));
      }
    }
    const heads = await Array.fromAsync(
      documentHeads(blocks(), { endoftext: END, most: most + 1 }),
    );
    assertEquals(heads.map((head) => [...head]), expected(all).map((d) => d.slice(0, most + 1)));
  }));
});

Deno.test("Documents takes more than one block and more documents than it first has room for", () => {
  const all = Array.from({ length: 140_000 }, (_, i) => i % 35 === 34 ? END : i % 7);
  const source = sourceOf(all);
  assertEquals([...tokenBlocks(source)].flatMap((block) => [...block]), all);
  const documents = Documents.scan(source, { endoftext: END });
  assertEquals([documents.count, documents.length(3999)], [4000, 35]);
  assertEquals([...documents.read(3999, 100)], all.slice(-35));
});
