/**
 * Bad input of Sparse Expansion through the real command line: exit code 2, one line that names the key, and nothing is written.
 *
 * Faults that only the run can find are tested where they are found: texts without a window in `stages/calibrate/calibrate_test.ts`, weights that are not finite in
 * `model/pretrained/checkpoint_test.ts`, rows that are not finite or too few different ones in `model/sparse/{mlp,model,expansion}_test.ts`, tokens that the model lacks in
 * `model/sparse/folder_test.ts`.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { runCommandLine } from "../../pipeline/command_line.ts";
import { expandCommand } from "../commands/expand/expand_command.ts";
import { loadAnyExperiment } from "../experiment/kinds.ts";
import { FAMILIES, writeModel } from "../pretrained/model_testing.ts";
import { ROOT } from "../reproduce_testing.ts";

/** Runs a command line in this process and keeps its standard error. */
async function commandLine(args: readonly string[]): Promise<{ code: number; stderr: string }> {
  const { writeSync } = Deno.stderr;
  let stderr = "";
  const decoder = new TextDecoder();
  Deno.stderr.writeSync = (bytes) => {
    stderr += decoder.decode(bytes, { stream: true });
    return bytes.length;
  };
  try {
    const code = await runCommandLine(args, {
      name: "deno task",
      description: "The experiment.",
      root: ROOT,
      defaultConfig: "configs/tiny.yaml",
      loadExperiment: loadAnyExperiment,
      commands: [expandCommand],
    });
    return { code, stderr };
  } finally {
    Deno.stderr.writeSync = writeSync;
  }
}

/** A configuration, with `MODEL` in the place of the model's folder. */
const BASE = `name: bad
experiment: sparse_expansion
model: { name: MODEL }
calibration: { dataset: embedded, samples: 4, length: 16 }
evaluation: { dataset: embedded, length: 16 }
expansion: { clusters: 2, pca_factor: 4 }
pruning: { sparsity: 0.5, block: 12 }
`;

/** A change of the configuration or of the model, and the message. */
interface Bad {
  readonly set?: readonly string[];
  readonly text?: string;
  readonly family?: keyof typeof FAMILIES;
  /** Keys that the tensors are made for. */
  readonly sizes?: Readonly<Record<string, unknown>>;
  /** Keys of `config.json`, which the tensors are not made for. */
  readonly keys?: Readonly<Record<string, unknown>>;
  readonly edit?: (
    tensors: Map<string, { shape: readonly number[]; values: Float32Array }>,
  ) => void;
  readonly shards?: number;
  /** Changes the model's folder. */
  readonly damage?: (folder: string) => Promise<void>;
  readonly says: string;
}

const set = (item: string, says: string): Bad => ({ set: [item], says });
const config = (
  keys: Readonly<Record<string, unknown>>,
  says: string,
  family: keyof typeof FAMILIES = "gpt_neox",
): Bad => ({ keys, says, family });
const shard = "model-2-of-2.safetensors";

const CASES: Readonly<Record<string, Bad>> = {
  "a sparsity of 1": set(
    "pruning.sparsity=1",
    "pruning.sparsity: expected a number at least 0 and below 1",
  ),
  "a negative sparsity": set("pruning.sparsity=-0.1", "pruning.sparsity: expected a number"),
  "a sparsity that is no number": set(
    "pruning.sparsity=half",
    'pruning.sparsity: "half" is no pattern; expected a number from 0 to below 1, or N:M such as 2:4',
  ),
  "a pattern in another form": set(
    "pruning.sparsity=(2, 4)",
    'pruning.sparsity: "(2, 4)" is no pattern',
  ),
  "more zeros than neighbours": set(
    "pruning.sparsity=5:4",
    "pruning.sparsity: 5:4 has more zeros than neighbours",
  ),
  "no zeros": set("pruning.sparsity=0:4", "pruning.sparsity: 0:4 has a zero"),
  "no neighbours": set("pruning.sparsity=0:0", "pruning.sparsity: 0:0 has a zero"),
  "neighbours that do not divide the block": set(
    "pruning.sparsity=2:5",
    "pruning.sparsity: blocks of 12 columns do not divide into groups of 5 for 2:5",
  ),
  "neighbours that do not divide the inputs": {
    set: ["pruning.sparsity=4:8", "pruning.block=16"],
    says: "pruning.sparsity: 36 inputs of the model do not divide into groups of 8 for 4:8",
  },
  "the second sparsity of a grid": set(
    "grid.sparsities=[0.5, 2:5]",
    "grid.sparsities.1: blocks of 12 columns do not divide into groups of 5 for 2:5",
  ),
  "a sparsity twice": set("grid.sparsities=[0.5, 0.5]", "grid.sparsities: a value is listed twice"),
  "one bit": set("pruning.bits=1", "pruning.bits: expected a whole number from 2 to 8, got 1"),
  "nine bits": set("pruning.bits=9", "pruning.bits: expected a whole number from 2 to 8, got 9"),
  "a symmetric grid without bits": set(
    "pruning.symmetric=true",
    "pruning.symmetric: has no effect without bits",
  ),
  "a negative damping": set("pruning.damping=-1", "pruning.damping: expected a number from 0"),
  "a block without columns": set(
    "pruning.block=0",
    "pruning.block: expected a whole number from 1",
  ),
  "no clusters": set(
    "expansion.clusters=0",
    "expansion.clusters: expected a whole number from 1 to 4096, got 0",
  ),
  "more clusters than rows": set(
    "expansion.clusters=65",
    "expansion.clusters: 65 clusters of 64 calibration rows; expected at most as many",
  ),
  "more clusters than rows in a grid": set(
    "grid.clusters=[2, 65]",
    "grid.clusters.1: 65 clusters of 64 calibration rows",
  ),
  "a negative PCA factor": set(
    "expansion.pca_factor=-1",
    "expansion.pca_factor: expected a whole number from 1 to 65536, got -1",
  ),
  "more components than rows": {
    set: ["calibration.samples=1", "expansion.pca_factor=1"],
    says: "expansion.pca_factor: 1 keeps 36 components of 36 inputs, expected at most 15",
  },
  "random directions without components": {
    set: ["expansion.pca=false", "grid.controls=[random]"],
    says: "grid.controls.0: random directions are of components; set expansion.pca: true",
  },
  "a window longer than the model's positions": set(
    "calibration.length=65",
    "calibration.length: 65 is more than the model's 64 positions",
  ),
  "no model": {
    text: BASE.replace("{ name: MODEL }", "{}"),
    says: "model: expected name, a folder or a name of the hub, or made",
  },
  "two models": set(
    "model.made.train.steps=2000",
    "model.made: name and made say two models; give one of them",
  ),
  "a revision of a folder": set("model.revision=main", "is a folder, which has no revision main"),
  "a folder that is not there": set(
    "model.name=no/such/folder",
    "model.name: model.name is no/such/folder: there is no such folder",
  ),
  "files without a dataset of files": set(
    "evaluation.files.glob=deno.json",
    "evaluation.files: has no effect with dataset: embedded",
  ),
  "a dataset of files without files": set(
    "evaluation.dataset=files",
    "evaluation.files: dataset: files needs files.glob",
  ),
  "files that are not there": {
    set: ["evaluation.dataset=files", "evaluation.files.glob=no/such/*.txt"],
    says: 'evaluation.files.glob: No file matches evaluation.files.glob "no/such/*.txt"',
  },
  "an unknown experiment": set(
    "experiment=sparse_expansions",
    "experiment: expected one of sparse_expansion",
  ),
  "a typo": set("expansion.cluster=2", "expansion.cluster: unknown key; did you mean clusters?"),
  "a made model whose heads do not divide its width": {
    text: BASE.replace("{ name: MODEL }", "{ made: { num_heads: 3, train: { steps: 2000 } } }"),
    says: "model.made.num_heads: 3 heads of a width of 64",
  },
  "a made model that starts from another": {
    text: BASE.replace(
      "{ name: MODEL }",
      "{ made: { train: { steps: 2000, initial: { checkpoint: a } } } }",
    ),
    says: "model.made.train.initial: a made model starts from random weights",
  },
  "a made model that is extended": {
    text: BASE.replace("{ name: MODEL }", "{ made: { train: { steps: 2000, extend: 3000 } } }"),
    says: "model.made.train.extend: 3000 extends a training that is finished",
  },

  "config.json without a key": config({ hidden_size: null }, "config.json has no hidden_size"),
  "another model_type": config({ model_type: "bert" }, 'config.json: model_type is "bert"'),
  "a width that heads do not divide": config(
    { num_attention_heads: 5 },
    "config.json: num_attention_heads is 5; it does not divide hidden_size 24",
  ),
  "key heads that do not divide the heads": config(
    { num_key_value_heads: 3 },
    "config.json: num_key_value_heads is 3; it does not divide num_attention_heads 4",
    "llama",
  ),
  "an odd rotary width": config(
    { rotary_pct: 0.375 },
    "config.json: rotary_pct is 0.375; 3 of a head's 8 columns would turn",
  ),
  "an unknown activation": config({ hidden_act: "relu" }, 'config.json: hidden_act is "relu"'),
  "an unknown kind of positions": config(
    { rope_scaling: { rope_type: "yarn", factor: 4 } },
    'rope_type is "yarn"',
    "llama",
  ),
  "config.json that is no JSON": {
    damage: (folder) => Deno.writeTextFile(join(folder, "config.json"), "{"),
    says: "config.json is not JSON",
  },
  "no tokenizer": {
    damage: (folder) => Deno.remove(join(folder, "tokenizer.json")),
    says: "has no tokenizer.json",
  },
  "a tokenizer of another vocabulary": {
    sizes: { vocab_size: 100 },
    says: "tokenizer.json has 262 tokens, the model's vocab_size is 100",
  },
  "a tensor that is missing": {
    edit: (tensors) => void tensors.delete("embed_out.weight"),
    says: "has no tensor embed_out.weight in its files",
  },
  "a tensor of another shape": {
    edit: (tensors) => {
      const values = new Float32Array(12);
      tensors.set("gpt_neox.final_layer_norm.bias", { shape: [12], values });
    },
    says: "tensor gpt_neox.final_layer_norm.bias is F32 [12], expected F32, F16 or BF16 [24]",
  },
  "a tensor that nothing says of": {
    edit: (tensors) => void tensors.set("extra", { shape: [1], values: new Float32Array(1) }),
    says: "has the tensor extra, of which config.json says nothing",
  },
  "no weights": {
    damage: (folder) => Deno.remove(join(folder, "model.safetensors")),
    says: "has no model.safetensors and no model.safetensors.index.json",
  },
  "a shard that the folder lacks": {
    shards: 2,
    damage: (folder) => Deno.remove(join(folder, shard)),
    says: `has no ${shard}, which model.safetensors.index.json names`,
  },
  "a shard that is shorter than its header says": {
    shards: 2,
    damage: (folder) => Deno.truncate(join(folder, shard), 4000),
    says: shard,
  },
};

for (const [what, bad] of Object.entries(CASES)) {
  Deno.test(`Sparse Expansion refuses ${what} before anything is written`, async () => {
    const dir = await Deno.makeTempDir();
    try {
      const folder = join(dir, "model");
      const { family = "gpt_neox", keys, sizes = {}, shards, edit } = bad;
      await writeModel(folder, family, {
        ...{ keys: sizes },
        ...shards && { shards },
        ...edit && { edit },
      });
      if (keys) {
        const { config } = FAMILIES[family];
        await Deno.writeTextFile(
          join(folder, "config.json"),
          JSON.stringify({ ...config, ...keys }),
        );
      }
      await bad.damage?.(folder);
      const path = join(dir, "bad.yaml");
      await Deno.writeTextFile(path, (bad.text ?? BASE).replace("MODEL", folder));
      const { code, stderr } = await commandLine([
        "reproduce",
        "--config",
        path,
        "--store",
        join(dir, "store"),
        ...(bad.set ?? []).flatMap((item) => ["--set", item]),
      ]);
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, bad.says);
      assert(stderr.startsWith("error: "), stderr);
      assertEquals(stderr.trimEnd().split("\n").length, 1, stderr);
      const left = Array.from(Deno.readDirSync(dir), ({ name }) => name).sort();
      assertEquals(left, ["bad.yaml", "model"]);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}

Deno.test("expand names the option that is wrong", async (t) => {
  const dir = await Deno.makeTempDir();
  const folder = join(dir, "model");
  await writeModel(folder);
  const cases: readonly (readonly [string, readonly string[], string])[] = [
    ["a sparsity", ["--sparsity", "1.5"], "--sparsity: expected a number"],
    ["a pattern", ["--sparsity", "2:5"], "--sparsity: blocks of 128 columns do not divide"],
    ["bits", ["--bits", "1"], "--bits: expected a whole number from 2 to 8, got 1"],
    ["clusters", ["--clusters", "0"], "--clusters: expected a whole number from 1"],
    ["a window", ["--seqlen", "65"], "--seqlen: 65 is more than the model's 64 positions"],
    ["a folder", ["--model", "no/such/folder"], "--model: model.name is no/such/folder: there is"],
    ["files alone", ["--dataset", "deno.json"], "--dataset is deno.json, files that nothing"],
    ["a folder in use", ["--out", folder], `--out ${folder} holds files of something else`],
    [
      "clusters of a magnitude",
      ["--method", "magnitude", "--clusters", "4"],
      "--clusters is 4; expected 1 with --method magnitude",
    ],
  ];
  for (const [what, args, expected] of cases) {
    await t.step(what, async () => {
      const given = args.includes("--model") ? [] : ["--model", folder];
      const text = args.includes("--dataset") ? [] : ["--dataset", "embedded"];
      const { code, stderr } = await commandLine([
        "expand",
        ...given,
        ...text,
        "--store",
        join(dir, "store"),
        ...args,
      ]);
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, expected);
    });
  }
  const left = Array.from(Deno.readDirSync(dir), ({ name }) => name);
  assertEquals(left, ["model"]);
  await Deno.remove(dir, { recursive: true });
});
