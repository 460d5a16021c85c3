/** Models of the hub in the cache: what is fetched, resumed, checked and refused, and what is found without network. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { withFolder } from "../../model/checkpoint/folder_testing.ts";
import { PretrainedCheckpoint } from "../../model/pretrained/checkpoint.ts";
import { SMALL_LLAMA, writePretrained } from "../../model/pretrained/pretrained_testing.ts";
import { markTokenizer } from "../../model/text/tokenizer_json_testing.ts";
import { SourceError } from "../download/sources/error.ts";
import { fetchModel, type FetchOptions, HUB_NAME } from "./fetch.ts";
import { ModelHub, type ModelHubOptions } from "./hub_testing.ts";

const NAME = "someone/tiny-model";
const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** Files of a model of one file or of shards, and others that nobody needs. */
async function modelFiles(folder: string, shards?: number) {
  await writePretrained(folder, SMALL_LLAMA, shards === undefined ? {} : { shards });
  await Deno.writeTextFile(join(folder, "tokenizer.json"), JSON.stringify(markTokenizer()));
  await Deno.writeTextFile(join(folder, "generation_config.json"), '{"eos_token_id":2}');
  await Deno.writeTextFile(join(folder, "README.md"), "# A model");
  await Deno.writeTextFile(join(folder, "pytorch_model.bin"), "not read");
  const files: Record<string, Uint8Array<ArrayBuffer>> = {};
  for (const { name } of Deno.readDirSync(folder)) {
    files[name] = Deno.readFileSync(join(folder, name));
  }
  return files;
}

/** A stand-in and a cache, and how to fetch from the one into the other. */
async function withHub(
  options: Partial<ModelHubOptions> & { readonly shards?: number },
  work: (
    hub: ModelHub,
    fetch: (more?: Partial<FetchOptions>) => ReturnType<typeof fetchModel>,
    cache: string,
  ) => Promise<void>,
) {
  await withFolder(async (dir) => {
    const files = await modelFiles(join(dir, "model"), options.shards);
    const small = ["config.json", "tokenizer.json", "generation_config.json"];
    await using hub = new ModelHub({ name: NAME, commit: COMMIT, files, small, ...options });
    const cache = join(dir, "cache");
    await work(hub, (more = {}) =>
      fetchModel({
        name: NAME,
        cache,
        warn() {},
        ...more,
        hub: { endpoint: hub.endpoint, backoff_ms: 1, attempts: 3, ...more.hub },
      }), cache);
  });
}

Deno.test("A model is fetched once, in the hub's own layout, and what it does not need stays there", async () => {
  await withHub({}, async (hub, fetch, cache) => {
    const lines: string[] = [];
    const { folder, commit } = await fetch({ warn: (line) => void lines.push(line) });
    assertEquals(commit, COMMIT);
    const model = join(cache, "models--someone--tiny-model");
    assertEquals(folder, join(model, "snapshots", COMMIT));
    assertEquals(Array.from(Deno.readDirSync(folder), ({ name }) => name).sort(), [
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
    ]);
    assertEquals(await Deno.readTextFile(join(model, "refs", "main")), COMMIT);
    assert((await Deno.lstat(join(folder, "model.safetensors"))).isSymlink);
    using checkpoint = await PretrainedCheckpoint.open(folder);
    assertEquals(checkpoint.positions, 64);
    assertEquals(lines.map((line) => line.replace(/, .*/, "")), [
      `${NAME}: fetching config.json`,
      `${NAME}: fetching tokenizer.json`,
      `${NAME}: fetching generation_config.json`,
      `${NAME}: fetching model.safetensors`,
    ]);
    // Again: the branch is looked up, and nothing is fetched.
    const before = hub.requests.length;
    await fetch();
    assertEquals(hub.requests.slice(before), [`/api/models/${NAME}/revision/main`]);
    // A commit that is there asks nothing, and nor does a cache without network.
    await fetch({ revision: COMMIT });
    assertEquals(await fetch({ hub: { offline: true } }), { folder, commit });
    assertEquals(hub.requests.length, before + 1);
    // Where nobody answers, what is there is named.
    const gone = { endpoint: "http://127.0.0.1:1", attempts: 1 };
    await assertRejects(() => fetch({ hub: gone }), SourceError, "which HF_HUB_OFFLINE=1 takes");
  });
});

Deno.test("Shards are those that the index names, and a broken connection goes on where it was", async () => {
  await withHub({ shards: 3 }, async (hub, fetch) => {
    hub.breaks.push(100, 50);
    const { folder } = await fetch({ revision: COMMIT });
    using checkpoint = await PretrainedCheckpoint.open(folder);
    const names: string[] = [];
    await checkpoint.fill({
      architecture: checkpoint.architecture,
      writeState: (_, name) => void names.push(name),
    });
    assert(names.includes("layers.1.attn.w_qkv"));
    const resolved = hub.requests.filter((path) => path.includes("/resolve/"));
    assertEquals(resolved.slice(0, 3).map((path) => path.split("/").at(-1)), [
      "config.json",
      "config.json bytes=100-",
      "config.json bytes=150-",
    ]);
    assertEquals(resolved.filter((path) => path.includes(".safetensors")).length, 4);
  });
});

Deno.test("A download that was given up goes on in the next one", async () => {
  await withHub({}, async (hub, fetch, cache) => {
    hub.breaks.push(...[1, 1, 1].map(() => 0));
    await assertRejects(() => fetch(), SourceError, "did not answer");
    await fetch();
    const blobs = join(cache, "models--someone--tiny-model", "blobs");
    const [config] = [...Deno.readDirSync(blobs)].filter(({ name }) => name.length === 40);
    // A part of a file, as a kill leaves it, and a content that was cut short.
    const blob = join(blobs, config!.name);
    const whole = await Deno.readFile(blob);
    await Deno.truncate(blob, 5);
    await fetch();
    assertEquals(await Deno.readFile(blob), whole);
  });
});

Deno.test("A file with another hash than is listed is never used", async () => {
  await withHub({}, async (hub, fetch) => {
    hub.hashes.set("model.safetensors", "f".repeat(64));
    await assertRejects(() => fetch(), SourceError, "model.safetensors has sha256");
    await assertRejects(() => fetch({ hub: { offline: true } }), SourceError, "HF_HUB_OFFLINE");
    hub.hashes.set("model.safetensors", "not a hash");
    await assertRejects(() => fetch(), SourceError, "without a hash and a size");
  });
});

Deno.test("A gated model needs its token, which messages do not tell", async () => {
  await withHub({ token: "hf_secret" }, async (_, fetch) => {
    const error = await assertRejects(() => fetch(), SourceError, "needs HF_TOKEN");
    assert(!error.message.includes("\n"));
    const other = await assertRejects(() => fetch({ hub: { token: "hf_other" } }), SourceError);
    assert(!other.message.includes("hf_other"));
    await fetch({ hub: { token: "hf_secret" } });
  });
});

Deno.test("A model, revision or file that is not there is named", async () => {
  await withHub({}, async (_, fetch) => {
    const refused = (more: Partial<FetchOptions>, message: string) =>
      assertRejects(() => fetch(more), SourceError, message);
    await refused({ name: "someone/else" }, "no model someone/else at revision main (status 404)");
    await refused({ revision: "v2" }, `no model ${NAME} at revision v2`);
    await refused({ revision: "../.." }, '--revision is "../.."; expected a branch');
    await refused({ hub: { offline: true } }, `does not hold ${NAME} at main; fetch it once`);
  });
  const config = new TextEncoder().encode("{}");
  await withHub(
    { files: { "config.json": config, "pytorch_model.bin": config } },
    async (_, fetch) => {
      await assertRejects(() => fetch(), SourceError, "has no model.safetensors and no");
    },
  );
  await withHub(
    { files: { "config.json": config, "model.safetensors": config } },
    async (_, fetch) => {
      await assertRejects(() => fetch(), SourceError, "has no tokenizer.json at 0123456789ab");
    },
  );
  for (const name of ["a/b/c", "/a", "a/", "../a", "a/..", "a", ".hidden/x"]) {
    assert(!HUB_NAME.test(name), name);
  }
});
