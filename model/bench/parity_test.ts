import { assert, assertEquals, assertRejects } from "@std/assert";
import { withFolder } from "../checkpoint/folder_testing.ts";
import { openTestGpu, testRuntime } from "../gpu/testing.ts";
import { tinyModel, tinyTrain, tokenSource } from "../training/trainer_testing.ts";
import { largestDifference, measureParity, type ParityOptions } from "./parity.ts";

const options = (folder: string): ParityOptions => ({
  architecture: tinyModel(),
  train: tinyTrain(),
  seed: 1,
  text: tokenSource(400, 61),
  ways: (["f32", "mixed"] as const).map((precision) => ({ runtime: testRuntime(), precision })),
  steps: 3,
  twice: true,
  resume: true,
  folder,
  open: () => openTestGpu(),
  progress: () => {},
});

Deno.test("measureParity() finds the same bits twice and after a resume, and how far precisions part", async () => {
  await withFolder(async (folder) => {
    const [exact, mixed] = await measureParity(options(folder));
    for (const way of [exact!, mixed!]) {
      assertEquals(way.losses.length, 3);
      assertEquals(way.twice, { same_losses: true, same_weights: true });
      assertEquals(way.resumed, { same_losses: true, same_weights: true });
      assertEquals(way.skipped, 0);
      assert(way.tokens_per_second > 0 && way.peak_bytes > 0);
    }
    assert(exact!.weights_sha256 !== mixed!.weights_sha256);
    assertEquals(exact!.difference, undefined);
    assert(mixed!.difference!.nats! > 0 && mixed!.difference!.nats! < 0.05);
    assertEquals(await Array.fromAsync(Deno.readDir(folder)), []);
  });
});

Deno.test("measureParity() says of a second training that its bits are others", async () => {
  await withFolder(async (folder) => {
    let reads = 0;
    const { read, length } = tokenSource(400, 61);
    // The text changes under the second run.
    const text = {
      length,
      read: (offset: number, count: number) =>
        read(offset, count).map((token) => ++reads > 6 ? (token + 1) % 61 : token),
    };
    const [way] = await measureParity({
      ...options(folder),
      ways: [{ runtime: testRuntime(), precision: "f32" }],
      text,
      resume: false,
    });
    assertEquals(way!.twice, { same_losses: false, same_weights: false });
  });
});

Deno.test("measureParity() refuses to stop one update at half", async () => {
  await assertRejects(
    () => measureParity({ ...options("/nowhere"), steps: 1 }),
    RangeError,
    "stopped at half",
  );
});

Deno.test("largestDifference() names the update, and one that is not finite", () => {
  assertEquals(largestDifference({ losses: [1, 2, 3] }, { losses: [1, 2.5, 2.9] }), {
    nats: 0.5,
    step: 1,
  });
  assertEquals(largestDifference({ losses: [1, null] }, { losses: [1, 2] }), {
    nats: null,
    step: 1,
  });
});
