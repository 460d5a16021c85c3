import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { judge, type Rule } from "./claim.ts";
import { countAll } from "./counts.ts";
import { EvidenceReader } from "./evidence.ts";
import { claimedText, estimateText } from "./format.ts";
import { CLAIMS, claimsPage, judgeClaims } from "./page.ts";

const RESULTS = fromFileUrl(new URL("../../../results/", import.meta.url));

Deno.test("the committed page is what the program writes", async () => {
  const committed = await Deno.readTextFile(join(RESULTS, "claims.md"));
  assertEquals(committed, await claimsPage(RESULTS), "run deno task claims");
});

Deno.test("every claim has a figure, or says why it has none", () => {
  const silent = CLAIMS.filter(({ figures, open }) => figures.length === 0 && open === undefined);
  assertEquals(silent, []);
  const statements = CLAIMS.map(({ source, statement }) => `${source}: ${statement}`);
  assertEquals(new Set(statements).size, statements.length, "a claim is listed twice");
});

Deno.test("no verdict stands without data, and none without a reason where there is no figure", async () => {
  for (const { claim, rows } of await judgeClaims(RESULTS)) {
    for (const { figure, verdict, data, reason } of rows) {
      const open = verdict.startsWith("not ");
      assertEquals(figure === "", data === "", claim.statement);
      assertEquals(open, reason !== undefined, claim.statement);
      if (!open) assertEquals(data === "", false, claim.statement);
    }
  }
});

Deno.test("a rule decides by the value, or by the interval", () => {
  const verdict = (rule: Rule, ...[value, low, high]: number[]) =>
    judge({ claimed: { value: 8, unit: "times" }, rule }, { value: value!, low, high });
  const near: Rule = { kind: "near", relative: 0.25 };
  assertEquals([6, 10, 5.9, 10.1].map((value) => verdict(near, value)), [
    "holds",
    "holds",
    "does not hold",
    "does not hold",
  ]);
  assertEquals(verdict({ kind: "at_least" }, 8), "holds");
  assertEquals(verdict({ kind: "at_least" }, 7.9), "does not hold");
  assertEquals(verdict({ kind: "at_most" }, 8), "holds");
  assertEquals(verdict({ kind: "at_most" }, 8.1), "does not hold");
  assertEquals(verdict({ kind: "between", low: 1, high: 2 }, 1.5), "holds");
  assertEquals(verdict({ kind: "between", low: 1, high: 2 }, 2.1), "does not hold");
  assertEquals(verdict({ kind: "above" }, 9, 8.1, 9.9), "holds");
  assertEquals(verdict({ kind: "above" }, 7, 6, 7.9), "does not hold");
  assertEquals(verdict({ kind: "above" }, 9, 7, 11), "undecided");
});

Deno.test("figures and rules are written in the claim's unit", () => {
  const claimed = { value: 0.02, unit: "share" } as const;
  assertEquals(claimedText({ claimed, rule: { kind: "at_most" } }), "at most 2 %");
  assertEquals(
    claimedText({ claimed: { ...claimed, ours: true }, rule: { kind: "near", relative: 0.1 } }),
    "no number; judged: 2 % within 10 %",
  );
  assertEquals(
    claimedText({ claimed: { value: 2, unit: "number" }, rule: { kind: "near", relative: 0 } }),
    "exactly 2",
  );
  assertEquals(
    estimateText({ value: -0.25, low: -0.5, high: 1 }, "nats"),
    "−0.250 nats (95 %: −0.500 nats to 1.000 nats)",
  );
});

Deno.test("a figure is read from its file with its key, and a file that changed is an error", async () => {
  const results = await Deno.makeTempDir();
  const write = (name: string, text: string) => Deno.writeTextFile(join(results, name), text);
  try {
    await write(
      "a.json",
      JSON.stringify({ entries: [{ id: "x", n: 6 }, { id: "y", n: 3, s: "3" }] }),
    );
    await write(
      "b.csv",
      "kind,seed,step,nats,nats_low,nats_high\n" +
        "t,1,1,9,,\nt,1,2,8,,\nt,1,4,7,,\nt,2,4,6,,\nu,1,1,2,1,3\nv,1,1,,,\n",
    );
    const reader = new EvidenceReader({ results, counts: await countAll() });
    const entry = (id: string, key = "n") => ({ json: "a.json", at: ["entries", { id }, key] });
    assertEquals(await reader.figure({ label: "", ratio: [entry("x"), entry("y")] }), {
      value: 2,
      data: "a.json: entries[x] n / entries[y] n",
    });
    const rows = (kind: string) => ({ csv: "b.csv", where: { kind }, column: "nats" });
    const last = { label: "", value: { ...rows("t"), latest: "step", scale: 10 } };
    assertEquals(await reader.figure(last), {
      value: 65,
      data: "b.csv: nats, kind t, last step",
    });
    const interval = await reader.figure({ label: "", value: { ...rows("u"), interval: true } });
    assertEquals([interval.value, interval.low, interval.high], [2, 1, 3]);
    const fit = { csv: "b.csv", where: { kind: "t", seed: "1" }, x: "step", y: "nats" };
    const slope = await reader.figure({ label: "", fit, take: "b" });
    assertEquals(slope.value.toFixed(6), (1 / Math.LN2).toFixed(6));

    const refused = async (evidence: Parameters<typeof reader.figure>[0], message: string) => {
      const error = await assertRejects(() => reader.figure(evidence), Error);
      assertStringIncludes(error.message, message);
    };
    await refused({ label: "", value: entry("z") }, "a.json has no number at entries[z] n");
    await refused({ label: "", value: entry("y", "s") }, "a.json has no number at entries[y] s");
    await refused({ label: "", value: rows("w") }, "b.csv has no row with kind w");
    await refused({ label: "", value: rows("t") }, "kind t of b.csv has 4 rows; expected one");
    await refused({ label: "", value: rows("v") }, 'b.csv has "" in column nats with kind v');
    await refused({ label: "", fit: { ...fit, where: { kind: "u" } }, take: "b" }, "too few rows");
  } finally {
    await Deno.remove(results, { recursive: true });
  }
});
