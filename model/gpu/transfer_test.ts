/** Numbers come back as they went, whatever else is read at the time. */

import { assertEquals } from "@std/assert";
import { Arena } from "./memory.ts";
import { type DType, Tensor } from "./tensor.ts";
import { openTestGpu } from "./testing.ts";
import { download, upload } from "./transfer.ts";

Deno.test("tensors that are read at once come back each with its own numbers, through buffers that are kept", async () => {
  const gpu = await openTestGpu();
  const { device } = gpu;
  const { createBuffer } = device;
  let made = 0;
  device.createBuffer = function (descriptor) {
    if (descriptor.label === "read back") made++;
    return createBuffer.call(this, descriptor);
  };
  const arenas: Arena[] = [];
  try {
    const cases = [3, 1024, 5000, 4, 70_000, 1025].flatMap((size, i) =>
      (["f32", "u32", "f16"] as const).map((dtype: DType) => {
        const tensor = new Tensor(`${dtype} ${size}`, [size], { dtype });
        arenas.push(new Arena(gpu, tensor.name, [tensor]));
        const numbers = Array.from({ length: size }, (_, k) => (k * 7 + i) % 2048);
        upload(gpu, tensor, dtype === "u32" ? Uint32Array.from(numbers) : numbers);
        return { tensor, numbers };
      })
    );
    for (let round = 0; round < 3; round++) {
      const found = await Promise.all(cases.map(({ tensor }) => download(gpu, tensor)));
      for (const [i, { numbers }] of cases.entries()) assertEquals([...found[i]!], numbers);
    }
    // As many as are read at once at most, however often.
    assertEquals(made <= cases.length, true, `${made} buffers`);
    const before = made;
    for (const { tensor, numbers } of cases) {
      assertEquals([...await download(gpu, tensor)], numbers);
    }
    assertEquals(made, before);
  } finally {
    device.createBuffer = createBuffer;
    for (const arena of arenas) arena.destroy();
  }
});
