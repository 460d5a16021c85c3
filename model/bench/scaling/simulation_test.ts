import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { GRADIENT_BYTES, paperUpdate, RATES, scalingRow, scalingTable } from "./paper.ts";
import {
  estimateSeconds,
  evenParts,
  type Rates,
  type SimulatedUpdate,
  simulateUpdate,
} from "./simulation.ts";

/** Rates at which nothing takes any time. */
const INSTANT: Rates = {
  device: Infinity,
  copy: Infinity,
  add: Infinity,
  link: Infinity,
  latency: 0,
};

const UPDATE: SimulatedUpdate = {
  ranks: 3,
  groupsPerRank: 2,
  microBatches: 2,
  microBatchSeconds: 10,
  optimizerSeconds: 1,
  parts: [{ bytes: 100, ready: 0.5 }, { bytes: 60, ready: 1 }],
  rates: INSTANT,
};

Deno.test("A simulated update counts the messages of a chain", () => {
  for (const ranks of [1, 2, 3, 7]) {
    const { messages, bytes } = simulateUpdate({ ...UPDATE, ranks });
    assertEquals(messages, 2 * (ranks - 1) * 2);
    assertEquals(bytes, 2 * (ranks - 1) * 160);
  }
});

Deno.test("A simulated update takes what each of its ways takes", () => {
  const seconds = (rates: Partial<Rates>, ranks = 3) =>
    simulateUpdate({ ...UPDATE, ranks, rates: { ...INSTANT, ...rates } }).seconds;
  assertEquals(seconds({}), 41);
  assertEquals(simulateUpdate(UPDATE).compute, 41);
  // The second part comes last, and is read and written once.
  assertEquals(seconds({ device: 60 }), 43);
  // It goes to the third rank and back; a noticed message is a latency later.
  assertAlmostEquals(seconds({ link: 600 }), 41.4);
  assertEquals(seconds({ latency: 3 }), 53);
  // The first rank adds its second group, the others both of theirs.
  assertAlmostEquals(seconds({ add: 600 }), 41.5);
  assertEquals(seconds({ copy: 60 }, 1), 43);
  // The way out of the second rank is busy with the first part's total for two thirds of a second.
  assertAlmostEquals(seconds({ link: 60 }), 45 + 2 / 3);
  // A busy way makes the second part wait: the first leaves at 35, and takes 20.
  assertEquals(seconds({ link: 5 }, 2), 35 + 20 + 20 + 12 + 1);
});

Deno.test("The closed form comes to an eighth of the simulation", () => {
  for (const ranks of [2, 8, 32]) {
    for (const microBatches of [1, 8]) {
      for (const rates of [RATES, { ...RATES, link: 2e9 }, { ...RATES, add: 100e9 }]) {
        const update = paperUpdate({ ranks, microBatches, rates });
        const simulated = simulateUpdate(update).seconds;
        assert(Math.abs(estimateSeconds(update) / simulated - 1) <= 0.125, `${ranks} ranks`);
      }
    }
  }
});

Deno.test("Even parts have all bytes, in the order in which they are final", () => {
  assertEquals(evenParts(10, { most: 4, from: 0.25, to: 1 }), [
    { bytes: 4, ready: 0.5 },
    { bytes: 4, ready: 0.75 },
    { bytes: 2, ready: 1 },
  ]);
  const { parts } = paperUpdate({ ranks: 64, microBatches: 1 });
  assertEquals(parts.reduce((sum, { bytes }) => sum + bytes, 0), GRADIENT_BYTES);
});

Deno.test("docs/scaling.md has the table that is computed", async () => {
  const one = scalingRow({ ranks: 1, microBatches: 1 });
  assertAlmostEquals(one.tokensPerSecond, 64_810, 1);
  const rows = (text: string) =>
    text.split("\n").filter((line) => line.startsWith("|"))
      .map((line) => line.replaceAll(/\s+/g, " ")).filter((line) => !/^\| -/.test(line));
  const page = await Deno.readTextFile(new URL("../../../docs/scaling.md", import.meta.url));
  const table = scalingTable({ ranks: [1, 8, 64, 1024], microBatches: [1, 8, 64] });
  for (const row of rows(table)) assert(rows(page).includes(row), `The page lacks ${row}`);
});
