import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { architectureOf } from "../../model/config.ts";
import { writeTransformers } from "../../model/export/transformers.ts";
import {
  noisyTensors,
  smallModel,
  writeModelFile,
} from "../../model/inference/inference_testing.ts";
import { formatVocabulary } from "../../model/text/tokenizer.ts";
import { ConfigurationError } from "../../pipeline/config/config.ts";
import { llamaSection, writeByteLlama } from "../../model/pretrained/export.ts";
import { openInitialModel } from "../../model/checkpoint/initial_model.ts";
import type { JsonValue } from "../../pipeline/stage.ts";
import {
  BYTE_VOCABULARY,
  SMALL_TRAINING,
  writeDataset,
  writeStore,
} from "../commands/model/checkpoint_testing.ts";
import { loadExperiment } from "../experiment/load.ts";
import { PARTS } from "../experiment/parts.ts";
import { runStage } from "../testing.ts";
import { train, type TrainParams } from "./train.ts";
import { pretrainedNode, writeModel } from "../pretrained/model_testing.ts";
import {
  assertSameVocabulary,
  fileDigest,
  findStart,
  initialModelFile,
  vocabularyBeside,
} from "./initial.ts";
import { assertSameIds } from "./published.ts";

const CONFIG = fromFileUrl(
  new URL("../../configs/testing/sparse_moe_offline.yaml", import.meta.url),
);

/** The section `model` of the small published Llama. */
const LLAMA = [
  "model.d_model=24",
  "model.num_layers=2",
  "model.attention.num_heads=4",
  "model.attention.num_kv_heads=2",
  "model.attention.d_head=8",
  "model.attention.bias=false",
  "model.attention.d_rope=8",
  "model.ffn.kind=dense",
  "model.ffn.d_ffn=36",
  "model.ffn.activation=swiglu",
  "model.trunk.norm=rms",
  "model.trunk.positions=none",
];

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
    assertEquals(await initialModelFile(join(folder, "none")), undefined);
    for (const which of ["last", "best"] as const) {
      const path = join(folder, which, "model.safetensors");
      await Deno.mkdir(join(folder, which));
      await Deno.writeTextFile(path, "");
      assertEquals(await initialModelFile(folder, which), path);
    }
    const last = join(folder, "last", "model.safetensors");
    const own = join(folder, "model.safetensors");
    await Deno.writeTextFile(own, "");
    assertEquals(await initialModelFile(folder), own);
    assertEquals(await initialModelFile(own), own);
    const vocabulary = formatVocabulary(BYTE_VOCABULARY);
    // Without one beside it nobody knows.
    assertEquals(await vocabularyBeside(last), undefined);
    const path = join(folder, "vocabulary.json");
    await Deno.writeTextFile(path, vocabulary);
    assertEquals([await vocabularyBeside(last), await vocabularyBeside(own)], [path, path]);
    await assertSameVocabulary(path, vocabulary);
    const other = { ...BYTE_VOCABULARY, vocab_size: 258, endoftext: 257, tokens: [1000] };
    await assertRejects(
      () => assertSameVocabulary(path, formatVocabulary(other)),
      Error,
      "expected that of the tokenizer section",
    );
  }));

/** Names and parameters of the trainings, and nodes of published models, that a configuration with changes has. */
async function planned(set: readonly string[], storeDir?: string) {
  const { nodes } = await loadExperiment(
    {
      config: CONFIG,
      set: ["ablations=[]", ...set],
      ...storeDir === undefined ? {} : { storeDir },
    },
    PARTS,
  );
  const of = (name: string) => nodes.filter(({ stage }) => stage.name === name);
  return { train: of("train"), pretrained: of("pretrained") };
}

async function refused(set: readonly string[], message: string, storeDir?: string) {
  const error = await assertRejects(() => planned(set, storeDir), ConfigurationError);
  assertStringIncludes(error.message, `${CONFIG}: train.initial.checkpoint: ${message}`);
  assert(!error.message.includes("\n"), error.message);
}

const SOURCE = "train.initial.checkpoint=train[base,seed=1]";

Deno.test("a node of the store is named, and its model's digest is in the key", () =>
  inFolder(async (storeDir) => {
    const { key } = await writeStore(storeDir);
    const any = [SOURCE, "train.initial.strict=false", "model.d_model=24", "seeds=[2]"];
    const initialOf = async (...set: string[]) => {
      const { train: [node] } = await planned(set, storeDir);
      return (node!.params as unknown as TrainParams).train.initial!;
    };
    const last = await initialOf(...any);
    const best = await initialOf(...any, "train.initial.which=best");
    assertNotEquals(last.fingerprint, best.fingerprint);
    assertEquals(last.vocabulary, best.vocabulary);
    const by_key = await initialOf(`train.initial.checkpoint=${key.slice(0, 8)}`, ...any.slice(1));
    assertEquals(by_key.fingerprint, last.fingerprint);
    const object = (sha256: string) => join(storeDir, "objects", sha256.slice(0, 2), sha256);
    const found = await findStart(best, object);
    assertEquals(found.vocabulary, object(best.vocabulary!));
    assert((await openInitialModel(found.files.path)).tensors.has("layers.0.attn_norm.weight"));
    await assertRejects(
      () => findStart({ ...best, fingerprint: "0".repeat(64) }, object),
      Error,
      "no longer there",
    );

    await refused(
      [SOURCE, "train.initial.strict=false", "model.d_model=24"],
      "train[base,seed=1] is the name of a training of this experiment too, which would start from " +
        "itself the next time; expected the key, ab12ab12ab12",
      storeDir,
    );
    await refused(
      [SOURCE],
      "train[base,seed=1] is of another model: attention.kind",
      storeDir,
    );
    await refused(
      ["train.initial.checkpoint=train[bas,seed=1]"],
      "There is no checkpoint train[bas,seed=1]: no such file or folder, and no such node",
      storeDir,
    );
    await refused(
      [...any, "train.initial.revision=v1"],
      "train[base,seed=1] is not of the hub",
      storeDir,
    );
  }));

Deno.test("a folder of export-model is a trained model, and none of a published form", () =>
  inFolder(async (folder) => {
    const architecture = smallModel(BYTE_VOCABULARY.vocab_size);
    const model = join(folder, "model.safetensors");
    await writeModelFile(model, architecture, noisyTensors(architecture, 1));
    const exported = join(folder, "exported");
    await Deno.mkdir(exported);
    await writeTransformers(exported, { model, vocabulary: BYTE_VOCABULARY });
    const initial = `train.initial.checkpoint=${exported}`;
    const { train: [node], pretrained } = await planned([
      initial,
      "train.initial.strict=false",
      "model.d_model=24",
    ]);
    assertEquals(pretrained, []);
    const { fingerprint } = (node!.params as unknown as TrainParams).train.initial!;
    assertEquals(fingerprint, await fileDigest(join(exported, "model.safetensors")));
    await refused([initial], `${join(exported, "model.safetensors")} is of another model: `);
  }));

Deno.test("a published model is a node of its own, and what does not fit is refused while planning", () =>
  inFolder(async (folder) => {
    const model = join(folder, "llama");
    await Deno.mkdir(model);
    await writeModel(model, "llama", { keys: { vocab_size: 320 } });
    const initial = `train.initial.checkpoint=${model}`;
    const { train: [node], pretrained } = await planned([
      initial,
      "train.initial.strict=false",
      ...LLAMA,
    ]);
    assertEquals(pretrained.map(({ label }) => label), [model]);
    assertEquals(node!.inputs?.["initial"], pretrained);
    assertEquals(Object.keys((node!.params as unknown as TrainParams).train.initial!).sort(), [
      "checkpoint",
      "lengthen",
      "strict",
    ]);
    await planned([initial, ...LLAMA]);
    await refused(
      [initial, ...LLAMA, "model.attention.rope_base=500"],
      `${model} is of another model: attention.rope_base is 10000, expected 500`,
    );
    await refused([initial, ...LLAMA, "train.initial.which=best"], `${model} is a published model`);
    await refused(
      [initial, "train.initial.revision=v1"],
      `${model} is a folder, which has no revision v1`,
    );
    await refused([initial], `${model} is of another model: `);
    // Of a model that the cache does not have, the node finds out.
    const hub = await planned(["train.initial.checkpoint=no-such-owner/no-such-model"]);
    assertEquals(hub.pretrained.map(({ params }) => params), [{
      name: "no-such-owner/no-such-model",
    }]);
  }));

Deno.test("ids of a published model must stand for the dataset's bytes", () => {
  const ids = (tokens: readonly string[]) => ({
    vocab_size: tokens.length,
    endoftext: 0,
    decodeBytes: ([id]: Iterable<number>) => new TextEncoder().encode(tokens[id!]),
  });
  assertSameIds("m", ids(["<s>", "a", "b", "c"]), ids(["<end>", "a", "b"]));
  assertThrows(
    () => assertSameIds("m", ids(["<s>", "a", "c"]), ids(["<end>", "a", "b"])),
    Error,
    'm speaks another vocabulary: its token 2 is "c", that of the tokenizer section "b"',
  );
  assertThrows(
    () => assertSameIds("m", ids(["<s>"]), ids(["<end>", "a"])),
    Error,
    "token 1 is nothing",
  );
});

Deno.test("a training starts from the weights of a published model, which its key covers", () =>
  inFolder(async (folder) => {
    const sizes = { d_model: 16, num_layers: 2, num_heads: 2, d_ffn: 24 };
    const model = llamaSection(sizes);
    const architecture = architectureOf({ ...model, vocab_size: 257 });
    const tensors = noisyTensors(architecture, 7);
    const published = join(folder, "llama");
    await Deno.mkdir(published);
    await writeByteLlama(published, {
      architecture,
      async fill(sink) {
        for (const [name, values] of tensors) {
          await sink.writeState("value", name, Float32Array.from(values));
        }
      },
    }, { ...sizes, positions: 64 });
    const dataset = await writeDataset(join(folder, "dataset"));
    const initial = await pretrainedNode(published, join(folder, "pretrained"));
    // Without a rate the weights stay what they were.
    const learning_rate = { initial: 0, peak: 0, warmup_steps: 0 };
    const { output, json, log } = await runStage(train, {
      params: {
        model: JSON.parse(JSON.stringify(model)),
        train: {
          ...(SMALL_TRAINING as { train: object }).train,
          initial: { checkpoint: published },
          steps: 1,
          learning_rate,
        },
        seed: 1,
      },
      inputs: { dataset: [dataset], initial: [initial] },
      dir: join(folder, "train"),
    });
    const source = await openInitialModel(output.file("checkpoint", "last/model.safetensors"));
    await source.read(new Set(tensors.keys()), (name, values) => {
      assertEquals(values, Float32Array.from(tensors.get(name)!), name);
    });
    const { initial: started } = json["summary"] as { initial: Record<string, unknown> };
    assertEquals(started, { taken: tensors.size, initial: [], unused: [], differences: [] });
    assert(log.includes(`info: start: ${tensors.size} tensors are taken, all there are`), log[0]);
    const node = { params: { model, train: {} } as unknown as TrainParams };
    const modules = (inputs: Record<string, { params: JsonValue }[]>) =>
      train.modules!({ ...node, inputs }).filter((url) => url.endsWith("/published.ts"));
    assertEquals([modules({}).length, modules({ initial: [initial] }).length], [0, 1]);
  }));
