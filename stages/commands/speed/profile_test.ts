import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import type { ProfileResult } from "./profile.ts";
import { showBytes, showSeconds, threeDigits } from "./quantities.ts";
import { runTask } from "./task_testing.ts";

const task = (...args: string[]) => runTask([...args, "--config", "configs/testing/minimal.yaml"]);

Deno.test("The task profile shows where a step's time goes, and writes numbers and a trace", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const [save, trace] = [join(folder, "a.json"), join(folder, "trace.json")];
    const { code, stdout, stderr } = await task(
      ...["profile", "--steps", "2", "--warmup", "1", "--rows", "9", "--vocab-size", "400"],
      ...["--set", "train.recompute=full", "--save", save, "--trace", trace],
    );
    assertEquals(code, 0, stderr);
    const result: ProfileResult = JSON.parse(await Deno.readTextFile(save));
    assertEquals(result.model.vocab_size, 400);
    assertEquals([result.step.tokens, result.step.step.repeats], [64, 2]);
    assert(result.tokens_per_second > 0 && result.mfu > 0 && result.hfu > result.mfu);
    const calls = (by: keyof ProfileResult["groups"]) =>
      result.groups[by].reduce((n, line) => n + line.calls, 0);
    assert(calls("kernel") > 50 && calls("kernel") === calls("label"));
    assertEquals([calls("phase"), calls("part")], [calls("kernel"), calls("kernel")]);
    assertMatch(stdout, /tokens\/s +\d/);
    assertMatch(stdout, /recompute +\d+/);
    assertMatch(stdout, /… and \d+ more\./);
    assertStringIncludes(stdout, "gradients");
    if (!result.step.timed) return assertStringIncludes(stderr, "No trace was written");
    const total = result.groups.label.reduce((n, { share = 0 }) => n + share, 0);
    assert(Math.abs(total - 1) < 1e-9);
    const { traceEvents } = JSON.parse(await Deno.readTextFile(trace));
    assert(traceEvents.some((event: { name: string }) => event.name === "layers.1.ffn.router.dk1"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("The task profile refuses what it cannot do before it opens a device", async () => {
  const refused = async (message: string, ...args: string[]) => {
    const { code, stderr } = await task("profile", ...args);
    assertEquals(code, 2, stderr);
    assertStringIncludes(stderr, message);
  };
  await Promise.all([
    refused("--steps is 0; expected a whole number from 1 to 200.", "--steps", "0"),
    refused("--steps is 1000; expected a whole number from 1 to 200.", "--steps", "1000"),
    refused("there is no folder /nowhere", "--trace", "/nowhere/trace.json"),
  ]);
  await refused("model.d_model: 6 is not a multiple of 4", "--set", "model.d_model=6");
});

Deno.test("quantities are shown with three digits in the unit that fits", () => {
  assertEquals([1.5, 0.0123, 4.56e-6].map(showSeconds), ["1.50 s", "12.3 ms", "4.56 µs"]);
  assertEquals([512, 1536, 3 * 2 ** 30].map(showBytes), ["512 B", "1.50 KiB", "3.00 GiB"]);
  assertEquals([0, 0.00123, 1234].map(threeDigits), ["0", "0.00123", "1234"]);
});
