import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import type { WayResult } from "../../../model/bench/parity.ts";
import { withFolder } from "../../../model/checkpoint/folder_testing.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { writeStore } from "../model/checkpoint_testing.ts";
import { findFaults, parseWays } from "./parity.ts";
import { runTask } from "./task_testing.ts";

const parity = (...args: string[]) => runTask(["parity", ...args]);

const MINIMAL = ["--config", "configs/testing/minimal.yaml", "--seed", "4"];

Deno.test("The task parity compares ways on tokens of a file, and keeps the numbers", async () => {
  await withFolder(async (folder) => {
    const tokens = join(folder, "text.u16");
    // Few ids, so that there is something to learn.
    await Deno.writeFile(
      tokens,
      new Uint8Array(Uint16Array.from({ length: 2000 }, (_, i) => (i * i) % 17 * 18).buffer),
    );
    const save = join(folder, "a.json");
    const run = await parity(
      ...[...MINIMAL, "--tokens", tokens, "--steps", "4", "--ways", "deno:f32,deno:mixed"],
      ...["--twice", "--resume", "--save", save],
    );
    assertEquals(run.code, 0, run.stderr);
    assertMatch(run.stdout, /deno:f32 +\d\.\d{4} +– +same +same +0/);
    assertMatch(run.stdout, /deno:mixed +\d\.\d{4} +[\d.e-]+ +same +same +0/);
    assertStringIncludes(run.stderr, "deno:f32: second run, update 4: loss");
    const [, mixed]: WayResult[] = JSON.parse(await Deno.readTextFile(save));
    assertEquals(mixed!.losses.length, 4);
    assert(mixed!.difference!.nats! <= 0.02);
  });
});

Deno.test("The task parity takes a dataset of the store, and refuses what it cannot do", async () => {
  await withFolder(async (folder) => {
    await writeStore(folder);
    const run = await parity(
      ...[...MINIMAL, "--store", folder, "--steps", "1", "--ways", "deno:f32", "--json"],
    );
    assertEquals(run.code, 0, run.stderr);
    assertEquals(JSON.parse(run.stdout).length, 1);
    const refused = async (message: string, ...args: string[]) => {
      const { code, stderr } = await parity(...MINIMAL, "--store", folder, ...args);
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, message);
    };
    await refused("can't be stopped at half", "--steps", "1", "--ways", "deno:f32", "--resume");
    await refused("There is no tokenised text nothing", "--dataset", "nothing");
    await refused("which cannot be used", "--tokens", "/nowhere");
  });
});

Deno.test("parseWays() names what is no way", () => {
  assertEquals(parseWays("deno:f32, dawn:mixed").map(({ runtime }) => runtime), ["deno", "dawn"]);
  assertThrows(() => parseWays("deno:f64"), UserError, '"deno:f64"; expected RUNTIME:PRECISION');
  assertThrows(() => parseWays("deno"), UserError, "expected RUNTIME:PRECISION");
  assertThrows(() => parseWays("deno:f32,deno:f32"), UserError, "has deno:f32 twice");
});

Deno.test("findFaults() says what does not agree", () => {
  const way: WayResult = {
    runtime: "deno",
    precision: "f32",
    adapter: "a",
    losses: [1, 2],
    skipped: 0,
    tokens_per_second: 1,
    peak_bytes: 1,
    weights_sha256: "0",
  };
  const mixed = { ...way, precision: "mixed" } as const;
  const same = { same_losses: true, same_weights: true };
  assertEquals(
    findFaults([{ ...way, twice: same }, { ...mixed, difference: { nats: 0.02, step: 1 } }]),
    [],
  );
  assertEquals(
    findFaults([
      { ...way, twice: { ...same, same_weights: false }, resumed: { ...same, same_losses: false } },
      { ...mixed, difference: { nats: 0.03, step: 1 } },
      { ...mixed, runtime: "dawn", difference: { nats: null, step: 0 } },
    ]),
    [
      "deno:f32 gave other weights in a second run.",
      "deno:f32 gave other losses after it was stopped and resumed.",
      "deno:mixed is 0.0300 nats from deno:f32 in update 2; at most 0.02.",
      "The loss of dawn:mixed or of deno:f32 is not finite in update 1.",
    ],
  );
});
