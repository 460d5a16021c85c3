import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import type { NodeOutput, StageContext } from "../pipeline/stage.ts";
import { composeReport, report } from "./report.ts";
import { fitLog } from "./theory/fit.ts";
import { readInputs } from "./report/data.ts";
import { reportSchema, type ReportSection } from "./report_config.ts";
import { MADE_UP_CURVE, madeUpInputs, madeUpNode } from "./report_testing.ts";

const params: ReportSection = reportSchema.parse({ title: "A test of the report" });

async function compose(inputs: Readonly<Record<string, readonly NodeOutput[]>>) {
  const { files, figures } = await composeReport(await readInputs(inputs), params);
  const text = (path: string) => {
    const content = files.get(path);
    if (typeof content !== "string") throw new Error(`${path} is not there, or no text`);
    return content;
  };
  return { files, figures, text };
}

Deno.test("the same inputs give the same bytes, and every figure its files", async () => {
  const first = await compose(madeUpInputs());
  const second = await compose(madeUpInputs());
  assertEquals([...first.files.keys()], [...second.files.keys()]);
  for (const [path, content] of first.files) {
    assertEquals(content, second.files.get(path), `${path} differs`);
  }
  const names = [...first.files.keys()].filter((p) => p.endsWith(".svg"));
  assertEquals(names.length, first.figures);
  for (const svg of names) {
    const stem = svg.replace(/\.svg$/, "");
    const png = first.files.get(`${stem}@2x.png`);
    assert(png instanceof Uint8Array && png[1] === 0x50, `${stem} has no PNG`);
    if (stem.includes("diagram")) {
      JSON.parse(first.text(`${stem}.json`));
    } else {
      const spec = JSON.parse(first.text(`${stem}.vl.json`));
      assertEquals(`figures/${spec.data.url}`, `${stem}.csv`);
      assert(first.text(`${stem}.csv`).trim().split("\n").length > 1, `${stem}.csv is empty`);
    }
    const name = stem.slice("figures/".length);
    assert(first.text("report.md").includes(`(figures/${name}.svg)`), `report.md lacks ${name}`);
    assert(first.text("report.html").includes(`id="figure-${name}"`), `report.html lacks ${name}`);
  }
});

Deno.test("every chart has marks in the colours of the palette", async () => {
  const { files, text } = await compose(madeUpInputs());
  for (const path of files.keys()) {
    if (!path.endsWith(".svg") || path.includes("diagram")) continue;
    const marks = text(path).match(
      /aria-roledescription="(point|bar|line mark)"|class="mark-(line|rect|symbol) role-mark/g,
    );
    assert(marks !== null, `${path} shows no marks`);
    const drawn = text(path).match(
      /<path [^>]*(stroke|fill)="#(0072b2|d55e00|009e73|a04a85|b87700)"/g,
    );
    assert((drawn?.length ?? 0) > 0, `${path} shows no data`);
  }
});

Deno.test("the fit in the report is that of the made-up curve", async () => {
  const inputs = madeUpInputs();
  const { text } = await compose(inputs);
  const points = [];
  for (const node of inputs.train!.filter((n) => n.labels.base === true)) {
    for (const { name, step, value } of await node.metrics()) {
      if (name === "loss") points.push({ x: step, y: value });
    }
  }
  const fit = fitLog(points)!;
  assert(Math.abs(fit.a - MADE_UP_CURVE.a) < 0.03 && Math.abs(fit.b - MADE_UP_CURVE.b) < 0.01);
  const row = text("report.md").split("\n").find((line) => line.startsWith("| this run"));
  assert(row !== undefined);
  assert(row.includes(fit.a.toFixed(3)) && row.includes(fit.b.toFixed(3)), row);
  assert(row.includes("1 to 120"), row);
});

Deno.test("text from data is escaped in both renderings", async () => {
  const text = `<script>alert("x")</script> [a](javascript:b) | *c* & \`d\``;
  const { text: read } = await compose(madeUpInputs({ text }));
  const html = read("report.html");
  assertEquals(html.match(/<script/g)?.length, 1, "only the page's own script");
  assert(!html.includes("alert(&#x22;x&#x22;)<"), "closing tags are escaped");
  assert(html.includes("&#x3C;script>alert"), "the text is shown");
  assert(!html.includes('href="javascript:'));
  const markdown = read("report.md");
  assert(!/(^|[^\\])<script/.test(markdown), "no raw HTML in Markdown");
  assert(markdown.includes(String.raw`\[a]`), "no link in Markdown");
  assert(markdown.includes(String.raw`\|`), "no extra column in Markdown");
  const svg = read("figures/ablation_d_latent.svg");
  assert(!svg.includes("<script"));
});

Deno.test("the page needs nothing from outside", async () => {
  const { text } = await compose(madeUpInputs());
  const html = text("report.html");
  for (const [, url] of html.matchAll(/(?:src|href)="([^"]*)"|url\(([^)]*)\)/g)) {
    assert(
      url === undefined || url.startsWith("#") || url.startsWith("data:") ||
        url.startsWith("figures/"),
      `The page refers to ${url}`,
    );
  }
  assert(html.includes("default-src &#x27;none&#x27;"), "nothing else may be loaded");
  const ids = [...html.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id);
  assertEquals(ids.length, new Set(ids).size, "identifiers are unique on the page");
  for (const [, id] of html.matchAll(/url\(#([^)]+)\)/g)) {
    assert(ids.includes(id!), `No element is called ${id}`);
  }
});

Deno.test("absent inputs: the report says so and keeps its theory", async () => {
  const { text, figures } = await compose({});
  const markdown = text("report.md");
  for (
    const sentence of [
      "no trained and evaluated base model",
      "No base model was evaluated",
      "No training loss was recorded",
      "No expert usage was recorded",
      "no ablation",
      "not benchmarked",
    ]
  ) assert(markdown.includes(sentence), sentence);
  assertEquals(figures, 5);
  assert(!markdown.includes("NaN") && !markdown.includes("Infinity"));
});

Deno.test("what the benchmark's suites measured is a table each", async () => {
  const markdown = (await compose(madeUpInputs())).text("report.md");
  const row = (id: string) =>
    markdown.split("\n").find((line) => line.startsWith(`| ${id}`))?.split("|")
      .map((cell) => cell.trim()).slice(2, -1);
  assert(markdown.includes("Matrix products"), markdown.slice(-2000));
  assertEquals(row("copy.4MiB"), ["12.3 ms", "11 ms", "20 ms", "43.2 GB/s", ""]);
  assertEquals(row("gemm.square")?.[3], "0.125 TFLOP/s");
  assertEquals(row("step.mixed")?.slice(3), ["4570 tokens/s", "3 MiB"]);
  assert(!markdown.includes("Inference"), "a suite that was not measured has no table");
});

Deno.test("each input can be absent alone", async () => {
  const inputs = madeUpInputs({ seeds: [1] });
  for (const name of Object.keys(inputs)) {
    const { [name]: _, ...rest } = inputs;
    const { text } = await compose(rest);
    assert(!/NaN|Infinity|undefined/.test(text("report.md")), `without ${name}`);
  }
});

Deno.test("a single seed concludes nothing", async () => {
  const { text } = await compose(madeUpInputs({ seeds: [7] }));
  assert(text("report.md").includes("so nothing can be concluded"));
});

Deno.test("figures say where they come from", async () => {
  const { text } = await compose(madeUpInputs());
  const markdown = text("report.md");
  assert(markdown.includes("made-up-run") && markdown.includes("2025-01-02 03:04 UTC"));
  assert(markdown.includes("adapter made-up adapter"));
  assert(markdown.includes("Computed from formulas; no run is involved."));
});

Deno.test("a malformed ablation is named", async () => {
  const inputs = {
    ...madeUpInputs({ seeds: [1] }),
    ablate: [madeUpNode("ablate", { json: { ablation: { base: "x", cells: 3, factors: [] } } })],
  };
  await assertRejects(() => compose(inputs), Error, "malformed at cells");
});

Deno.test("an output of the wrong kind is named", () => {
  assertThrows(() => madeUpNode("train", {}).json("summary"), Error, "no output summary");
});

Deno.test("the stage writes what was composed", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const inputs = madeUpInputs({ seeds: [1, 2] });
    const context: StageContext<ReportSection> = {
      params,
      inputs,
      node: { name: "report", key: "0", run: "made-up-run" },
      output: (name) => join(folder, name),
      json: () => {},
      stateDir: folder,
      metrics: { write() {}, measure() {}, rewind() {}, flush() {} },
      progress: () => ({ update() {} }),
      log: { info() {}, warn() {} },
      signal: new AbortController().signal,
    };
    await report.run(context);
    const { files } = await compose(inputs);
    for (const [path, content] of files) {
      const written = await Deno.readFile(join(folder, "report", path));
      const expected = typeof content === "string" ? new TextEncoder().encode(content) : content;
      assertEquals(written, expected, path);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
