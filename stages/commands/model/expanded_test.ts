/** Expanded models in the commands: their numbers against float64, their text, and what is refused. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { dirname, join } from "@std/path";
import { withFolder } from "../../../model/checkpoint/folder_testing.ts";
import { openTestGpu } from "../../../model/gpu/testing.ts";
import { unpackMatrix } from "../../../model/ops/compressed/pack.ts";
import { PretrainedCheckpoint } from "../../../model/pretrained/checkpoint.ts";
import { openPretrainedTokenizer } from "../../../model/pretrained/tokenizer.ts";
import { crossEntropy } from "../../../model/reference/loss.ts";
import { matrix, row } from "../../../model/reference/matrix.ts";
import type { ReferenceSite } from "../../../model/reference/sparse/expansion.ts";
import { expandedLogits, type ReferenceMlp } from "../../../model/reference/sparse/model.ts";
import type { StoredSite } from "../../../model/sparse/expansion.ts";
import { ExpandedCheckpoint } from "../../../model/sparse/files/checkpoint.ts";
import { expandIntoFolder } from "../../../model/sparse/folder.ts";
import { type ExpandSmall, expandSmall, writeDense } from "../../../model/sparse/folder_testing.ts";
import { EXPANSION, PRUNING } from "../../../model/sparse/options.ts";
import {
  besideCheckout,
  byteTokenizer,
  markTokenizer,
} from "../../../model/text/tokenizer_json_testing.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { runTask } from "../speed/task_testing.ts";
import { someText } from "./checkpoint_testing.ts";
import { evaluateCheckpoint, type EvaluateCheckpointOptions } from "./evaluate.ts";
import { generate } from "./generate.ts";

/** Writes a whole model of files in halves, and expands it. */
async function writeModel(folder: string, changes: ExpandSmall = {}) {
  const at = { dense: join(folder, "dense"), expanded: join(folder, "expanded") };
  const llama = (changes.family ?? "llama") === "llama";
  await writeDense(at.dense, { ...changes, config: { eos_token_id: llama ? 2 : 0 } });
  const tokenizer = JSON.stringify(llama ? markTokenizer() : byteTokenizer());
  await Deno.writeTextFile(join(at.dense, "tokenizer.json"), tokenizer);
  await expandSmall(at, changes);
  return at;
}

/** A site in float64, of what its file holds. */
function referenceSite({ router, layers }: StoredSite): ReferenceSite {
  const { pca, width, centroids, clusters } = router;
  const wide = (values: Float32Array) => Float64Array.from(values);
  return {
    pca: pca && {
      mean: wide(pca.mean),
      components: matrix(width, pca.components.length / width, wide(pca.components)),
      variance: new Float64Array(),
    },
    centroids: matrix(clusters, centroids.length / clusters, wide(centroids)),
    labels: new Int32Array(),
    experts: Object.fromEntries(
      Object.entries(layers).map(([name, { outputs, inputs, grid, experts }]) => [
        name,
        experts.map((expert) => {
          const { weight, mask } = unpackMatrix(expert, { name, grid });
          return {
            weight: matrix(outputs, inputs, wide(weight)),
            mask: Int32Array.from(mask),
            loss: 0,
          };
        }),
      ]),
    ),
  };
}

/** The expanded model in float64: the logits after each of the tokens. */
async function inFloat64({ dense, expanded }: { dense: string; expanded: string }) {
  using published = await PretrainedCheckpoint.open(dense);
  using checkpoint = await ExpandedCheckpoint.open(expanded);
  const parameters = new Map<string, Float64Array>();
  await published.fill({
    architecture: published.architecture,
    writeState: (_, name, values) => void parameters.set(name, Float64Array.from(values)),
  });
  const mlps: ReferenceMlp[] = [];
  for await (const { sites } of checkpoint.mlps()) {
    mlps.push({ in: referenceSite(sites.in), mid: referenceSite(sites.mid) });
  }
  const { config } = published.architecture;
  return {
    tokenizer: await openPretrainedTokenizer(expanded, config.vocab_size),
    logits: (tokens: readonly number[]) =>
      expandedLogits(config, parameters, { tokens, length: tokens.length, mlps }),
  };
}

const evaluate = (changes: Partial<EvaluateCheckpointOptions>) =>
  evaluateCheckpoint({
    storeDir: "nowhere",
    micro_batch: 3,
    precision: "f32",
    gpu: () => openTestGpu(),
    ...changes,
  });

const cases: [string, ExpandSmall][] = [
  ["a Llama of BF16 shards, half of its weights", { written: { dtype: "BF16", shards: 2 } }],
  ["a GPT-NeoX of F16, 2:4 in four bits", {
    family: "gpt_neox",
    written: { dtype: "F16" },
    pruning: { ...PRUNING, pattern: [2, 4], bits: 4, block: 12 },
  }],
];

for (const [what, changes] of cases) {
  Deno.test(`An expanded model's measures and greedy text are those of float64: ${what}`, async () => {
    await withFolder(async (folder) => {
      const at = await writeModel(folder, changes);
      const { logits, tokenizer } = await inFloat64(at);
      const [text, files, length] = [someText(200), join(folder, "text.txt"), 32];
      await Deno.writeTextFile(files, text);
      const ids = [...tokenizer.begin, ...tokenizer.encode(text)];
      const windows = Math.floor(ids.length / length);
      let nats = 0;
      for (let w = 0; w < windows; w++) {
        const tokens = ids.slice(w * length, (w + 1) * length);
        const all = logits(tokens);
        const predicted = matrix(length - 1, all.columns);
        for (let i = 0; i < length - 1; i++) row(predicted, i).set(row(all, i));
        nats += crossEntropy(predicted, tokens.slice(1)).loss / windows;
      }
      const score = await evaluate({ model: at.expanded, files, sequence_length: length });
      assertAlmostEquals(score.nats, nats, 1e-5);
      const { stored_bits, dense_bits, multiply_adds, dense_multiply_adds } = score.expansion!;
      assert(stored_bits > dense_bits / 4 && stored_bits < 2 * dense_bits);
      assert(multiply_adds > dense_multiply_adds / 2 && multiply_adds < dense_multiply_adds);
      const dense = await evaluate({ model: at.dense, files, sequence_length: length });
      assertEquals([dense.expansion, dense.tokens], [undefined, score.tokens]);
      assert(Math.abs(dense.nats - score.nats) > 1e-4);

      // A prompt of many rows, then a token at a time.
      const seen = [...tokenizer.begin, ...tokenizer.encode("the cat")];
      const start = seen.length;
      while (seen.length < start + 7) {
        const all = logits(seen);
        const last = row(all, all.rows - 1);
        const best = last.indexOf(Math.max(...last));
        if (tokenizer.ends.has(best)) break;
        seen.push(best);
      }
      const pieces: string[] = [];
      const { stories: [story] } = await generate({
        storeDir: "nowhere",
        model: at.expanded,
        prompt: "the cat",
        max_tokens: 7,
        context: 64,
        sampling: { temperature: 0, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 },
        seed: 0,
        slide: false,
        num_stories: 1,
        precision: "f32",
        gpu: () => openTestGpu(),
        write: (piece) => void pieces.push(piece),
      });
      const spelled = new TextDecoder().decode(tokenizer.decodeBytes(seen.slice(start)));
      assertEquals([story!.text, story!.tokens], [spelled, seen.length - start]);
      assertEquals(pieces.join(""), spelled);
    });
  });
}

Deno.test("An expanded model that can't be used is refused in one line", async () => {
  await withFolder(async (folder) => {
    const { dense, expanded: model } = await writeModel(folder);
    const files = join(folder, "text.txt");
    await Deno.writeTextFile(files, someText(300));
    const refused = async (changes: Partial<EvaluateCheckpointOptions>, message: string) => {
      const error = await assertRejects(
        () => evaluate({ model, files, ...changes }),
        UserError,
        message,
      );
      assertEquals([error.exitCode, error.message.includes("\n")], [2, false]);
    };
    await refused({ precision: "mixed" }, "--precision is mixed, but --model");
    await refused({ revision: "main" }, "--revision is main, but --model");
    const config = join(model, "config.json");
    const text = await Deno.readTextFile(config);
    await Deno.writeTextFile(config, text.replace('"clusters": 2', '"clusters": 0'));
    await refused({}, "config.json: sparse_expansion.clusters is 0");
    await Deno.writeTextFile(config, text);
    const path = join(model, "block-00001.safetensors");
    const bytes = await Deno.readFile(path);
    bytes.fill(0xff, bytes.length - 64);
    await Deno.writeFile(path, bytes);
    await refused({}, path);
    await refused({ model: join(folder, "part") }, "there is no such folder");
    const controller = new AbortController();
    await expandSmall({ dense, expanded: join(folder, "part") }, {
      signal: controller.signal,
      onBlock: () => controller.abort(),
    }).catch(() => {});
    await refused({ model: join(folder, "part") }, "the expansion is not finished");
  });
});

Deno.test("The tasks take an expanded model", async () => {
  await withFolder(async (folder) => {
    const { expanded: model } = await writeModel(folder, { family: "gpt_neox" });
    await Deno.writeTextFile(join(folder, "text.txt"), someText(200));
    const task = (...args: string[]) =>
      runTask([...args, "--model", model, "--gpu", "deno"], { env: { ETHOS_GPU: "none" } });
    const score = await task("evaluate", "--files", join(folder, "text.txt"));
    assertEquals(score.code, 0, score.stderr);
    assert(/^MLP storage {2}[\d,]+, dense [\d,]+ bits \(\d\.\d{3}\)$/m.test(score.stdout));
    assert(
      /^MLP work {5}[\d,]+, dense [\d,]+ multiply-adds a token \(\d\.\d{3}\)$/m.test(score.stdout),
      score.stdout,
    );
    const text = await task("generate", "--prompt", "the cat", "--max-tokens", "3");
    assertEquals(text.code, 0, text.stderr);
    assert(text.stdout.startsWith("the cat"));
  });
});

const trained = besideCheckout("data/stories260k/model.safetensors");
const stories = besideCheckout("data/tinystories/valid.txt");

Deno.test({
  name:
    "A trained model with half of the weights of its MLPs, in four experts, still tells stories",
  ignore: trained === undefined || stories === undefined,
  async fn() {
    await withFolder(async (folder) => {
      const gpu = await openTestGpu();
      using model = await PretrainedCheckpoint.open(dirname(trained!));
      const { vocab_size } = model.architecture.config;
      const tokenizer = await openPretrainedTokenizer(dirname(trained!), vocab_size);
      const text = (await Deno.readTextFile(stories!)).slice(0, 40000);
      const [length, windows] = [256, 16];
      const tokens = tokenizer.encode(text).slice(0, length * windows);
      const expanded = join(folder, "expanded");
      await expandIntoFolder(gpu, {
        ...{ model, tokens, length, folder: expanded, seed: 0 },
        expansion: { ...EXPANSION, clusters: 4, pca_factor: 8, restarts: 2 },
        pruning: { ...PRUNING, sparsity: 0.5, block: 32 },
      });
      const score = (model: string) => evaluate({ model, files: stories!, tokens: 4 * 511 });
      const [before, after] = [await score(dirname(trained!)), await score(expanded)];
      assert(after.nats > before.nats && after.nats < before.nats + 0.6, `${after.nats}`);
    });
  },
});
