import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { NodeOutput } from "../../pipeline/stage.ts";
import { compareCells, comparedText, decimalsOf, perplexityText } from "./cells.ts";
import { expansionReportSchema } from "./config.ts";
import { readExpansion } from "./data.ts";
import { linearTicks, logTicks } from "./figures/line_panels.ts";
import { quantile } from "./neurons.ts";
import { composeExpansionReport } from "./report.ts";
import {
  MADE_UP_NATS,
  madeUpCells,
  madeUpExpansion,
  type MadeUpOptions,
} from "./report_testing.ts";
import { effectiveClusters } from "./sections/inside.ts";

type Inputs = Readonly<Record<string, readonly NodeOutput[]>>;

async function compose(inputs: Inputs) {
  const params = expansionReportSchema.parse({ title: "A test <of> the report", png_scale: 1 });
  const { files, figures } = await composeExpansionReport(readExpansion(inputs), params);
  const text = (path: string) => {
    const content = files.get(path);
    if (typeof content !== "string") throw new Error(`${path} is not there, or no text`);
    return content.replaceAll("\u00a0", " ");
  };
  return { files, figures, text };
}

const small: MadeUpOptions = { sparsities: [0.5, 0.9, "2:4"], clusters: [1, 4] };

/** Rows of a CSV as objects. */
function csvRows(csv: string): Record<string, string>[] {
  const [head, ...lines] = csv.trim().split("\n").map((line) =>
    line.match(/("[^"]*"|[^,]*)(?:,|$)/g)!.map((cell) => cell.replace(/,$/, "").replaceAll('"', ""))
  );
  return lines.map((cells) => Object.fromEntries(head!.map((name, i) => [name, cells[i]!])));
}

Deno.test("the report has every figure with its files, and the same bytes twice", async () => {
  const first = await compose(madeUpExpansion(small));
  const names = [
    "perplexity",
    "differences",
    "perplexity_by_clusters",
    "perplexity_by_cost",
    "neuron_distances",
    "neuron_distances_by_block",
    "neuron_outputs",
    "cluster_sizes",
  ];
  assertEquals(first.figures, names.length);
  for (const name of names) {
    const spec = JSON.parse(first.text(`figures/${name}.vl.json`));
    assertEquals(spec.data.url, `${name}.csv`);
    assert(first.text("report.md").includes(`(figures/${name}.svg)`), `report.md lacks ${name}`);
    assert(first.text("report.html").includes(`id="figure-${name}"`), `report.html lacks ${name}`);
    assert((first.files.get(`figures/${name}@1x.png`) as Uint8Array)[1] === 0x50);
  }
  assert(!first.text("report.html").includes("<of>"), "a title is text");
  assert(!/NaN|Infinity|undefined|null/.test(first.text("report.md")), first.text("report.md"));
  const second = await compose(madeUpExpansion(small));
  for (const [path, content] of first.files) assertEquals(content, second.files.get(path), path);
});

Deno.test("cells are compared at the sparsity of the cell that they control, and paired by window", () => {
  const { dense, cells, levels } = compareCells(readExpansion(madeUpExpansion()));
  assertEquals(levels.map(({ name }) => name.replace("\u00a0", " ")), [
    "50 %",
    "75 %",
    "90 %",
    "2:4",
  ]);
  assertEquals(cells.length, madeUpCells().length);
  assertAlmostEquals(dense!.perplexity.mean, Math.exp(dense!.nats.mean));
  assertAlmostEquals(dense!.nats.mean, MADE_UP_NATS, 0.05);
  assertEquals(dense!.relative, { storedBits: 1, multiplyAdds: 1 });
  const matched = cells.filter(({ kind }) => kind === "matched");
  // One expert as large as 4 at 90 % has a sparsity of 60 %; as large as 16, or at other levels, it is dense.
  assertEquals(matched.map(({ clusters, level }) => [clusters, level.sparsity]), [[4, 0.9]]);
  assertAlmostEquals(matched[0]!.node.labels.sparsity!, 0.6);
  const find = (name: string) => cells.find((cell) => cell.name === name)!;
  const base = find("sparsity=0.9,clusters=1");
  assertEquals([base.difference, base.toOwn], [undefined, undefined]);
  for (const name of ["sparsity=0.9,clusters=4", "sparsity=0.9,clusters=4,control=matched"]) {
    const own = find(name);
    const pairs = own.node.result.losses.map((loss, i) => loss - base.node.result.losses[i]!);
    assertAlmostEquals(
      own.difference!.mean,
      pairs.reduce((sum, value) => sum + value) / pairs.length,
    );
    assert(own.difference!.high! - own.difference!.low! < own.nats.high! - own.nats.low!);
  }
  const control = find("sparsity=0.9,clusters=4,control=random");
  assert(control.toOwn!.low! > 0, "random directions are worse than k-means here");
});

Deno.test("every perplexity of the table has its storage and its work beside it", async () => {
  const { text } = await compose(madeUpExpansion(small));
  const rows = text("report.md").split("\n").filter((line) =>
    /^\| (none|50 %|90 %|2:4) /.test(line) && /iB \([\d.]+ ×\)/.test(line)
  );
  assertEquals(rows.length, 1 + madeUpCells(small).length);
  for (const row of rows) {
    const cells = row.split("|").map((cell) => cell.trim()).slice(1, -1);
    assert(/^[\d,.]+ \([\d,.]+–[\d,.]+\)$/.test(cells[2]!), row);
    assert(/iB \([\d.]+ ×\)$/.test(cells[4]!) && /\([\d.]+ ×\)$/.test(cells[5]!), row);
  }
  const speeds = text("report.md").split("\n").filter((line) => /× \| 128 MiB \|$/.test(line));
  assertEquals(speeds.length, rows.length);
  const points = csvRows(text("figures/perplexity_by_cost.csv"));
  const dense = points.filter(({ series }) => series === "dense");
  assertEquals(dense.map(({ x }) => Number(x)), [1, 1]);
});

Deno.test("words follow the data: clusters that do not help are not said to", async () => {
  const words = async (add: MadeUpOptions["add"]) =>
    (await compose(madeUpExpansion({ ...small, ...(add && { add }) }))).text("report.md");
  assert((await words(undefined)).includes("4 clusters, 50 %: better than SparseGPT by"));
  const worse = await words(({ clusters, control }) => clusters > 1 && !control ? 3 : 0);
  assert(worse.includes("4 clusters, 50 %: worse than SparseGPT by"));
  assert(worse.includes("rows are worse than k-means in 0 and better in 3 of 3"));
  const sparsity = 0.5;
  const base = 1.4 * sparsity ** 2 / (1 - sparsity) ** 0.7;
  const same = await words((cell) =>
    cell.sparsity === sparsity && cell.clusters === 4 && !cell.control ? 0.16 * base : 0
  );
  assert(same.includes("4 clusters, 50 %: not shown to differ from SparseGPT"), same.slice(0, 900));
});

Deno.test("words follow the data: neurons that move away are not said to come closer", async () => {
  const inputs = madeUpExpansion(small);
  const closer = (await compose(inputs)).text("report.md");
  assert(closer.includes("clusters bring the median neuron closer to a Gaussian"));
  const moved = inputs.expand!.map((node): NodeOutput => ({
    ...node,
    json: (name) => {
      const value = structuredClone(node.json(name)) as {
        blocks: { layers: { expert: number[]; split: number[] }[] }[];
      };
      if (name === "neurons") {
        for (const layer of value.blocks.flatMap(({ layers }) => layers)) {
          layer.expert = layer.split.map((distance) => distance + 0.01);
        }
      }
      return value as never;
    },
  }));
  const away = (await compose({ ...inputs, expand: moved })).text("report.md");
  assert(away.includes("clusters do not bring the median neuron closer to a Gaussian"));
  assert(away.includes("0 % are closer to a Gaussian within the clusters"));
});

Deno.test("a dense layer in the place of one expert is named", async () => {
  const { text } = await compose(madeUpExpansion(small));
  assert(text("report.md").includes("That is so for 4 clusters at 50 %, 2:4."));
  const quantised = (await compose(madeUpExpansion({ ...small, bits: 4 }))).text("report.md");
  assert(!quantised.includes("That is so for"), "a quantised layer is not the dense one");
  assert(/\| none +\| dense +\| +16 /.test(quantised), "bits have a column");
});

Deno.test("a run with little in it has a report", async () => {
  const one = await compose(madeUpExpansion({ sparsities: [0.5], clusters: [1], windows: 1 }));
  assert(!/NaN|Infinity|undefined/.test(one.text("report.md")));
  assert(one.text("report.md").includes("from which nothing follows") === false);
  assert(!one.text("report.md").includes("## Clusters and controls"));
  const single = await compose(
    madeUpExpansion({ sparsities: ["2:4"], clusters: [1, 8], windows: 1 }),
  );
  assert(single.text("report.md").includes("in a single window, from which nothing follows"));
  const { perplexity, ...rest } = madeUpExpansion(small);
  const dense = await compose({ ...rest, expand: [], perplexity: perplexity!.slice(0, 1) });
  assert(dense.text("report.md").includes("This run expands no model."));
  assert((await compose({})).text("report.md").includes("This run has no measured model."));
  const bare = await compose({ perplexity: perplexity!.slice(1) });
  assert(bare.text("report.md").includes("not measured"), "costs without a dense model");
  assert(!bare.files.has("figures/perplexity_by_cost.svg"));
});

Deno.test("a perplexity beyond float64 is in the table and in no figure", async () => {
  const inputs = madeUpExpansion({
    ...small,
    add: ({ method, sparsity }) => method === "magnitude" && sparsity === 0.9 ? 800 : 0,
  });
  const { text } = await compose(inputs);
  assert(/\| 90 % +\| magnitude +\| +beyond float64/.test(text("report.md")));
  assert(text("report.md").includes("beyond float64: magnitude, 90 %."));
  for (const name of ["perplexity", "perplexity_by_cost"]) {
    assert(!text(`figures/${name}.csv`).includes("Infinity"), name);
  }
});

Deno.test("numbers are written with the digits that they have", () => {
  assertEquals(
    [4.0101, 25, 1181.2, 65_432, 123_456_789].map((value) => perplexityText(value)),
    ["4.0101", "25.000", "1,181.2", "65,432", "1.2346 · 10^8"],
  );
  assertEquals([perplexityText(null), perplexityText(4.0101, 3)], ["beyond float64", "4.01"]);
  assertEquals([0.3, 0.0123, 0.0002, 1e-9, 0].map(decimalsOf), [3, 3, 5, 6, 3]);
  const summary = { n: 3, sd: 0.1, mean: -0.2, low: -0.3, high: -0.1, p: 0.01 };
  assertEquals(
    comparedText(summary, "it").replaceAll("\u00a0", " "),
    "better than it by 0.200 ± 0.100 nats",
  );
});

Deno.test("ticks are round, inside, and neither few nor many", () => {
  assertEquals(logTicks([3, 12000]), [10, 100, 1000, 10000]);
  assertEquals(linearTicks([3.9, 7.4]), [4, 5, 6, 7]);
  for (const domain of [[0.02, 0.08], [1.1, 3.9], [4, 90], [0.5, 1e9]] as const) {
    const ticks = logTicks(domain);
    assert(ticks.length >= 4 && ticks.length <= 13, `${ticks}`);
    assert(ticks.every((tick) => tick >= domain[0] && tick <= domain[1]));
  }
});

Deno.test("quantiles and effective numbers are the known ones", () => {
  assertEquals(quantile([4, 1, 3, 2], 0.5), 2.5);
  assertEquals([quantile([5], 0.95), quantile([1, 2, 3], 1)], [5, 3]);
  assertAlmostEquals(effectiveClusters([7, 7, 7, 7]), 4);
  assertAlmostEquals(effectiveClusters([12, 0, 0]), 1);
});
