/** `export-model` and `publish-model`: a node of a store as a folder, its card, and the folder on a stand-in of the hub. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { parse } from "yaml";
import { loadModel, readArchitecture } from "../../../model/checkpoint/checkpoint.ts";
import { smallModel } from "../../../model/inference/inference_testing.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { SourceError } from "../../download/sources/error.ts";
import { writeStore } from "../model/checkpoint_testing.ts";
import { openCheckpoint } from "../model/checkpoints.ts";
import { runTask } from "../speed/task_testing.ts";
import { renderCard } from "./card.ts";
import { exportModel } from "./export_model.ts";
import { publishModel, type PublishModelOptions } from "./publish_model.ts";
import { gatherProvenance, type ModelProvenance } from "./provenance.ts";
import { UploadHub } from "./upload_hub_testing.ts";

const NODE = "train[base,seed=1]";
const TOKEN = "hf_secretTokenOfNobody";

/** A store with a trained node, and a folder beside it. */
async function withStore(work: (storeDir: string, dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await writeStore(join(dir, "store"));
    await work(join(dir, "store"), dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Variables of the environment for a while; undefined takes one away. */
async function withEnvironment(
  values: Readonly<Record<string, string | undefined>>,
  work: () => Promise<void>,
): Promise<void> {
  const set = (name: string, value: string | undefined) =>
    value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
  const before = Object.keys(values).map((name) => [name, Deno.env.get(name)] as const);
  try {
    for (const [name, value] of Object.entries(values)) set(name, value);
    await work();
  } finally {
    for (const [name, value] of before) set(name, value);
  }
}

const options = { license: "agpl-3.0" };

Deno.test("export-model writes a node's model, which is a checkpoint again", async () => {
  await withStore(async (storeDir, dir) => {
    const out = join(dir, "exported");
    await Deno.mkdir(out);
    const result = await exportModel({
      ...options,
      checkpoint: NODE,
      which: "best",
      out,
      storeDir,
    });
    assertEquals([result.checkpoint, result.which], [NODE, "best"]);
    const names = await Array.fromAsync(Deno.readDir(out), ({ name }) => name);
    assertEquals(names.sort(), [...result.files]);
    const provenance = JSON.parse(await Deno.readTextFile(join(out, "provenance.json")));
    assertEquals([provenance.node.node, provenance.run.run], [NODE, "r1"]);
    // The folder serves this project as well.
    const again = await openCheckpoint(out, { storeDir });
    const weights = async (path: string) => {
      const values = new Map<string, Float32Array>();
      await loadModel(path, {
        architecture: await readArchitecture(path),
        writeState: (_kind, name, array) => void values.set(name, array),
      });
      return values;
    };
    const trained = await openCheckpoint(NODE, { storeDir, which: "best" });
    assertEquals(await weights(again.model), await weights(trained.model));
  });
});

Deno.test("export-model answers what can't be exported in one line", async () => {
  await withStore(async (storeDir, dir) => {
    const refused = (change: Record<string, string>, message: string) =>
      assertRejects(
        () =>
          exportModel({ ...options, checkpoint: NODE, out: join(dir, "x"), storeDir, ...change }),
        UserError,
        message,
      );
    await Deno.mkdir(join(dir, "full"));
    await Deno.writeTextFile(join(dir, "full", "mine.txt"), "mine");
    await refused({ out: join(dir, "full") }, "has files already (mine.txt); expected an empty");
    await refused({ out: join(dir, "full", "mine.txt") }, "can't be a folder");
    await refused({ checkpoint: join(dir, "full") }, "holds no checkpoint: expected");
    await refused({ checkpoint: "train[none]" }, "There is no checkpoint train[none]");
    await refused({ license: "my own" }, '--license is "my own"; expected an identifier');
    // A published model's file has no configuration of this project in its header.
    await Deno.mkdir(join(dir, "other"));
    const { model } = await openCheckpoint(NODE, { storeDir });
    const bytes = await Deno.readFile(model);
    await Deno.writeFile(join(dir, "other", "model.safetensors"), bytes.subarray(0, 900));
    await refused({ checkpoint: join(dir, "other") }, "has no vocabulary.json beside it");
    await Deno.writeTextFile(join(dir, "other", "vocabulary.json"), "{}");
    await refused({ checkpoint: join(dir, "other") }, "can't be used: ");
    assertEquals((await Array.fromAsync(Deno.readDir(dir), ({ name }) => name)).sort(), [
      "full",
      "other",
      "store",
    ]);
  });
  const task = await runTask(["export-model", "--checkpoint", "/nowhere/at/all", "--out", "/tmp"]);
  assertEquals(task.code, 2);
  assertEquals(task.stderr.trim().split("\n").length, 1);
});

Deno.test("A card has what the provenance knows, and the texts of data can't break it", () => {
  const counts = { tokens: 1_234_567, bytes: 4_000_000, documents: 321, shards: [] };
  const split = { ...counts, unigram_entropy_nats: 6.5 };
  const provenance: ModelProvenance = {
    which: "last",
    model: smallModel(257).config,
    parameters: { stored: 31415, active: 2718 },
    vocabulary: "compact",
    node: { node: NODE, key: "ab12", labels: { seed: 1 }, params: {} },
    run: { commit: "0123abcd", modified: true, adapter: "A | B\n# C", seconds: 12.34 },
    training: {
      steps: 400,
      tokens: 99_999,
      last: { step: 400, nats: 4.5412, bits_per_byte: 1.9 },
      best: { step: 300, nats: 4.5 },
    },
    dataset: {
      vocabulary: "compact",
      vocab_size: 257,
      endoftext: 256,
      vocabulary_digest: "",
      validation_fraction: 0.1,
      documents: 642,
      duplicates: 0,
      empty: 0,
      splits: { train: split, validation: split },
    },
    source: {
      source: "embedded",
      packages: [{ name: "books", version: "1.0.1", licence: "public domain" }],
    },
    evaluation: {
      split: "validation",
      tokens: 5000,
      nats: 4.6,
      perplexity: 99.5,
      bits_per_byte: null,
    },
  };
  const card = renderCard(provenance, { license: "mit" });
  const [, head] = card.split("---\n");
  assertEquals(parse(head!), {
    license: "mit",
    library_name: "transformers",
    pipeline_tag: "text-generation",
    tags: ["ethos", "webgpu", "mla"],
  });
  for (
    const text of [
      "31,415, of which a token uses 2,718",
      "1,234,567 tokens, 4,000,000 bytes, 321 documents",
      "books 1.0.1 (public domain)",
      "4.6000 nats a token over 5,000 tokens of validation",
      "4.5412 nats a token, 1.9000 bits per byte",
      "4.5000 nats a token, after 300 updates",
      "0123abcd, with changes",
    ]
  ) assertStringIncludes(card, text);
  assert(!/^# C/m.test(card));
  // A folder without its node has a card, too.
  const { which, model, parameters, vocabulary } = provenance;
  const short = renderCard({ which, model, parameters, vocabulary }, { license: "mit" });
  assertStringIncludes(short, "# A ethos language model");
  assert(!short.includes("## Data") && !short.includes("## Loss"));
});

Deno.test("A folder that export-checkpoint wrote knows its node", async () => {
  await withStore(async (storeDir, dir) => {
    const { exportCheckpoint } = await import("../model/export_checkpoint.ts");
    const { folder } = await exportCheckpoint({ checkpoint: NODE, out: join(dir, "c"), storeDir });
    const gathered = async (name: string) =>
      await gatherProvenance(await openCheckpoint(name, { storeDir }), { which: "last", storeDir });
    assertEquals(await gathered(folder), await gathered(NODE));
  });
});

Deno.test("publish-model sends a folder as one commit, to a private repository", async () => {
  await withStore(async (storeDir, dir) => {
    const folder = join(dir, "exported");
    const { files } = await exportModel({ ...options, checkpoint: NODE, out: folder, storeDir });
    await using hub = new UploadHub(TOKEN);
    const publish = (change: Partial<PublishModelOptions> = {}) =>
      publishModel({
        folder,
        repo: "me/small",
        private: true,
        message: "First",
        dryRun: false,
        ...change,
      });
    const environment = {
      HF_ENDPOINT: hub.endpoint,
      HF_TOKEN: undefined,
      HF_TOKEN_PATH: undefined,
      HF_HOME: join(dir, "home"),
      HF_HUB_OFFLINE: undefined,
    };
    await withEnvironment(environment, async () => {
      const dry = await publish({ dryRun: true });
      assertEquals(dry.files.map(({ path }) => path), [...files]);
      assertStringIncludes(dry.card, "library_name: transformers");
      assertEquals([dry.published, hub.requests], [undefined, []]);

      const missing = join(dir, "home", "token");
      await assertRejects(() => publish(), UserError, `set HF_TOKEN, or put one into ${missing}`);
      await Deno.mkdir(join(dir, "home"));
      await Deno.writeTextFile(missing, "secret of another place\n");
      const wrong = await assertRejects(() => publish(), UserError, "is not a token of the hub");
      assert(!wrong.message.includes("another"));
      assertEquals(hub.requests, []);

      await Deno.writeTextFile(missing, `${TOKEN}\n`);
      const { published } = await publish();
      assertEquals([published?.created, published?.url], [true, `${hub.endpoint}/me/small`]);
      assertEquals(hub.created, [{ id: "me/small", type: "model", visibility: "private" }]);
      assertEquals([[...hub.files.keys()].sort(), hub.titles], [[...files], ["First"]]);
      for (const [name, bytes] of hub.files) {
        assertEquals(bytes, await Deno.readFile(join(folder, name)), name);
      }
      // Once more: the repository and the weights are there.
      const sent = hub.requests.filter((path) => path.startsWith("/upload/")).length;
      assertEquals((await publish({ message: "Second" })).published?.created, false);
      assertEquals(hub.requests.filter((path) => path.startsWith("/upload/")).length, sent);
      assertEquals(hub.titles, ["First", "Second"]);

      await publish({ repo: "me/open", private: false });
      assertEquals(hub.created[1]?.["visibility"], "public");

      Deno.env.set("HF_TOKEN", "hf_another");
      await assertRejects(() => publish(), SourceError, "the token has no right to write there");
      Deno.env.set("HF_TOKEN", TOKEN);
      const closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      closed.close();
      const nobody = `http://127.0.0.1:${closed.addr.port}`;
      Deno.env.set("HF_ENDPOINT", nobody);
      await assertRejects(() => publish(), SourceError, `Sending me/small to ${nobody} failed`);
      Deno.env.set("HF_ENDPOINT", hub.endpoint);
      // The task has the permissions that it needs, and prints no token.
      const task = await runTask(["publish-model", "--folder", folder, "--repo", "me/task"]);
      assertEquals([task.code, task.stderr], [0, ""]);
      assertStringIncludes(task.stdout, `${hub.endpoint}/me/task at c0ffee`);
      assert(!task.stdout.includes(TOKEN));
      hub.refuse = 400;
      const refused = await assertRejects(() => publish(), SourceError, "(status 400): refused …");
      assert(!refused.message.includes(TOKEN));
      Deno.env.set("HF_HUB_OFFLINE", "1");
      await assertRejects(() => publish(), UserError, "HF_HUB_OFFLINE is set");
    });
  });
});

Deno.test("publish-model sends a large file in parts where the hub asks for them", async () => {
  await withStore(async (storeDir, dir) => {
    const folder = join(dir, "exported");
    await exportModel({ ...options, checkpoint: NODE, out: folder, storeDir });
    await using hub = new UploadHub(TOKEN);
    hub.chunk = 10_000;
    const environment = {
      HF_ENDPOINT: hub.endpoint,
      HF_TOKEN: TOKEN,
      HF_HUB_OFFLINE: undefined,
    };
    await withEnvironment(environment, async () => {
      await publishModel({ folder, repo: "me/large", private: true, message: "", dryRun: false });
    });
    const name = "model.safetensors";
    const weights = await Deno.readFile(join(folder, name));
    assertEquals(hub.files.get(name), weights);
    const parts = hub.requests.filter((path) => path.startsWith("/upload/")).length;
    assertEquals(parts, Math.ceil(weights.length / hub.chunk));
  });
});

Deno.test("publish-model refuses a folder that is no exported model, before the hub is asked", async () => {
  await withStore(async (storeDir, dir) => {
    const folder = join(dir, "exported");
    await exportModel({ ...options, checkpoint: NODE, out: folder, storeDir });
    const refused = (message: string, repo = "me/small") =>
      assertRejects(
        () => publishModel({ folder, repo, private: true, message: "", dryRun: true }),
        UserError,
        message,
      );
    await refused('--repo is "small"; expected ORG/NAME', "small");
    await Deno.mkdir(join(folder, "more"));
    await refused("more is no file; expected a folder as export-model writes it");
    await Deno.remove(join(folder, "more"));
    await Deno.writeTextFile(join(folder, "config.json"), '{"model_type":"llama"}');
    await refused("config.json is not that of an exported model: expected model_type ethos");
    await Deno.remove(join(folder, "config.json"));
    await refused("is no exported model: it has no config.json; export-model writes one");
    const task = await runTask(["publish-model", "--folder", folder, "--repo", "me/small"]);
    assertEquals(task.code, 2);
    assertEquals(task.stderr.trim().split("\n").length, 1);
    await Deno.remove(folder, { recursive: true });
    await refused("can't be read");
  });
});
