import { assert, assertEquals, assertMatch } from "@std/assert";
import { join, toFileUrl } from "@std/path";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { ToyProject } from "../pipeline/testing.ts";

const NOTEBOOK = join(import.meta.dirname!, "explore.ipynb");
const ROOT = join(import.meta.dirname!, "..");

/** One cell, as Jupyter stores it. */
interface Cell {
  readonly cell_type: "code" | "markdown";
  readonly source: readonly string[];
  readonly outputs?: readonly unknown[];
  readonly execution_count?: number | null;
}

/** The output of one cell: a value, or formats to choose from. */
type Shown = string | Readonly<Record<string, unknown>>;

const { cells } = JSON.parse(await Deno.readTextFile(NOTEBOOK)) as { cells: readonly Cell[] };
const codeCells = cells.filter((cell) => cell.cell_type === "code");

/**
 * The code cells as one module. A cell whose last paragraph is an expression shows its value, as in Jupyter; `show` prints
 * what the cell shows as a line of JSON.
 */
function moduleOf(cells: readonly Cell[]): string {
  const blocks = cells.map((cell) => {
    const paragraphs = cell.source.join("").trim().split("\n\n");
    const last = paragraphs.pop()!;
    if (/^(?:const|for|if|await|import|function|interface)\b/.test(last)) {
      return [...paragraphs, last].join("\n\n");
    }
    return [...paragraphs, `show(${last.replace(/;$/, "")});`].join("\n\n");
  });
  return `
    function show(value: unknown) {
      const display = Object(value)[Symbol.for("Jupyter.display")];
      console.log(JSON.stringify(typeof display === "function" ? display() : value));
    }
  ` + blocks.join("\n\n");
}

/** Type-checks and runs the cells from the notebook's folder, with a store. */
async function runCells(store: string): Promise<Deno.CommandOutput> {
  const folder = await Deno.makeTempDir();
  try {
    const file = join(folder, "cells.ts");
    await Deno.writeTextFile(file, moduleOf(codeCells));
    return await new Deno.Command(Deno.execPath(), {
      cwd: import.meta.dirname!,
      args: [
        "run",
        "--quiet",
        "--check",
        "--no-prompt",
        `--config=${join(ROOT, "deno.json")}`,
        "--allow-read",
        "--allow-write",
        "--allow-env",
        "--allow-ffi",
        "--allow-sys",
        `--allow-run=${Deno.execPath()}`,
        toFileUrl(file).href,
      ],
      env: { ETHOS_STORE: store, TMPDIR: folder, NO_COLOR: "1" },
      stdin: "null",
    }).output();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Draws a chart and counts its marks. */
async function drawn(spec: TopLevelSpec): Promise<{ warnings: string[]; paths: number }> {
  const warnings: string[] = [];
  const logger = {
    level: () => logger,
    error: (...texts: unknown[]) => (warnings.push(texts.join(" ")), logger),
    warn: (...texts: unknown[]) => (warnings.push(texts.join(" ")), logger),
    info: () => logger,
    debug: () => logger,
  };
  const view = new View(parse(compile(spec, { logger }).spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return {
    warnings,
    paths: svg.match(/aria-roledescription="(?:(?:line|rule) mark|point")/g)?.length ?? 0,
  };
}

Deno.test("The notebook holds no outputs", () => {
  assert(codeCells.length > 5);
  for (const cell of codeCells) {
    assertEquals(cell.outputs, []);
    assertEquals(cell.execution_count, null);
  }
});

Deno.test("Every cell runs, and shows the committed report and a store's runs", async () => {
  await using toy = await ToyProject.create();
  await Deno.writeTextFile(toy.path("toy.yaml"), "name: toy\n");
  assertEquals((await toy.run("reproduce")).code, 0);

  const { code, stdout, stderr } = await runCells(toy.path(".ethos"));
  const decoder = new TextDecoder();
  assertEquals(code, 0, decoder.decode(stderr));
  const shown = decoder.decode(stdout).trim().split("\n").map((line): Shown => JSON.parse(line));
  assertEquals(shown.length, 7);
  assertEquals(await Deno.realPath(shown[0] as string), await Deno.realPath(ROOT));

  const tables = shown.slice(1).flatMap((show) =>
    typeof show === "string" ? [] : show["text/html"] ?? []
  );
  assertEquals(tables.length, 2);
  assertMatch(
    String(tables[0]),
    /<td>architecture<\/td><td>dense<\/td><td>3<\/td><td>-0\.26935<\/td>/,
  );
  assertMatch(String(tables[0]), /better than the base/);
  assertMatch(String(tables[0]), /not distinguishable/);
  assertMatch(String(tables[1]), /<td>done<\/td><td>[^<]*\/toy\.yaml<\/td>/);

  const charts = shown.slice(1).flatMap((show) =>
    typeof show === "string" ? [] : show["application/vnd.vegalite.v5+json"] ?? []
  ) as TopLevelSpec[];
  assertEquals(charts.length, 4);
  for (const chart of charts) {
    const { warnings, paths } = await drawn(chart);
    assertEquals(warnings, []);
    assert(paths >= 3, `${chart.description} shows ${paths} marks`);
  }
});

Deno.test("Without a store the notebook says what to do first", async () => {
  const { code, stderr } = await runCells("/nowhere/at/all");
  assertEquals(code, 1);
  assertMatch(
    new TextDecoder().decode(stderr),
    /There is no store at \/nowhere\/at\/all; run `reproduce` first/,
  );
});
