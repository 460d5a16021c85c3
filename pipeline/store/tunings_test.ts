import { assertEquals } from "@std/assert";
import { Catalogue } from "./catalogue.ts";
import { readTunings, type TuningRow, writeTunings } from "./tunings.ts";

const DEVICE = { adapter: "A", runtime: "deno 2.9.6", driver: "" };
const row = (question: string, candidate: string, seconds: number): TuningRow => ({
  code: "c",
  question,
  candidate,
  seconds,
});

Deno.test("measurements are found by their device, and new ones take the place of old", async () => {
  using catalogue = await Catalogue.open(":memory:");
  assertEquals(await readTunings(catalogue, DEVICE), []);
  await writeTunings(catalogue, DEVICE, [row("q", "x", 2), row("q", "y", 1), row("r", "x", 3)]);
  const other = { ...DEVICE, runtime: "dawn 0.6.2" };
  await writeTunings(catalogue, other, [row("q", "x", 9)]);
  // A way that is no more is forgotten with the others of its question.
  await writeTunings(catalogue, DEVICE, [{ ...row("q", "z", 4), code: "d" }]);
  assertEquals(await readTunings(catalogue, DEVICE), [
    { ...row("q", "z", 4), code: "d" },
    row("r", "x", 3),
  ]);
  assertEquals(await readTunings(catalogue, other), [row("q", "x", 9)]);
  const [recent] = await catalogue.rows(
    "SELECT max(abs(epoch(now()) - epoch(measured_at))) < 3600 AS recent FROM tunings",
  );
  assertEquals(recent, { recent: true });
});

Deno.test("a catalogue that is made anew knows no measurements", async () => {
  using catalogue = await Catalogue.open(":memory:");
  await writeTunings(catalogue, DEVICE, [row("q", "x", 2)]);
  await catalogue.clear();
  assertEquals(await readTunings(catalogue, DEVICE), []);
});
