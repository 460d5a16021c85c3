/** Cards that are folders and files of a test, and what jobs of a worker see of them. */

import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { UserError } from "../../pipeline/errors.ts";
import { describeCard, readCards, selectCards } from "./cards.ts";
import { hidingPrefix, planWorkers } from "./workers.ts";

/** Three cards whose files are numbered otherwise than the bus orders them; the driver is silent about the last. */
async function withCards(
  work: (places: { dev: string; driver: string }) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "cards_" });
  const places = { dev: join(dir, "dev"), driver: join(dir, "gpus") };
  try {
    await Deno.mkdir(places.dev);
    for (const name of ["nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"]) {
      await Deno.writeTextFile(join(places.dev, name), name);
    }
    for (
      const [bus, minor, uuid] of [["0000:0f:00.0", 1, "GPU-aa01"], ["0000:3b:00.0", 0, "GPU-aa02"]]
    ) {
      await Deno.mkdir(join(places.driver, String(bus)), { recursive: true });
      const text = `Model: \t\t NVIDIA H200\nGPU UUID: \t ${uuid}\nDevice Minor: \t ${minor}\n`;
      await Deno.writeTextFile(join(places.driver, String(bus), "information"), text);
    }
    await work(places);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("cards come in the order of the bus, those that the driver does not know last", async () => {
  await withCards(async (places) => {
    const cards = await readCards(places);
    assertEquals(cards.map(({ file }) => file.slice(places.dev.length + 1)), [
      "nvidia1",
      "nvidia0",
      "nvidia2",
    ]);
    assertEquals(cards.map(({ uuid }) => uuid), ["GPU-aa01", "GPU-aa02", undefined]);
    assertEquals(describeCard(cards[0]!), "NVIDIA H200 GPU-aa01");
  });
});

Deno.test("a file that is /dev/null is no card", async () => {
  await withCards(async (places) => {
    await Deno.remove(join(places.dev, "nvidia1"));
    await Deno.symlink("/dev/null", join(places.dev, "nvidia1"));
    assertEquals((await readCards(places)).map(({ uuid }) => uuid), ["GPU-aa02", undefined]);
  });
});

Deno.test("a list names cards by index or by the beginning of a UUID", async () => {
  await withCards(async (places) => {
    const cards = await readCards(places);
    const chosen = (list: string) =>
      selectCards(cards, list, "--devices").map(({ index }) => index);
    assertEquals(chosen("2, 0"), [2, 0]);
    assertEquals(chosen("GPU-aa02"), [1]);
    const cases = [["3", "no card"], ["", "no card"], ["0,0", "named already"], [
      "GPU-aa",
      "several",
    ]];
    for (const [list, why] of cases) {
      const error = assertThrows(() => selectCards(cards, list!, "--devices"), UserError, why!);
      assertMatch(error.message, /^--devices is ".*expected indices or UUIDs of 0 \(NVIDIA H200/);
    }
  });
});

Deno.test("workers without cards share the cores", async () => {
  const none = { devices: undefined, visible: "0", cards: [] };
  const workers = await planWorkers({ ...none, count: 2 });
  const threads = String(Math.max(1, Math.floor(navigator.hardwareConcurrency / 2)));
  assertEquals(workers.map(({ env }) => env), Array(2).fill({ LP_NUM_THREADS: threads }));
  assertEquals((await planWorkers({ ...none, count: undefined })).length, 1);
  await assertRejects(
    () => planWorkers({ ...none, count: 1, devices: "0" }),
    UserError,
    `--devices is "0", and this process can open no NVIDIA card`,
  );
});

Deno.test("one card needs no namespace; who is not root takes one of users too", async () => {
  await withCards(async (places) => {
    const cards = await readCards(places);
    assertEquals(hidingPrefix(cards.slice(0, 1), cards[0]!), []);
    assertEquals(hidingPrefix(cards, cards[0]!, { root: false }).slice(0, 3), [
      "unshare",
      "--user",
      "--map-root-user",
    ]);
  });
});

/** Whether this process may make mount namespaces. */
const CAN_UNSHARE = Deno.build.os === "linux" &&
  (await new Deno.Command("unshare", { args: ["--mount", "true"], stderr: "null" }).output()
    .catch(() => ({ success: false }))).success;

Deno.test({
  name: "a worker's job sees its own card alone (needs root to mount)",
  ignore: !CAN_UNSHARE,
  fn: async () => {
    await withCards(async (places) => {
      const cards = await readCards(places);
      const plan = { cards, devices: undefined, visible: "0,GPU-aa02", count: undefined };
      const workers = await planWorkers(plan);
      assertEquals(workers.map(({ name }) => name), [
        "NVIDIA H200 GPU-aa01",
        "NVIDIA H200 GPU-aa02",
      ]);
      for (const [i, { prefix }] of workers.entries()) {
        const files = cards.map(({ file }) => file);
        const [command, ...args] = [...prefix, "cat", ...files];
        const { stdout } = await new Deno.Command(command!, { args }).output();
        assertEquals(new TextDecoder().decode(stdout), ["nvidia1", "nvidia0"][i]);
      }
      const left = await Promise.all(cards.map(({ file }) => Deno.readTextFile(file)));
      assertEquals(left, ["nvidia1", "nvidia0", "nvidia2"]);
      // Four workers on two cards take turns.
      const shared = await planWorkers({ ...plan, count: 4 });
      assertEquals(shared[2], shared[0]);
    });
  },
});

Deno.test({
  name: "a host that lets nobody hide cards is told so in one line",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const cards = ["/nowhere/nvidia0", "/nowhere/nvidia1"].map((file, index) => ({ index, file }));
    await assertRejects(
      () => planWorkers({ cards, devices: undefined, visible: undefined, count: 2 }),
      UserError,
      "This host has 2 cards, and a worker can't hide the others from its job",
    );
  },
});
