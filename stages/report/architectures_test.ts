import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { NodeOutput } from "../../pipeline/stage.ts";
import { comparedFactors, paretoFront } from "./architectures.ts";
import { madeUpArchitectures } from "./architectures_testing.ts";
import { readInputs } from "./data.ts";
import { textWidth } from "./figures/fonts.ts";
import { LABEL_SIZE, placeLabels, spreadHeights } from "./figures/labels.ts";
import { composeReport } from "./report.ts";
import { madeUpInputs } from "./report_testing.ts";

async function compose(inputs: Readonly<Record<string, readonly NodeOutput[]>>) {
  const data = await readInputs(inputs);
  const { files } = await composeReport(data, {
    title: "A test",
    latent_tolerance: 0.02,
    pdf: false,
    png_scale: 1,
  });
  const text = (path: string) => {
    const content = files.get(path);
    if (typeof content !== "string") throw new Error(`${path} is not there, or no text`);
    return content;
  };
  const [, section = ""] = text("report.md").split("\n## Architectures\n");
  return { files, text, section: section.split("\n## ")[0]! };
}

/** Cells of the rows of a section's tables that start with these words. */
const rowsOf = (section: string, start: string) =>
  section.split("\n").filter((line) => line.startsWith(`| ${start} |`))
    .map((line) => line.split("|").map((cell) => cell.trim()).slice(1, -1));

/** Rows of a CSV by the names of its columns; no cell holds a comma. */
function csvRows(csv: string): Record<string, string>[] {
  const [head, ...lines] = csv.trim().split("\n").map((line) => line.split(","));
  return lines.map((cells) => Object.fromEntries(head!.map((name, i) => [name, cells[i]!])));
}

Deno.test("a factor of kinds or routers compares architectures, one of widths does not", async () => {
  const { comparisons, others } = comparedFactors(await readInputs(madeUpArchitectures()));
  assertEquals(comparisons.map(({ name }) => name), ["kind"]);
  assertEquals(others.map(({ name }) => name), ["d_latent"]);
  const [ethos, beams, switched, dense] = comparisons[0]!.values;
  assertEquals(ethos!.costs, { stored: 4e6, active: 1e6, flops: 3e6 });
  assertEquals([dense!.layers, dense!.curves.expert_usage], [[], []]);
  assertAlmostEquals(beams!.speed!.mean, 2520);
  // Seeds 1, 2 and 3: 0.1, 0.2 and 0.3, and a tenth for each 40 steps.
  assertEquals(ethos!.curves.expert_usage.map(({ step }) => step), [40, 80]);
  assertAlmostEquals(ethos!.curves.expert_usage[1]!.value, 0.4);
  const [layer] = switched!.layers;
  assertEquals([layer!.layer, layer!.experts, layer!.hottestShare], [2, 4, 1]);
  assertAlmostEquals(layer!.expert_unevenness, 1);
  assertEquals(comparedFactors(await readInputs(madeUpInputs())).comparisons, []);
  const { train: _, ...untrained } = madeUpArchitectures();
  const unknown = comparedFactors(await readInputs(untrained));
  assertEquals([unknown.comparisons, unknown.others.length], [[], 2]);
});

Deno.test("the section has losses, costs, fronts and the use of experts", async () => {
  const { section, text, files } = await compose(madeUpArchitectures());
  assertEquals(rowsOf(section, "ethos (base)")[0]?.slice(0, 4), [
    "ethos (base)",
    "3",
    "4.505 ± 0.010",
    "0",
  ]);
  assertEquals(rowsOf(section, "switch")[0]?.slice(3), [
    "−0.200 ± 0.000",
    "−0.100 ± 0.000",
    "2.152 ± 0.005",
    "9 M",
    "993 k",
    "2 M",
    "3,020",
    "1 MiB",
  ]);
  assertEquals(rowsOf(section, "switch")[1], [
    "switch",
    "2",
    "4",
    "1.00",
    "25.0",
    "1.000",
    "0.250",
    "4.0",
    "2 (100.0 %)",
  ]);
  assertEquals(rowsOf(section, "ethos")[0]?.slice(7), [
    "2.0",
    "0 (50.0 %), 2 (25.0 %), 3 (25.0 %)",
  ]);
  assertEquals(rowsOf(section, "dense").length, 1, "no experts, no row");
  assert(section.includes("Active parameters are within 0.7 % of the base's."));
  assert(section.includes("Stored parameters are 0.25 to 2.25 times the base's."));
  assert(
    section.includes(
      "by stored parameters dense, switch; by active parameters switch; by operations switch; by speed dense, switch.",
    ),
    section,
  );
  assert(!section.includes("Latent width"));
  assert(text("report.md").includes("Ablation: Latent width"));

  const rows = csvRows(text("figures/pareto_kind.csv"));
  const models = rows.filter(({ series }) => series === "model");
  assertEquals(models.length, 4 * 4);
  const fronts = models.filter(({ front }) => front === "yes")
    .map(({ panel, architecture }) => `${panel} ${architecture}`);
  assertEquals(fronts, [
    "stored switch",
    "stored dense",
    "active switch",
    "flops switch",
    "tokens_per_second switch",
    "tokens_per_second dense",
  ]);
  assert(models.every(({ nats_low, nats_high }) => Number(nats_low) < Number(nats_high)));
  const stairs = rows.filter(({ panel, series }) => panel === "stored" && series === "front");
  assertEquals(stairs.map(({ x }) => Number(x)).slice(0, 4), [1e6, 1e6, 9e6, 9e6]);

  const use = csvRows(text("figures/expert_use_kind.csv"));
  assertEquals(new Set(use.map(({ architecture }) => architecture)).size, 3);
  const last = use.find((row) =>
    row["metric"] === "expert_usage" && row["place"] === "layer" &&
    row["architecture"] === "switch"
  );
  assertEquals(Number(last?.["value"]), 25);
  const again = await compose(madeUpArchitectures());
  for (const [path, content] of files) assertEquals(content, again.files.get(path), path);
});

Deno.test("single seeds have no intervals, and evaluations of earlier versions say what they lack", async () => {
  const single = await compose(madeUpArchitectures({ seeds: [1], earlier: true }));
  assertEquals(rowsOf(single.section, "switch")[0]?.[2], "4.301");
  assertEquals(rowsOf(single.section, "switch")[1]?.slice(2, 4), ["not recorded", "not recorded"]);
  assert(!/NaN|Infinity|undefined/.test(single.section));
  assert(single.section.includes("so nothing can be concluded"));
  assert(!(await compose(madeUpInputs())).text("report.md").includes("## Architectures"));
});

Deno.test("unequal seeds are named beside the front", async () => {
  const inputs = madeUpArchitectures();
  const words = "some means here are of fewer seeds";
  assert(!(await compose(inputs)).section.includes(words));
  const [ablate] = inputs.ablate!;
  const ablation = structuredClone(ablate!.json("ablation")) as { cells: { seeds: number[] }[] };
  ablation.cells[2]!.seeds = [1];
  const changed = { ...ablate!, json: () => ablation as never };
  assert((await compose({ ...inputs, ablate: [changed] })).section.includes(words));
});

Deno.test("costs that nobody recorded leave their panels out", async () => {
  const inputs = madeUpArchitectures({ seeds: [1, 2] });
  const train = inputs.train!.map((node): NodeOutput => ({
    ...node,
    json: () => ({ steps: 80, tokens: 100 }),
  }));
  const { text, section } = await compose({ ...inputs, train });
  const panels = new Set(csvRows(text("figures/pareto_kind.csv")).map(({ panel }) => panel));
  assertEquals([...panels], ["tokens_per_second"]);
  assert(!section.includes("times the base's") && !section.includes("NaN"));
});

Deno.test("paretoFront() keeps what nothing as cheap beats, and takes costs within 1 % for alike", () => {
  const front = (points: readonly (readonly [cost: number, loss: number])[]) =>
    paretoFront(points, { cost: ([cost]) => cost, loss: ([, loss]) => loss });
  assertEquals(front([[1, 5], [2, 4], [3, 4.5], [4, 3]]), [[1, 5], [2, 4], [4, 3]]);
  assertEquals(front([[100, 5], [100.9, 4]]), [[100.9, 4]]);
  assertEquals(front([[100, 5], [102, 4]]), [[100, 5], [102, 4]]);
  assertEquals(front([[1, 5], [1, 5]]), [[1, 5], [1, 5]], "equals beat nothing");
});

Deno.test("labels cover neither points nor lines nor each other", () => {
  const panel = { width: 300, height: 220 };
  const coordinate = (most: number) => fc.integer({ min: 5, max: most - 5 });
  const point = fc.record({
    text: fc.constantFrom("ethos (base)", "peer", "topk_moe"),
    x: coordinate(panel.width),
    y: coordinate(panel.height),
  });
  fc.assert(fc.property(fc.array(point, { minLength: 1, maxLength: 7 }), (points) => {
    const [first] = points;
    const line = [first!.x, 0, first!.x, panel.height] as const;
    const places = placeLabels(points, { ...panel, lines: [line] });
    const boxes = places.map(({ x, y }, i) => ({
      left: x,
      right: x + textWidth(points[i]!.text, LABEL_SIZE),
      y,
    }));
    for (const [i, box] of boxes.entries()) {
      assert(box.left >= 0 && box.right <= panel.width && box.y > 0 && box.y < panel.height);
      assert(box.right <= line[0] || box.left >= line[0], "covers a line");
      for (const { x, y } of points) {
        assert(x <= box.left || x >= box.right || Math.abs(y - box.y) >= 7, "covers a point");
      }
      for (const other of boxes.slice(i + 1)) {
        const apart = other.right <= box.left || other.left >= box.right ||
          Math.abs(other.y - box.y) >= 13.99;
        assert(apart, "covers a label");
      }
    }
  }));
});

Deno.test("spreadHeights() keeps the order, a line's distance and the panel", () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 0, max: 150 }), { minLength: 1, maxLength: 8 }),
    (heights) => {
      const placed = spreadHeights(heights, 150);
      const sorted = placed.toSorted((a, b) => a - b);
      for (const [i, height] of sorted.entries()) {
        assert(height >= 0 && height <= 150);
        assert(i === 0 || height - sorted[i - 1]! >= 14);
      }
      for (const [i, a] of heights.entries()) {
        for (const [j, b] of heights.entries()) if (a < b) assert(placed[i]! < placed[j]!);
      }
    },
  ));
  assertEquals(spreadHeights([10, 100], 150), [10, 100]);
});
