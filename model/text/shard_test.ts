import { assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import fc from "fast-check";
import { HEADER_BYTES, ShardReader, ShardWriter, TokenSplit, tokenWidth } from "./shard.ts";

const DIGEST = new Uint8Array(32).fill(7);

/** Runs in a folder of its own. */
function inFolder(test: (folder: string) => void): () => void {
  return () => {
    const folder = Deno.makeTempDirSync();
    try {
      test(folder);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  };
}

function writeShard(path: string, ids: Uint32Array, vocab_size: number, digest = DIGEST): string {
  using writer = new ShardWriter(path, { vocab_size, digest });
  writer.write(ids);
  writer.close();
  return path;
}

Deno.test(
  "shards: any window of any shards reads as one sequence",
  inFolder((folder) => {
    const splits = fc.tuple(
      fc.constantFrom(300, 65536, 65537, 100277),
      fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 5 }),
      fc.nat(),
      fc.nat(),
    );
    fc.assert(
      fc.property(splits, ([vocab_size, sizes, a, b]) => {
        let next = 1;
        const all: number[] = [];
        const files = sizes.map((size, index) => {
          const ids = Uint32Array.from({ length: size }, () => {
            next = (next * 48271) % 2147483647;
            return next % vocab_size;
          });
          all.push(...ids);
          return writeShard(join(folder, `${index}.tokens`), ids, vocab_size);
        });
        using split = TokenSplit.open(files, { digest: DIGEST });
        assertEquals(split.length, all.length);
        assertEquals(split.vocab_size, vocab_size);
        const offset = a % (all.length + 1);
        const count = b % (all.length - offset + 1);
        assertEquals([...split.read(offset, count)], all.slice(offset, offset + count));
      }),
      { numRuns: 50 },
    );
  }),
);

Deno.test(
  "shards: more tokens than the writer's buffer, two bytes each when they fit",
  inFolder((folder) => {
    const ids = Uint32Array.from({ length: 200_000 }, (_, i) => i % 60_000);
    const path = writeShard(join(folder, "a"), ids, 65536);
    assertEquals(Deno.statSync(path).size, HEADER_BYTES + 400_000);
    using split = TokenSplit.open([path]);
    assertEquals(split.read(0, 200_000), ids);
    assertEquals([tokenWidth(65536), tokenWidth(65537)], [2, 4]);
  }),
);

Deno.test(
  "shards: the header is where the format says",
  inFolder((folder) => {
    const bytes = Deno.readFileSync(writeShard(join(folder, "a"), Uint32Array.of(1, 258), 300));
    const view = new DataView(bytes.buffer);
    assertEquals(new TextDecoder().decode(bytes.subarray(0, 8)), "ETHOSTOK");
    assertEquals([8, 12, 16, 20, 24, 28].map((at) => view.getUint32(at, true)), [
      1,
      2,
      2,
      0,
      300,
      0,
    ]);
    assertEquals(bytes.subarray(32, 64), DIGEST);
    assertEquals([...bytes.subarray(64)], [1, 0, 2, 1]);
  }),
);

Deno.test(
  "shards: truncated, foreign and unfinished files are refused by name",
  inFolder((folder) => {
    const path = writeShard(join(folder, "a"), Uint32Array.of(1, 2, 3), 300);
    const bytes = Deno.readFileSync(path);
    const refused = (change: (bytes: Uint8Array) => Uint8Array, words: string) => {
      const bad = join(folder, "bad");
      Deno.writeFileSync(bad, change(bytes.slice()));
      assertThrows(() => new ShardReader(bad), Error, words);
      assertThrows(() => TokenSplit.open([path, bad]), Error, bad);
    };
    const poke = (at: number, value: number) => (bytes: Uint8Array) => {
      bytes[at] = value;
      return bytes;
    };
    refused((bytes) => bytes.subarray(0, -1), "is truncated: 69 bytes, expected 70");
    refused((bytes) => bytes.subarray(0, 20), "is not a finished token shard");
    refused((bytes) => Uint8Array.of(...bytes, 0), "longer than it should be");
    refused(poke(0, 0), "is not a finished token shard");
    refused(poke(8, 9), "version 9; expected 1");
    refused(poke(12, 4), "damaged header");
    const unfinished = join(folder, "unfinished");
    {
      using writer = new ShardWriter(unfinished, { vocab_size: 300, digest: DIGEST });
      writer.write(Uint32Array.of(1));
    }
    assertThrows(() => new ShardReader(unfinished), Error, "is not a finished token shard");
  }),
);

Deno.test(
  "shards: vocabularies do not mix, and what is not there is not read",
  inFolder((folder) => {
    const a = writeShard(join(folder, "a"), Uint32Array.of(1, 2), 300);
    const b = writeShard(join(folder, "b"), Uint32Array.of(1), 300, new Uint8Array(32));
    assertThrows(() => TokenSplit.open([a, b]), Error, "different vocabularies");
    assertThrows(
      () => TokenSplit.open([a], { digest: new Uint8Array(32) }),
      Error,
      "another vocabulary",
    );
    assertThrows(() => TokenSplit.open([]), Error, "at least one");
    using split = TokenSplit.open([a]);
    for (const [offset, count] of [[1, 2], [-1, 1], [0, 1.5], [3, 0]] as const) {
      assertThrows(() => split.read(offset, count), RangeError, "the split has 2");
    }
    using writer = new ShardWriter(join(folder, "c"), { vocab_size: 300, digest: DIGEST });
    assertThrows(() => writer.write(Uint32Array.of(300)), RangeError, "vocabulary of 300");
  }),
);
