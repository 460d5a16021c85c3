/** The stage `pretrained`: what it publishes of a folder and of the hub, and what later stages find. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { withFolder } from "../../model/checkpoint/folder_testing.ts";
import { PretrainedCheckpoint } from "../../model/pretrained/checkpoint.ts";
import { PretrainedError } from "../../model/pretrained/error.ts";
import { SourceError } from "../download/sources/error.ts";
import { runStage } from "../testing.ts";
import { ModelHub } from "./hub_testing.ts";
import { linkModel } from "./model_files.ts";
import { pretrainedNode, writeModel } from "./model_testing.ts";
import { pretrained, runPretrained } from "./pretrained.ts";
import { denseModelSchema } from "./result.ts";

Deno.test("a folder is hashed, its small files are published, and its weights stay where they are", async () => {
  await withFolder(async (dir) => {
    const folder = join(dir, "model");
    await writeModel(folder, "gpt_neox", { shards: 2 });
    const node = await pretrainedNode(folder, join(dir, "node"));
    const about = denseModelSchema.parse(node.json("model"));
    assertEquals([about.family, about.commit, about.name], ["gpt_neox", null, folder]);
    assertEquals([about.blocks, about.d_model, about.d_ffn, about.positions], [2, 24, 36, 64]);
    // Two blocks of two matrices.
    assertEquals(about.mlp_parameters, 2 * 2 * 24 * 36);
    assert(about.parameters > about.mlp_parameters);
    const shards = [1, 2].map((n) => `model-${n}-of-2.safetensors`);
    assertEquals(
      about.files.map(({ path, published }) => [path, published]),
      [
        ["config.json", true],
        ...shards.map((name) => [name, false]),
        ["model.safetensors.index.json", true],
        ["tokenizer.json", true],
      ],
    );
    assertEquals(node.files("files"), [
      "config.json",
      "model.safetensors.index.json",
      "tokenizer.json",
    ]);

    const linked = await linkModel(node, join(dir, "state"));
    using checkpoint = await PretrainedCheckpoint.open(linked.folder);
    assertEquals(checkpoint.positions, 64);
    // A second attempt finds the links of the first.
    await linkModel(node, join(dir, "state"));

    const weights = await Deno.readFile(join(folder, shards[0]!));
    weights[weights.length - 1]! ^= 1;
    await Deno.writeFile(join(folder, shards[0]!), weights);
    await assertRejects(
      () => linkModel(node, join(dir, "state")),
      Error,
      `${join(folder, shards[0]!)} changed after it was hashed; run the node \`pretrained\` again`,
    );
    await Deno.remove(join(folder, shards[1]!));
    await assertRejects(
      () => pretrainedNode(folder, join(dir, "again")),
      PretrainedError,
      `${folder} has no ${shards[1]}, which model.safetensors.index.json names`,
    );
  });
});

Deno.test("a model of the hub is fetched, and named by its commit", async () => {
  await withFolder(async (dir) => {
    const source = join(dir, "source");
    await writeModel(source, "llama");
    const files = Object.fromEntries(
      ["config.json", "tokenizer.json", "model.safetensors"].map((name) => [
        name,
        Deno.readFileSync(join(source, name)),
      ]),
    );
    const commit = "89abcdef".repeat(5);
    const cache = Deno.env.get("HF_HUB_CACHE");
    Deno.env.set("HF_HUB_CACHE", join(dir, "cache"));
    try {
      await using hub = new ModelHub({ name: "someone/small", commit, files });
      const { output, log } = await runStage(
        pretrained,
        { params: { name: "someone/small" }, dir: join(dir, "node") },
        (context) => runPretrained(context, { endpoint: hub.endpoint, offline: false }),
      );
      const about = denseModelSchema.parse(output.json("model"));
      assertEquals([about.name, about.commit, about.family], ["someone/small", commit, "llama"]);
      assert(log.some((line) => line.includes("fetching model.safetensors")));
      const { folder } = await linkModel(output, join(dir, "state"));
      using checkpoint = await PretrainedCheckpoint.open(folder);
      assertEquals(checkpoint.architecture.config.num_layers, 2);
    } finally {
      if (cache === undefined) Deno.env.delete("HF_HUB_CACHE");
      else Deno.env.set("HF_HUB_CACHE", cache);
    }
  });
});

Deno.test("a model that changed after the plan, or is not there, is refused", async () => {
  await withFolder(async (dir) => {
    const folder = join(dir, "model");
    await writeModel(folder);
    const run = (params: Record<string, string>) =>
      runStage(pretrained, { params: { name: folder, ...params }, dir: join(dir, "node") });
    await assertRejects(
      () => run({ fingerprint: "0".repeat(64) }),
      Error,
      "changed after the experiment was planned; run it again",
    );
    await assertRejects(
      () => run({ revision: "main" }),
      SourceError,
      `model.revision is main, but model.name ${folder} is a folder`,
    );
    await assertRejects(
      () => run({ name: join(dir, "nothing") }),
      SourceError,
      `model.name is ${join(dir, "nothing")}: there is no such folder`,
    );
  });
});
