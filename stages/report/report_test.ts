import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import type { NodeOutput, StageContext } from "../../pipeline/stage.ts";
import { composeReport, report } from "./report.ts";
import { fitLog } from "./theory/fit.ts";
import { readInputs } from "./data.ts";
import { reportSchema, type ReportSection } from "./config.ts";
import { renderPdf } from "./pdf/pdf.ts";
import { MADE_UP_CURVE, madeUpInputs, madeUpNode } from "./report_testing.ts";

const params: ReportSection = reportSchema.parse({ title: "A test of the report" });

async function compose(
  inputs: Readonly<Record<string, readonly NodeOutput[]>>,
  options: Partial<ReportSection> = {},
) {
  const { files, figures } = await composeReport(await readInputs(inputs), {
    ...params,
    ...options,
  });
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

Deno.test("the report names a dataset of the hub, and says that a sequence is a document", async () => {
  const inputs = madeUpInputs();
  const source = {
    source: "hub",
    dataset: "someone/stories",
    revision: "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64",
    validation: { files: ["data/valid.parquet"] },
  };
  const train = inputs.train!.map((node): NodeOutput => {
    const params = node.params as { train: object };
    return {
      ...node,
      params: { ...params, train: { ...params.train, documents: "single" } },
      json: (name) => {
        const summary = node.json(name) as { steps: number };
        return { ...summary, tokens: 300 * summary.steps };
      },
    };
  });
  const download = [madeUpNode("download", { json: { source } })];
  const { text } = await compose({ ...inputs, download, train });
  const report = text("report.md");
  assert(report.includes("someone/stories, revision f54c09fd2331, held out: valid.parquet"));
  assert(/300 tokens in the mean, a document a sequence of at most \d+ /.test(report), report);
  assert(/ tokens in sequences of \d+ /.test((await compose(inputs)).text("report.md")));
});

Deno.test("a perplexity beyond float64 is a dash in the table, and a curve has a gap there", async () => {
  const inputs = madeUpInputs();
  const huge = (node: NodeOutput): NodeOutput => ({
    ...node,
    json: (name) => ({ ...node.json(name) as object, perplexity: null, bits_per_byte: null }),
  });
  const train = inputs.train!.map((node): NodeOutput => ({
    ...node,
    metrics: async () => [
      ...await node.metrics(),
      { step: 5, name: "validation_perplexity", value: null, measured: false },
    ],
  }));
  const { text } = await compose({ ...inputs, train, evaluate: inputs.evaluate!.map(huge) });
  const row = text("report.md").split("\n").find((line) => /^\| 1 +\| +\d\.\d{3} \| +–/.test(line));
  assert(row !== undefined);
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
      if (name === "loss") points.push({ x: step, y: value! });
    }
  }
  const fit = fitLog(points)!;
  assert(Math.abs(fit.a - MADE_UP_CURVE.a) < 0.03 && Math.abs(fit.b - MADE_UP_CURVE.b) < 0.01);
  const row = text("report.md").split("\n").find((line) => line.startsWith("| this run"));
  assert(row !== undefined);
  assert(row.includes(fit.a.toFixed(3)) && row.includes(fit.b.toFixed(3)), row);
  assert(row.includes("1 to 120"), row);
});

/** Cells of the first row of a table in Markdown that starts with these words. */
function cells(markdown: string, start: string): string[] {
  const row = markdown.split("\n").find((line) => line.startsWith(`| ${start}`));
  if (row === undefined) throw new Error(`No row starts with ${start}`);
  return row.split("|").map((cell) => cell.trim()).slice(1, -1);
}

Deno.test("losses are held against the paper's at equal tokens, where the vocabulary is the paper's", async () => {
  const { text } = await compose(madeUpInputs({ vocabulary: "cl100k_base" }));
  const markdown = text("report.md");
  // Steps of 512 tokens: the paper's first step is the 64th.
  assert(!markdown.includes("| 20.5 k |"), "40 steps are less than the paper's first");
  const { a, b } = MADE_UP_CURVE;
  const [tokens, step, learned, held, law, difference] = cells(markdown, "61.4 k");
  assertEquals([tokens, step], ["61.4 k", "120"]);
  const expected = a - b * Math.log(120) + 0.05;
  const theirs = 8.88 - 0.418 * Math.log(120 * 512 / 32768);
  assertEquals([held, law], [expected.toFixed(3), theirs.toFixed(3)]);
  assertEquals(difference, (expected - theirs).toFixed(3).replace("-", "−"));
  assert(Math.abs(Number(learned) - (expected - 0.03)) < 0.05, learned);
  const csv = text("figures/training_curve.csv");
  assert(
    csv.includes("paper,") && csv.includes(",64,8.88"),
    "the law begins at the paper's step 1",
  );

  const compact = (await compose(madeUpInputs())).text;
  assert(!compact("report.md").includes("at equal tokens"));
  assert(!compact("figures/training_curve.csv").includes("paper"));
});

Deno.test("what the full budget would take follows from the measured speed", async () => {
  const inputs = madeUpInputs({ vocabulary: "cl100k_base", seeds: [1] });
  const markdown = (await compose(inputs, { gpu_hour_price: 2 })).text("report.md");
  // 1,060.5 − step at steps 1 to 120.
  assert(markdown.includes("Training ran at 1,000 tokens a second on made-up adapter"), markdown);
  assert(markdown.includes("Of the 100 seconds of the node, 60 went into updates"));
  assertEquals(cells(markdown, "this run's model"), [
    "this run's model",
    "1,000",
    "0.07",
    "1111.1",
    "$2,222.22",
  ]);
  assertEquals(cells(markdown, "paper, first").slice(1), ["14,308", "1.00", "77.7", "$155.31"]);
  assert(markdown.includes("would be read 4,000 times"));
  const law = cells(markdown, "paper's |");
  assertEquals(law[1], "3.98");
  assert(markdown.includes("no forecast for the paper's model"));
  for (const node of inputs.train!) Object.assign(node.provenance, { beside: "another node" });
  const shared = (await compose(inputs)).text("report.md");
  assert(shared.includes("(runtime made-up runtime), beside another node on the same cores: the"));
  const free = (await compose(inputs)).text("report.md");
  assertEquals(cells(free, "this run's model").length, 4);
  const { train: _, ...untrained } = inputs;
  assert(!(await compose(untrained)).text("report.md").includes("full budget"));
});

Deno.test("a model without experts has a report, with diagrams of what it is", async () => {
  const { files, text } = await compose(madeUpInputs({ ffn: { kind: "dense", d_ffn: 96 } }));
  const markdown = text("report.md");
  assert(!/NaN|Infinity|undefined/.test(markdown));
  assertEquals(
    cells(markdown, "model")[1],
    "width 64, 3 layers (1 dense), dense feed-forwards (d\\_ffn 96)",
  );
  assertEquals(cells(markdown, "latent codes of one layer")[3], "0");
  const diagrams = [...files.keys()].filter((path) => /diagram_.*svg/.test(path));
  assertEquals(diagrams, ["figures/diagram_architecture.svg"]);
  assert(text(diagrams[0]!).includes("2 × SwiGLU layer"));
});

Deno.test("the report names what made the model", async () => {
  const markdown = (await compose(madeUpInputs())).text("report.md");
  assertEquals(cells(markdown, "runtime")[1], "made-up runtime, Deno 9.9.9");
  assertEquals(
    cells(markdown, "commit")[1],
    "0123456789abcdef0123456789abcdef01234567, with changes",
  );
  assertEquals(
    cells(markdown, "configuration")[1],
    `configs/made-up.yaml, SHA-256 ${"fedcba98".repeat(8)}`,
  );
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

Deno.test("a malformed output is named, with the place", async () => {
  const inputs = madeUpInputs({ seeds: [1] });
  const [ablate] = inputs.ablate!;
  const cells = { confidence: 0.95, base: "x", cells: 3, factors: [] };
  const row = {
    cell: "base",
    quantity: "loudness",
    n: 1,
    mean: 1,
    sd: null,
    low: null,
    high: null,
  };
  const cases = [
    [{ json: { ablation: cells } }, "The output ablation of ablate is malformed at cells"],
    [
      { json: { ablation: ablate!.json("ablation") }, measured: { measured: [row] } },
      "The output measured of ablate is malformed at 0.quantity",
    ],
  ] as const;
  for (const [options, message] of cases) {
    const changed = { ...inputs, ablate: [madeUpNode("ablate", options)] };
    await assertRejects(() => compose(changed), Error, message);
  }
});

Deno.test("an output of the wrong kind is named", () => {
  const node = madeUpNode("train", { json: { summary: {} } });
  assertThrows(() => node.measured("summary"), Error, "no output summary");
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
      measured: () => {},
      stateDir: folder,
      metrics: { write() {}, measure() {}, rewind() {}, flush() {} },
      samples: { write() {}, take() {}, rewind() {}, text: () => "" },
      progress: () => ({ update() {} }),
      object: (sha256) => sha256,
      assertInKey: (module) => assert(report.modules!({ params, inputs }).includes(module), module),
      log: { info() {}, warn() {} },
      signal: new AbortController().signal,
    };
    await report.run(context);
    const { document, files } = await composeReport(await readInputs(inputs), params);
    for (const [path, content] of [...files, ["report.pdf", await renderPdf(document)] as const]) {
      const written = await Deno.readFile(join(folder, "report", path));
      const expected = typeof content === "string" ? new TextEncoder().encode(content) : content;
      assertEquals(written, expected, path);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
