import { assertEquals, assertThrows } from "@std/assert";
import { ShardWriter } from "./shard.ts";
import { openTokenFile } from "./token_file.ts";

async function withFile(work: (path: string) => void): Promise<void> {
  const path = await Deno.makeTempFile();
  try {
    work(path);
  } finally {
    await Deno.remove(path);
  }
}

const bytes = (array: Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>) =>
  new Uint8Array(array.buffer);

Deno.test("openTokenFile() reads bare tokens of the width that the vocabulary has, or that is given", async () => {
  await withFile((path) => {
    Deno.writeFileSync(path, bytes(Uint16Array.of(1, 2, 300, 65535)));
    using narrow = openTokenFile(path, { vocab_size: 65536 });
    assertEquals([narrow.length, narrow.vocab_size], [4, 65536]);
    assertEquals(narrow.read(1, 3), Uint32Array.of(2, 300, 65535));
    assertEquals(narrow.read(4, 0), new Uint32Array(0));
    Deno.writeFileSync(path, bytes(Uint32Array.of(70000, 5)));
    using wide = openTokenFile(path, { vocab_size: 100277 });
    assertEquals(wide.read(0, 2), Uint32Array.of(70000, 5));
    Deno.writeFileSync(path, bytes(Uint32Array.of(7, 9)));
    using given = openTokenFile(path, { vocab_size: 10, width: 4 });
    assertEquals(given.read(0, 2), Uint32Array.of(7, 9));
  });
});

Deno.test("openTokenFile() reads a shard by what it begins with", async () => {
  await withFile((path) => {
    const writer = new ShardWriter(path, { vocab_size: 300, digest: new Uint8Array(32) });
    writer.write(Uint32Array.of(4, 299));
    writer.close();
    using shard = openTokenFile(path, { vocab_size: 12, width: 4 });
    assertEquals([shard.length, shard.vocab_size], [2, 300]);
    assertEquals(shard.read(0, 2), Uint32Array.of(4, 299));
  });
});

Deno.test("openTokenFile() names the file that cannot be what it is taken for", async () => {
  await withFile((path) => {
    Deno.writeFileSync(path, new Uint8Array(6));
    assertThrows(
      () => openTokenFile(path, { vocab_size: 10, width: 4 }),
      Error,
      "has 6 bytes, which is no multiple of the 4",
    );
    Deno.writeFileSync(path, bytes(Uint32Array.of(7, 9)));
    // Read as 16 bits, every second token is 0.
    using wrong = openTokenFile(path, { vocab_size: 8 });
    assertThrows(
      () => wrong.read(0, 4),
      RangeError,
      `Token 2 of ${path} is 9, outside the vocabulary of 8; is it a file of 16-bit numbers?`,
    );
    assertThrows(() => wrong.read(3, 2), RangeError, "Tokens 3 to 5");
    Deno.writeTextFileSync(path, "ETHOSTOK");
    assertThrows(() => openTokenFile(path, { vocab_size: 8 }), Error, path);
  });
  assertThrows(() => openTokenFile("/nowhere", { vocab_size: 8 }), Deno.errors.NotFound);
});
