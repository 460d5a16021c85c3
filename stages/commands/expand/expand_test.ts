/** The command `expand` on a small model: one command line to an expanded folder, and again without work. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { withFolder } from "../../../model/checkpoint/folder_testing.ts";
import { ExpandedCheckpoint } from "../../../model/sparse/files/checkpoint.ts";
import { runCommandLine } from "../../../pipeline/command_line.ts";
import { perplexitySchema } from "../../perplexity/result.ts";
import { writeModel } from "../../pretrained/model_testing.ts";
import { ROOT } from "../../reproduce_testing.ts";
import { configurationOf } from "./expand.ts";
import { expandCommand } from "./expand_command.ts";

/** Runs the command in this process, and keeps what it writes. */
async function expand(
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: "", stderr: "" };
  const restore = (["stdout", "stderr"] as const).map((name) => {
    const { writeSync } = Deno[name];
    const decoder = new TextDecoder();
    Deno[name].writeSync = (bytes) => {
      written[name] += decoder.decode(bytes, { stream: true });
      return bytes.length;
    };
    return () => void (Deno[name].writeSync = writeSync);
  });
  try {
    const code = await runCommandLine(["expand", ...args], {
      name: "deno task",
      description: "The experiment.",
      root: ROOT,
      defaultConfig: "configs/tiny.yaml",
      loadExperiment: () => Promise.reject(new Error("no configuration is read")),
      commands: [expandCommand],
    });
    return { code, ...written };
  } finally {
    for (const back of restore) back();
  }
}

Deno.test("expand measures a model, expands it, and measures it again; the same command finds everything", async () => {
  await withFolder(async (dir) => {
    const model = join(dir, "model");
    await writeModel(model);
    const text = Array.from({ length: 300 }, (_, i) => `Line ${i * i % 97} of ${i} words`);
    await Deno.writeTextFile(join(dir, "train.txt"), text.join("\n"));
    await Deno.writeTextFile(join(dir, "test.txt"), text.toReversed().join("\n"));
    const out = join(dir, "expanded");
    const args = [
      ...["--model", model, "--sparsity", "2:4", "--clusters", "2", "--bits", "4"],
      ...["--dataset", join(dir, "train.txt"), "--evaluate", join(dir, "test.txt")],
      ...["--samples", "8", "--seqlen", "24", "--windows", "5", "--pca-factor", "8"],
      ...["--block-size", "12", "--restarts", "2", "--store", join(dir, "store"), "--out", out],
    ];
    const first = await expand(...args, "--verbose");
    assertEquals(first.code, 0, first.stderr);
    for (const part of ["dense ", "expanded ", "multiply-adds a token", "mid   down"]) {
      assertStringIncludes(first.stdout, part);
    }
    assertStringIncludes(first.stdout, `The expanded model is in ${out}`);
    assertStringIncludes(first.stderr, "expand[sparsity=2:4,clusters=2,bits=4]");
    using checkpoint = await ExpandedCheckpoint.open(out);
    assertEquals(checkpoint.expansion.pruning.pattern, [2, 4]);
    assertEquals(checkpoint.expansion.pruning.bits, 4);

    const again = await expand(...args, "--json");
    assertEquals(again.code, 0, again.stderr);
    assert(!again.stderr.includes("runs ("), again.stderr);
    const { dense, expanded, out: folder } = JSON.parse(again.stdout);
    assertEquals(folder, out);
    const [before, after] = [perplexitySchema.parse(dense), perplexitySchema.parse(expanded)];
    assertEquals([before.windows, after.windows], [5, 5]);
    // Half of the weights in four bits, and two bits each for their places.
    assert(after.mlp.multiply_adds < before.mlp.multiply_adds);

    // Another sparsity finds the model, its windows and its own measurement.
    const other = await expand(...args.map((arg) => arg === "2:4" ? "0.25" : arg));
    assertEquals(other.code, 0, other.stderr);
    assert(!/(pretrained|calibrate|perplexity\[dense\]): runs/.test(other.stderr), other.stderr);
  });
});

Deno.test("options become a configuration, and what is not given has the published value", () => {
  const none = {
    clusters: undefined,
    bits: undefined,
    samples: undefined,
    seqlen: undefined,
    windows: undefined,
    "pca-factor": undefined,
    restarts: undefined,
    "block-size": undefined,
    percdamp: undefined,
  };
  const options = {
    numbers: none,
    model: "someone/model",
    revision: "v1",
    sparsity: "0.5",
    symmetric: false,
    method: undefined,
    pca: true,
    dataset: "wikitext2",
    evaluate: undefined,
    seed: 0,
    verbose: false,
    out: undefined,
  } as const;
  const { calibration, evaluation, expansion, pruning } = configurationOf(options);
  assertEquals([calibration.dataset, calibration.samples], ["wikitext2", 128]);
  assertEquals(evaluation.dataset, "wikitext2");
  assertEquals([expansion.clusters, expansion.pca, expansion.pca_factor], [16, true, 32]);
  assertEquals([pruning.sparsity, pruning.block, pruning.damping], [0.5, 128, 0.01]);
  const other = configurationOf({
    ...options,
    sparsity: "4:8",
    pca: false,
    dataset: "a.txt",
    evaluate: "c4",
    method: "magnitude",
    numbers: { ...none, seqlen: 64 },
  });
  assertEquals(other.pruning.sparsity, "4:8");
  assertEquals([other.expansion.pca, other.expansion.clusters], [false, 1]);
  assertEquals(other.calibration.files?.glob, "a.txt");
  assertEquals([other.evaluation.dataset, other.evaluation.length], ["c4", 64]);
});
