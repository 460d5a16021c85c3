import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { DuckDBInstance } from "@duckdb/node-api";
import { join } from "@std/path";
import { openTestGpu } from "../../model/gpu/testing.ts";
import {
  noisyTensors,
  smallModel,
  writeModelFile,
} from "../../model/inference/inference_testing.ts";
import { expertLayers } from "../../model/interpret/expert_layers.ts";
import { BEAM, DENSE, type ModelChanges } from "../../model/testing.ts";
import { formatVocabulary } from "../../model/text/tokenizer.ts";
import { UserError } from "../../pipeline/errors.ts";
import { BYTE_VOCABULARY, someText, writeStore } from "../commands/model/checkpoint_testing.ts";
import { evaluateCheckpoint } from "../commands/model/evaluate.ts";
import { runTask } from "../commands/speed/task_testing.ts";
import { type ExpertFindings, exploreExperts, type ExploreOptions, makeFolder } from "./explore.ts";
import { shownFindings } from "./dashboard/findings.ts";
import { promises } from "./holds.ts";
import { writeFindings } from "./report.ts";
import { estimateTrace, requireRoom, ROW_BYTES } from "./trace_file.ts";

const MIXTURE: ModelChanges = {
  ffn: { kind: "topk_moe", num_experts: 8, d_expert: 12, top_k: 2 },
};

/** A checkpoint's folder with a text beside it. */
async function scene(
  changes: ModelChanges,
  work: (
    folder: string,
    explore: (more?: Partial<ExploreOptions>) => Promise<ExpertFindings>,
  ) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const architecture = smallModel(BYTE_VOCABULARY.vocab_size, changes);
    const model = join(folder, "model.safetensors");
    await writeModelFile(model, architecture, noisyTensors(architecture, 4));
    await Deno.writeTextFile(join(folder, "vocabulary.json"), formatVocabulary(BYTE_VOCABULARY));
    await Deno.writeTextFile(join(folder, "a.txt"), someText(900));
    await work(folder, async (more = {}) => {
      const options = optionsOf(folder, more);
      const { findings } = await makeFolder(options.out, async (made) => {
        const explored = await exploreExperts(options, made);
        await writeFindings(explored, made);
        return explored;
      });
      return findings;
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function optionsOf(folder: string, more: Partial<ExploreOptions> = {}): ExploreOptions {
  return {
    checkpoint: folder,
    storeDir: join(folder, "store"),
    files: join(folder, "*.txt"),
    tokens: 300,
    sequence_length: 32,
    micro_batch: 4,
    precision: "f32",
    out: join(folder, "out"),
    limit_bytes: 2 ** 30,
    experts: 2,
    contexts: 2,
    clusters: 3,
    controls: 2,
    seed: 1,
    ablation_tokens: 128,
    gpu: openTestGpu,
    ...more,
  };
}

/** Rows of a query over Parquet files. */
async function query(sql: string): Promise<Record<string, unknown>[]> {
  const instance = await DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  try {
    return (await connection.runAndReadAll(sql)).getRowObjectsJS();
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

Deno.test("experts of a node: the trace has the usage of an evaluation, and findings come with controls", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const storeDir = join(folder, "store");
    await writeStore(storeDir);
    const { files: _, ...options } = optionsOf(folder, {
      storeDir,
      checkpoint: "train[base,seed=1]",
    });
    const { findings } = await makeFolder(options.out, async (made) => {
      const explored = await exploreExperts(options, made);
      await writeFindings(explored, made);
      return explored;
    });
    const evaluated = await evaluateCheckpoint({
      checkpoint: options.checkpoint,
      ...{ storeDir, split: "validation", tokens: 300, micro_batch: 4, sequence_length: 32 },
      ...{ precision: "f32", gpu: openTestGpu },
    });
    const trace = join(options.out, "trace.parquet");
    for (const { layer, hottest, experts } of evaluated.layers) {
      const rows = await query(
        `SELECT expert, count(*)::INTEGER AS n, sum(weight) AS w FROM '${trace}' WHERE layer = ${layer} GROUP BY expert`,
      );
      assertEquals(rows.reduce((sum, { n }) => sum + Number(n), 0), 300 * 6);
      // Two heads, each of whose weights come to 1.
      assertAlmostEquals(rows.reduce((sum, { w }) => sum + Number(w), 0), 2 * 300, 1e-3);
      for (const { expert, share } of hottest!) {
        const row = rows.find((each) => each["expert"] === expert);
        assertAlmostEquals(Number(row!["n"]), share * 1800, 1e-6);
      }
      const use = findings.use.find((each) => each.layer === layer)!;
      assertEquals([use.experts, use.used], [experts, rows.length]);
    }
    const [tokens] = await query(
      `SELECT count(*)::INTEGER AS n, avg(loss) AS nats FROM '${
        join(options.out, "tokens.parquet")
      }'`,
    );
    assertEquals(tokens!["n"], 300);
    assertAlmostEquals(Number(tokens!["nats"]), evaluated.nats, 1e-5);
    assertEquals(findings.trace.rows, 2 * 1800);
    // The estimate is no less than what lay on disk in the end.
    assert(findings.trace.bytes < estimateTrace(expertLayers(smallModel(257)), 300).bytes);
    for (const each of findings.specialisation) {
      assertEquals([each.shuffled.count, each.random.count, each.same_token.count], [2, 2, 2]);
      // Experts of the same token are permuted among themselves, so nothing is left of the token beyond them.
      if (each.label === "token") assertAlmostEquals(each.beyond_same_token, 0, 1e-9);
      if (each.label === "token") assert(each.beyond_shuffled > 0);
    }
    for (const { controls } of findings.ablation.edits) assertEquals(controls.changes.length, 2);
    assertEquals(findings.clusters.map(({ experts }) => experts), [49, 49]);
    assertEquals(new Set(findings.paths.map(({ end }) => end)), new Set(["near", "random"]));
    assertEquals(findings.contexts[0]!.contexts.length, 2);
    const names = await Array.fromAsync(Deno.readDir(options.out), ({ name }) => name);
    assertEquals(names.sort(), [
      ...["experts.json", "figures", "report.html", "report.md", "report.pdf"],
      ...["tokens.parquet", "trace.parquet"],
    ]);
    const written = JSON.parse(await Deno.readTextFile(join(options.out, "experts.json")));
    assertEquals(written, JSON.parse(JSON.stringify(findings)));
    // The dashboard's page shows them, with all that the report says of the promises.
    const shown = shownFindings(written);
    assert(typeof shown !== "string", String(shown));
    assertEquals(shown.promises, promises(findings));
    for (const { layer, experts } of shown.used) {
      const use = findings.use.find((each) => each.layer === layer)!;
      assertEquals(experts.length, use.used);
      assertEquals(experts.reduce((sum, { uses }) => sum + uses, 0), use.assignments);
    }
    const [first] = findings.contexts;
    const listed = findings.used[0]!.experts.find(({ expert }) => expert === first!.expert)!;
    assertEquals(listed.tokens, first!.tokens.slice(0, 3));
    assertStringIncludes(
      await Deno.readTextFile(join(options.out, "report.md")),
      "The promises of section 8.2",
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("experts of a mixture, and behind beams by the ids of their axes", async () => {
  await scene(MIXTURE, async (_, explore) => {
    const found = await explore();
    assertEquals(found.kind, "topk_moe");
    assertEquals(found.paths, []);
    assert(found.use.every(({ assignments }) => assignments === 600));
  });
  await scene({ ffn: BEAM }, async (folder, explore) => {
    const { use, contexts } = await explore();
    assertEquals(use[0]!.experts, 343);
    assert(contexts.every(({ expert }) => /^[0-6]\.[0-6]\.[0-6]$/.test(expert)));
    const rows = await query(
      `SELECT DISTINCT expert FROM '${join(folder, "out", "trace.parquet")}'`,
    );
    assert(rows.every(({ expert }) => /^[0-6]\.[0-6]\.[0-6]$/.test(String(expert))));
  });
});

Deno.test("evaluate measures an edited model beside itself", async () => {
  await scene(MIXTURE, async (folder) => {
    const evaluate = (edits?: Record<string, unknown>) =>
      evaluateCheckpoint({
        checkpoint: folder,
        storeDir: join(folder, "store"),
        files: join(folder, "*.txt"),
        ...{ tokens: 200, micro_batch: 2, sequence_length: 32, precision: "f32", gpu: openTestGpu },
        ...(edits && { edits: { clusters: 3, controls: 2, seed: 1, ...edits } }),
      });
    const own = await evaluate();
    for (
      const edits of [
        { without_experts: "1:3,2:1" },
        { without_experts: "2:c1" },
        { replace_code: ["1:2=1:5"] },
        { without_experts: "2:0", replace_code: ["1:2=2:5", "1:3=1:1"] },
      ]
    ) {
      const { nats, edit } = await evaluate(edits);
      assertAlmostEquals(edit!.unedited_nats, own.nats, 1e-6);
      assertAlmostEquals(edit!.nats, nats, 1e-5);
      assert(Math.abs(edit!.change) > 1e-5);
      // A cluster may have more experts than there are others.
      if (edits.without_experts !== "2:c1") assertEquals(edit!.controls.changes.length, 2);
      assert(edit!.by_token.every(({ text }) => text.length > 0));
    }
    const short = join(folder, "short.json");
    await Deno.writeTextFile(short, "[1]");
    await assertRejects(
      () => evaluate({ replace_code: [`1:2=${short}`] }),
      UserError,
      "the code of 1:2 has 612 numbers, got 1",
    );
    const gpu = () => Promise.reject(new Error("No device should be opened"));
    const refused = async (edits: Record<string, unknown>, message: string) => {
      const error = await assertRejects(
        () =>
          evaluateCheckpoint({
            ...{
              checkpoint: folder,
              storeDir: folder,
              files: join(folder, "*.txt"),
              micro_batch: 2,
            },
            ...{ precision: "f32", gpu, edits: { clusters: 3, controls: 2, seed: 1, ...edits } },
          }),
        UserError,
        message,
      );
      assertEquals(error.exitCode, 2);
    };
    await refused({ without_experts: "0:1" }, "Layer 0 has no experts; expected one of 1, 2");
    await refused({ without_experts: "1:8" }, "Layer 1 has no expert 8; expected a number from 0");
    await refused({ without_experts: "1:c3" }, "1:c3 is no cluster; expected c0 to c2");
    await refused({ without_experts: "1;2" }, 'has "1;2"; expected LAYER:ID or LAYER:cCLUSTER');
    await refused({ replace_code: ["1:2"] }, "expected LAYER:ID=LAYER:ID or LAYER:ID=FILE");
    await refused({ replace_code: ["1:c2=1:3"] }, "1:c2 is a cluster; expected LAYER:ID");
    await refused({ replace_code: ["1:2=nowhere.json"] }, "nowhere.json can't be read as JSON");
    const file = join(folder, "code.json");
    await Deno.writeTextFile(file, '["a"]');
    await refused({ replace_code: [`1:2=${file}`] }, "is no code; expected an array of numbers");
  });
});

Deno.test("experts refuses what it cannot look into before it opens a device", async () => {
  const gpu = () => Promise.reject(new Error("No device should be opened"));
  await scene(MIXTURE, async (folder, explore) => {
    const refused = async (message: string, more: Partial<ExploreOptions>) => {
      const error = await assertRejects(() => explore({ gpu, ...more }), UserError, message);
      assertEquals(error.exitCode, 2);
      assert(!error.message.includes("\n"));
    };
    await refused("is there already; give --out a name that is free", { out: folder });
    await refused("The trace of 300 tokens has up to 1200 rows", { limit_bytes: 1000 });
    await refused("--clusters is 9, but a layer has 8 experts", { clusters: 9 });
    await refused("No file matches --files", { files: join(folder, "*.md") });
    const vast = { tokens: 2 ** 24, rows: 2 ** 60, bytes: 2 ** 60 * ROW_BYTES };
    await assertRejects(
      () => requireRoom(vast, { folder, limit_bytes: Infinity }),
      UserError,
      `${folder} has `,
    );
    const { code, stderr } = await runTask([
      ...["experts", "--checkpoint", folder, "--out", join(folder, "b"), "--clusters", "1"],
    ]);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "--clusters is 1; expected a whole number from 2 to 256");
  });
  await scene(DENSE, async (_, explore) => {
    await assertRejects(
      () => explore({ gpu }),
      UserError,
      "feed-forwards are dense; expected a model with experts",
    );
  });
});
