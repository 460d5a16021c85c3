import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { withFolder } from "../../model/checkpoint/folder_testing.ts";
import { UserError } from "../../pipeline/errors.ts";
import { runTask } from "../../stages/commands/speed/task_testing.ts";
import { readColumns, renderTable } from "./table.ts";

const ROOT = fromFileUrl(new URL("../..", import.meta.url));

const measure = (...args: string[]) => runTask(["measure", ...args]);

/** Cells of a Markdown table's lines, however wide they are. */
const cells = (text: string) =>
  text.split("\n").filter((line) => /^\|.*[^-:| ]/.test(line)).map((line) =>
    line.split("|").map((cell) => cell.trim())
  );

Deno.test("The README's table is what the committed results say", async () => {
  const columns = [];
  for (const folder of ["h200", "h100"]) {
    columns.push(...await readColumns(join(ROOT, "results", folder, "measured")));
  }
  const readme = await Deno.readTextFile(join(ROOT, "README.md"));
  const from = readme.indexOf("NVIDIA H200, Deno");
  const start = readme.lastIndexOf("\n\n", from);
  assertEquals(
    cells(readme.slice(start, readme.indexOf("\n\n", from))),
    cells(renderTable(columns)),
  );
});

Deno.test("The task measure keeps each result, and measures only what is not there", async () => {
  await withFolder(async (folder) => {
    const out = join(folder, "out");
    const only = ["--config", "configs/testing/minimal.yaml", "--gpu", "deno", "--only", "gemm"];
    const first = await measure("--out", out, ...only);
    assertEquals(first.code, 0, first.stderr);
    assertStringIncludes(first.stderr, "[1/1] deno-gemm");
    assert(/\| product of squares, f32.*TFLOP\/s/.test(first.stdout), first.stdout);
    const files = await Array.fromAsync(Deno.readDir(out), ({ name }) => name);
    assertEquals(files.sort(), ["deno-gemm.json", "deno-gemm.txt"]);
    const again = await measure("--out", out, ...only);
    assertEquals([again.code, again.stdout], [0, first.stdout]);
    assertStringIncludes(again.stderr, "deno-gemm: there");
    // A step that fails ends the others no sooner, and leaves nothing that could be taken for a result.
    const absent = [
      "--config",
      "configs/testing/nowhere.yaml",
      "--gpu",
      "deno",
      "--only",
      "profile",
    ];
    const failed = await measure("--out", join(folder, "none"), ...absent, "--only", "f32");
    assertEquals([failed.code, failed.stdout], [1, ""]);
    assertStringIncludes(failed.stderr, "failed: deno-step-f32, deno-profile");
  });
});

Deno.test("The task measure refuses what it cannot do", async () => {
  await withFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "dawn-step.json"), '{"format": "ethos-bench"}');
    const refused = async (message: string, ...args: string[]) => {
      const { code, stderr } = await measure(...args);
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, message);
    };
    await Promise.all([
      refused("Expected --out FOLDER to measure"),
      refused("--gpu is cpu; expected deno or dawn.", "--out", folder, "--gpu", "cpu"),
      refused("--only nothing matches no step", "--out", folder, "--only", "nothing"),
      refused("'--speed'", "--speed"),
      refused("/nowhere; expected files such as deno-step.json", "--table", "/nowhere"),
    ]);
    const damaged = await assertRejects(() => readColumns(folder), UserError);
    assertStringIncludes(damaged.message, "dawn-step.json is not what bench and profile write");
    assertEquals(await readColumns(join(folder, "none")), []);
  });
});

Deno.test("A table has a dash for what was not measured, and no row that nobody measured", () => {
  const entry = { suite: "step", median: 2, tokens_per_second: 16_384, peak_bytes: 2 ** 30 };
  const table = renderTable([
    {
      adapter: "A",
      runtime: "deno",
      batch: "8 × 4,096",
      entries: [
        { ...entry, id: "step.mixed.none.8x4096" },
        { ...entry, id: "scaling.num_experts.4096.fused" },
        { ...entry, id: "scaling.num_experts.65536.fused", tokens_per_second: 8_192 },
      ],
    },
    {
      adapter: "A",
      runtime: "dawn",
      batch: "",
      entries: [{ ...entry, id: "step.f32.none.8x4096" }],
    },
  ]);
  assertEquals(cells(table), [
    ["", "", "A, Deno", "A, Dawn", ""],
    ["", "training, 8 × 4,096 tokens a step", "16,384 tokens/s", "–", ""],
    ["", "… in f32", "–", "16,384 tokens/s", ""],
    ["", "device memory", "1.00 GiB", "–", ""],
    ["", "fewest to most experts a layer, fused", "4,096 to 65,536: −50 %", "–", ""],
  ]);
});
