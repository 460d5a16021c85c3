/** The stage `calibrate`: the published protocols, token by token, and what is refused. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { withFolder } from "../../model/checkpoint/folder_testing.ts";
import { uniform, windowStarts } from "../../model/sparse/routing/uniform.ts";
import { JsonTokenizer } from "../../model/text/tokenizer_json.ts";
import type { JsonValue, StageContext } from "../../pipeline/stage.ts";
import { SourceError } from "../download/sources/error.ts";
import { c4Shard, HubStandin } from "../download/sources/hub/hub_standin.ts";
import { parquetOf } from "../download/sources/parquet_testing.ts";
import { FAMILIES, pretrainedNode, writeModel } from "../pretrained/model_testing.ts";
import { runStage } from "../testing.ts";
import { calibrate, runCalibrate } from "./calibrate.ts";
import { readWindows } from "./read_windows.ts";
import { textsSchema } from "./result.ts";
import { findText } from "./texts.ts";

/** Rows of a text, blank ones among them. */
const ROWS = Array.from(
  { length: 60 },
  (_, i) => i % 3 === 0 ? "" : ` = Row ${i} is the ${i}th row of the text = \n`,
);
const LENGTH = 32;
const SEED = 5;

/** Documents of which every other one is longer than a window. */
const DOCUMENTS = Array.from(
  { length: 30 },
  (_, i) => i % 2 === 0 ? "short" : `Document ${i}: ${"the quick brown fox ".repeat(i % 5 + 2)}`,
);

const FILES = {
  "wikitext-2-raw-v1/train-00000-of-00001.parquet": await parquetOf(ROWS),
  "wikitext-2-raw-v1/test-00000-of-00001.parquet": await parquetOf(ROWS.slice(20)),
  "en/c4-train.00000-of-01024.json.gz": c4Shard(DOCUMENTS),
  "en/c4-validation.00000-of-00008.json.gz": c4Shard(
    Array.from({ length: 1105 }, (_, i) => `Held out ${i}`),
  ),
};

/** Tokens of a text as a family's tokenizer gives them, behind its beginning mark. */
function tokensOf(family: keyof typeof FAMILIES, text: string): number[] {
  const tokenizer = new JsonTokenizer({ json: FAMILIES[family].tokenizer(), ends: [2] });
  return [...tokenizer.begin, ...tokenizer.encode(text)];
}

/** Runs the stage for a model of a family. */
async function windowsOf(
  dir: string,
  params: Record<string, JsonValue>,
  family: keyof typeof FAMILIES = "gpt_neox",
) {
  const folder = join(dir, family);
  await writeModel(folder, family);
  const model = await pretrainedNode(folder, join(dir, "model"));
  await using hub = new HubStandin({ files: FILES });
  const { output, log } = await runStage(
    calibrate,
    {
      params: {
        calibration: { samples: 6, length: LENGTH },
        evaluation: { length: LENGTH },
        seed: SEED,
        ...params,
      },
      inputs: { model: [model] },
      dir: join(dir, "node"),
    },
    (context) => runCalibrate(context, { endpoint: hub.endpoint, offline: false, attempts: 1 }),
  );
  return {
    texts: textsSchema.parse(output.json("texts")),
    calibration: [...(await readWindows(output, "calibration")).tokens],
    evaluation: [...(await readWindows(output, "evaluation")).tokens],
    log,
  };
}

for (const family of ["gpt_neox", "llama"] as const) {
  Deno.test(`wikitext2 with the tokenizer of ${family}: rows joined by a space, and by two line ends`, async () => {
    await withFolder(async (dir) => {
      const found = await windowsOf(dir, {}, family);
      const train = tokensOf(family, ROWS.join(" "));
      const starts = windowStarts(SEED, 6, { tokens: train.length, length: LENGTH });
      assertEquals(found.texts.calibration.starts, starts);
      assertEquals(
        found.calibration,
        starts.flatMap((start) => train.slice(start, start + LENGTH)),
      );
      const test = tokensOf(family, ROWS.slice(20).join("\n\n"));
      const windows = Math.floor(test.length / LENGTH);
      assertEquals(found.evaluation, test.slice(0, windows * LENGTH));
      const { calibration, evaluation } = found.texts;
      assertEquals([evaluation.windows, evaluation.tokens], [windows, test.length]);
      assertEquals([calibration.documents, evaluation.documents], [60, 40]);
      assert(calibration.files[0]!.sha256 !== null && calibration.revision !== null);
      // The family's beginning mark, once.
      assertEquals(found.evaluation.filter((id) => id === 1).length, family === "llama" ? 1 : 0);
    });
  });
}

Deno.test("c4: a window of each long document, and 1,100 documents joined by a space", async () => {
  await withFolder(async (dir) => {
    const found = await windowsOf(dir, {
      calibration: { dataset: "c4", samples: 6, length: LENGTH },
      evaluation: { dataset: "c4", length: LENGTH },
    });
    const long = DOCUMENTS.map((text) => tokensOf("gpt_neox", text))
      .filter((ids) => ids.length > LENGTH).slice(0, 6);
    const starts = long.map((ids, j) => Math.floor(uniform(SEED, j) * (ids.length - LENGTH)));
    assertEquals(found.texts.calibration.starts, starts);
    assertEquals(
      found.calibration,
      long.flatMap((ids, j) => ids.slice(starts[j], starts[j]! + LENGTH)),
    );
    const text = Array.from({ length: 1100 }, (_, i) => `Held out ${i}`).join(" ");
    const ids = tokensOf("gpt_neox", text);
    assertEquals(found.texts.evaluation.documents, 1100);
    assertEquals(found.texts.evaluation.windows, 256);
    assertEquals(found.evaluation, ids.slice(0, 256 * LENGTH));
    await assertRejects(
      () => windowsOf(dir, { calibration: { dataset: "c4", samples: 40, length: LENGTH } }),
      RangeError,
      "calibration: 15 of 30 documents are longer than 32 tokens, expected 40",
    );
  });
});

Deno.test("the hub's files kept locally give what the hub gives, and files of one's own are one text", async () => {
  await withFolder(async (dir) => {
    const train = join(dir, "train.parquet");
    const test = join(dir, "test.parquet");
    await Deno.writeFile(train, FILES["wikitext-2-raw-v1/train-00000-of-00001.parquet"]);
    await Deno.writeFile(test, FILES["wikitext-2-raw-v1/test-00000-of-00001.parquet"]);
    const hub = await windowsOf(dir, {});
    const local = await windowsOf(dir, {
      calibration: { files: { glob: train }, samples: 6, length: LENGTH },
      evaluation: { files: { glob: test }, length: LENGTH },
    });
    assertEquals([local.calibration, local.evaluation], [hub.calibration, hub.evaluation]);

    const text = "One line,\nand another. ".repeat(40);
    await Deno.writeTextFile(join(dir, "own.txt"), `${text}\n\n\n`);
    const files = { dataset: "files", files: { glob: join(dir, "own.txt") } };
    const own = await windowsOf(dir, {
      calibration: { ...files, samples: 3, length: LENGTH },
      evaluation: { ...files, windows: 2, length: LENGTH },
    });
    const ids = tokensOf("gpt_neox", text);
    assertEquals(own.evaluation, ids.slice(0, 2 * LENGTH));
    assertEquals(own.texts.calibration.tokens, ids.length);
  });
});

Deno.test("embedded text to calibrate with is not the text that is measured", async () => {
  const context = {} as StageContext<unknown>;
  const read = async (role: "calibration" | "evaluation") => {
    const { documents } = await findText(context, { dataset: "embedded" }, { role, hub: {} });
    return await Array.fromAsync(documents);
  };
  const [first, last] = [await read("calibration"), await read("evaluation")];
  assertEquals(new Set(first).intersection(new Set(last)).size, 0);
  const length = (texts: string[]) => texts.reduce((sum, text) => sum + text.length, 0);
  for (const texts of [first, last]) assert(length(texts) > 1.9e6 && length(texts) <= 2e6);
});

Deno.test("calibrate says which text does not do", async (t) => {
  await withFolder(async (dir) => {
    const write = async (name: string, text: string) => {
      await Deno.writeTextFile(join(dir, name), text);
      return { glob: join(dir, name) };
    };
    const short = await write("short.txt", "too short");
    const blank = await write("blank.txt", " \n\n");
    const rows = await write("rows.txt", "rows");
    const cases: readonly [string, Record<string, JsonValue>, string][] = [
      [
        "a calibration text of less than a window",
        { calibration: { dataset: "files", files: short, length: LENGTH } },
        "calibration: No window of 32 tokens fits in a text of 9; lower calibration.length",
      ],
      [
        "an evaluation text of less than a window",
        { evaluation: { dataset: "files", files: short, length: LENGTH } },
        "evaluation: no window of 32 tokens fits in a text of 9; lower evaluation.length",
      ],
      [
        "a window longer than the model's positions",
        { calibration: { length: 65 } },
        "calibration.length is 65; the model has 64 positions",
      ],
      [
        "no text",
        { evaluation: { dataset: "files", files: blank, length: LENGTH } },
        `evaluation.files.glob "${blank.glob}" has no text`,
      ],
      [
        "plain text in the place of rows",
        { calibration: { dataset: "wikitext2", files: rows, length: LENGTH } },
        `calibration.files.glob matches ${rows.glob}, which has no rows`,
      ],
      [
        "files that changed after the plan",
        { evaluation: { dataset: "files", files: { ...rows, fingerprint: "0".repeat(64) } } },
        `The files of evaluation.files.glob "${rows.glob}" changed after the experiment was planned`,
      ],
    ];
    for (const [what, params, expected] of cases) {
      await t.step(what, async () => {
        const error = await assertRejects(() => windowsOf(dir, params), Error, expected);
        assert(error instanceof RangeError || error instanceof SourceError);
        assert(!error.message.includes("\n"));
      });
    }
  });
});
