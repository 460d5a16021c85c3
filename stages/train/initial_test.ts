import { assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { architectureOf } from "../../model/config.ts";
import { noisyTensors, writeModelFile } from "../../model/inference/inference_testing.ts";
import { formatVocabulary } from "../../model/text/tokenizer.ts";
import { ConfigurationError } from "../../pipeline/config/config.ts";
import { BYTE_VOCABULARY } from "../commands/model/checkpoint_testing.ts";
import { loadExperiment } from "../experiment/load.ts";
import { PARTS } from "../experiment/parts.ts";
import type { TrainParams } from "./train.ts";
import { assertSameVocabulary, fileDigest, initialModelFile } from "./initial.ts";

const CONFIG = fromFileUrl(
  new URL("../../configs/testing/sparse_moe_offline.yaml", import.meta.url),
);

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a model to start from is part of the keys of trainings alone", () =>
  inFolder(async (folder) => {
    const path = join(folder, "model.safetensors");
    const nodesOf = async (...set: string[]) => {
      const { nodes } = await loadExperiment({ config: CONFIG, set }, PARTS);
      return nodes.filter(({ stage }) => ["train", "benchmark"].includes(stage.name))
        .map(({ params }) => params as unknown as TrainParams);
    };
    const [{ model }] = await nodesOf() as [TrainParams];
    const architecture = architectureOf({ ...model, vocab_size: 320 });
    const write = (seed: number) =>
      writeModelFile(path, architecture, noisyTensors(architecture, seed));
    const alone = "ablations=[]";
    const set = [`train.initial.checkpoint=${path}`, alone];
    await write(1);
    const [base, benchmark] = await nodesOf(...set);
    const fingerprint = await fileDigest(path);
    assertEquals(base!.train.initial, { checkpoint: path, lengthen: false, fingerprint });
    assertEquals(benchmark, (await nodesOf(alone))[1]);
    await write(2);
    assertNotEquals((await nodesOf(...set))[0]!.train.initial?.fingerprint, fingerprint);

    const refused = async (message: string, ...more: string[]) => {
      const error = await assertRejects(() => nodesOf(...set, ...more), ConfigurationError);
      assertStringIncludes(error.message, `${CONFIG}: train.initial.checkpoint: ${message}`);
    };
    await refused(`${path} has 32 positions, the model 64`, "model.trunk.max_positions=64");
    await refused(`${path} is of another model: d_model is 16`, "model.d_model=32");
    await Deno.remove(path);
    await refused(`there is no file or folder ${path}`);
  }));

Deno.test("a model is found in a folder, and speaks the vocabulary that lies beside it", () =>
  inFolder(async (folder) => {
    await assertRejects(() => initialModelFile(folder), Error, "holds no model; expected");
    const last = join(folder, "last", "model.safetensors");
    await Deno.mkdir(join(folder, "last"));
    await Deno.writeTextFile(last, "");
    assertEquals(await initialModelFile(folder), last);
    const own = join(folder, "model.safetensors");
    await Deno.writeTextFile(own, "");
    assertEquals(await initialModelFile(folder), own);
    assertEquals(await initialModelFile(own), own);
    const vocabulary = formatVocabulary(BYTE_VOCABULARY);
    // Without one beside it nobody knows.
    await assertSameVocabulary(last, vocabulary);
    await Deno.writeTextFile(join(folder, "vocabulary.json"), vocabulary);
    await assertSameVocabulary(last, vocabulary);
    await assertSameVocabulary(own, vocabulary);
    const other = { ...BYTE_VOCABULARY, vocab_size: 258, endoftext: 257, tokens: [1000] };
    await assertRejects(
      () => assertSameVocabulary(last, formatVocabulary(other)),
      Error,
      "expected that of the tokenizer section",
    );
  }));
