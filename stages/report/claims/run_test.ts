import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { JsonValue } from "../../../pipeline/stage.ts";
import { compare } from "../../ablate/ablate.ts";
import { reportSchema } from "../config.ts";
import { readInputs } from "../data.ts";
import { madeUpArchitectures } from "../architectures_testing.ts";
import { composeReport } from "../report.ts";
import { madeUpInputs, madeUpNode, type MadeUpOptions } from "../report_testing.ts";

type Inputs = ReturnType<typeof madeUpInputs>;

/** Rows of the section, by the beginning of their claim. */
async function rowsOf(inputs: Inputs): Promise<(start: string) => readonly string[]> {
  const { files } = await composeReport(await readInputs(inputs), reportSchema.parse({}));
  const [, section] = String(files.get("report.md")).split("## Claims of the sources\n");
  const [own] = section!.split("\n## ");
  return (start) => {
    const row = own!.split("\n").find((line) => line.startsWith(`| ${start}`));
    return row === undefined ? [] : row.split("|").map((cell) => cell.trim()).slice(1, -1);
  };
}

const rows = (options: MadeUpOptions = {}) => rowsOf(madeUpInputs(options));

Deno.test("a small model is no test of claims about the paper's size, and says so", async () => {
  const row = await rows();
  for (const start of ["The model stores", "A token uses", "It trains at 14,308"]) {
    const [, , figure, verdict] = row(start);
    assertEquals(figure, "");
    assertStringIncludes(verdict!, "parameters, and the claim is about 744 M");
  }
  assertStringIncludes(row("Its slope is")[3]!, "only with the vocabulary cl100k");
  assertStringIncludes(row("Batch norm of")[3]!, "not measured yet");
  assertStringIncludes(row("The latent width that")[3]!, "not measured yet: this run has not");
  assertEquals(row("Attention is causal"), [], "a claim about another kind of model");
});

Deno.test("quantities that do not depend on the size are judged", async () => {
  const row = await rows();
  const [, rule, figure, verdict] = row("The loss follows");
  assertEquals([rule, verdict], ["at least 0.9", "holds"]);
  assert(/^0\.9\d+: steps 1 to 120$/.test(figure!), figure);
  const [, , use, not] = row("Nearly all of the experts are used");
  assertEquals([use, not], [
    "90 %: held-out text, mean over layers and seeds",
    "does not hold",
  ]);
});

Deno.test("a slope compares where the vocabulary is the paper's", async () => {
  const row = await rows({ vocabulary: "cl100k_base" });
  const [, , figure, verdict] = row("Its slope is");
  assert(/^0\.31\d nats: steps 1 to 120$/.test(figure!), figure);
  assertEquals(verdict, "does not hold");
});

Deno.test("a paired difference decides by its interval", async () => {
  const inputs = madeUpInputs();
  const withFactor = async (dense: (seed: number) => number) => {
    const cells = ["base", "architecture=dense"].map((name) => ({
      name,
      base: name === "base",
      factors: {},
    }));
    const runs = cells.flatMap(({ name, base }) =>
      [1, 2, 3].map((seed) => ({
        cell: name,
        seed,
        metrics: { nats: base ? 4 + 0.1 * seed : dense(seed) },
      }))
    );
    const factors = [{
      name: "architecture",
      title: "Architecture",
      values: [{ value: "ethos", cell: "base" }, { value: "dense", cell: "architecture=dense" }],
    }];
    const ablation = compare({ cells, factors, runs }, runs);
    const json: Record<string, JsonValue> = { ablation: JSON.parse(JSON.stringify(ablation)) };
    const row = await rowsOf({
      ...inputs,
      ablate: [madeUpNode("ablate", { json, measured: { measured: [] } })],
    });
    return row("Many small experts").slice(2);
  };
  const [figure, verdict] = await withFactor((seed) => 4.5 + 0.1 * seed + 0.01 * (seed % 2));
  assert(
    /^0\.507 nats \(95 %: 0\.49\d nats to 0\.52\d nats\): dense − the base, paired over 3/.test(
      figure!,
    ),
    figure,
  );
  assertEquals(verdict, "holds");
  assertEquals(
    (await withFactor((seed) => 3.5 + 0.1 * seed + 0.01 * (seed % 2)))[1],
    "does not hold",
  );
  assertEquals((await withFactor((seed) => 4 + 0.2 * (seed % 2)))[1], "undecided");
});

Deno.test("the claim about many small experts is held against PEER where it was trained", async () => {
  const inputs = madeUpArchitectures();
  const row = await rowsOf({
    ...inputs,
    train: inputs.train!.map((node) => {
      const text = JSON.stringify(node.params).replace('"kind":"switch"', '"kind":"peer"');
      return { ...node, params: JSON.parse(text) };
    }),
  });
  const [, , figure, verdict] = row("Many small experts");
  assert(/^0\.100 nats .*: dense − PEER, paired over 3 seeds: /.test(figure!), figure);
  assertEquals(verdict, "holds");
});

Deno.test("a mixture of stored experts is held against the claims about one", async () => {
  const row = await rows({
    ffn: { kind: "topk_moe", num_experts: 8, top_k: 2, d_expert: 64 },
  });
  assertEquals(row("The model stores"), []);
  assertStringIncludes(row("It has 158.62 M")[3]!, "parameters, and the claim is about 159 M");
  assertStringIncludes(row("The validation loss is 2.2")[3]!, "only with the vocabulary gpt2");
  const [, rule, figure, verdict] = row("The coefficient of variation");
  assertEquals(rule, "at most 0.062");
  // Counts fall as ⌊3000 / (i + 9 l)⌋ over 1,024 experts.
  const layer = [1, 2].map((l) =>
    Array.from({ length: 1024 }, (_, i) => Math.floor(3000 / (i + l * 9)))
  );
  const variation = layer.map((counts) => {
    const mean = counts.reduce((a, b) => a + b) / 1024;
    return Math.sqrt(counts.reduce((a, b) => a + (b - mean) ** 2, 0) / 1024) / mean;
  });
  assertStringIncludes(figure!, ((variation[0]! + variation[1]!) / 2).toPrecision(3));
  assertEquals(verdict, "does not hold");
});

Deno.test("a dense model has no claims", async () => {
  const { files } = await composeReport(
    await readInputs(madeUpInputs({ ffn: { kind: "dense", d_ffn: 128 } })),
    reportSchema.parse({}),
  );
  assertStringIncludes(String(files.get("report.md")), "No claim of the sources is about");
});
