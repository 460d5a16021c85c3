import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { openTestGpu } from "../../../model/gpu/testing.ts";
import {
  noisyTensors,
  smallModel,
  writeModelFile,
} from "../../../model/inference/inference_testing.ts";
import { DENSE, type ModelChanges } from "../../../model/testing.ts";
import { formatVocabulary } from "../../../model/text/tokenizer.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { runTask } from "../speed/task_testing.ts";
import { BYTE_VOCABULARY, someText } from "./checkpoint_testing.ts";
import {
  renderSparseActivation,
  type SparseActivation,
  sparseActivation,
  type SparseActivationOptions,
} from "./sparse_activation.ts";

const MIXTURE: ModelChanges = {
  leading_dense: { num_layers: 0 },
  attention: { kind: "mha", num_heads: 6 },
  ffn: { kind: "topk_moe", num_experts: 8, d_expert: 12, gelu: "exact", expert_dropout: 0.2 },
};

/** A checkpoint's folder and a text beside it. */
async function scene(
  changes: ModelChanges,
  work: (
    folder: string,
    run: (more?: Partial<SparseActivationOptions>) => ReturnType<typeof sparseActivation>,
  ) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const architecture = smallModel(BYTE_VOCABULARY.vocab_size, changes);
    const model = join(folder, "model.safetensors");
    await writeModelFile(model, architecture, noisyTensors(architecture, 4));
    await Deno.writeTextFile(join(folder, "vocabulary.json"), formatVocabulary(BYTE_VOCABULARY));
    await Deno.writeTextFile(join(folder, "a.txt"), someText(3000));
    await work(folder, async (more = {}) =>
      await sparseActivation({
        checkpoint: folder,
        storeDir: join(folder, "store"),
        files: join(folder, "*.txt"),
        tokens: 1100,
        micro_batch: 2,
        precision: "f32",
        out: join(folder, "out"),
        gpu: openTestGpu,
        ...more,
      }));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("sparse-activation counts what ran of both models, and writes numbers and figure", async () => {
  await scene(MIXTURE, async (folder, run) => {
    const result = await run();
    assert(result.checks.every(({ passed }) => passed), JSON.stringify(result.checks));
    assertEquals(result.checks.length, 7);
    for (const { layers, gradients } of Object.values(result.models)) {
      assertEquals(gradients.map(({ balanced }) => balanced), [false, true]);
      for (const layer of layers) {
        // Two batches of two sequences of 256, and 76 tokens that fill none.
        assertEquals([layer.tokens, layer.slots, layer.share], [1024, 2048, 0.25]);
        assertEquals(layer.counts.reduce((a, b) => a + b), 2048);
        assert(layer.exact && layer.cv > 0 && layer.entropy < Math.log(8));
      }
    }
    const { untrained, trained } = result.models;
    assert(untrained.layers[0]!.counts.join() !== trained.layers[0]!.counts.join());
    const names = await Array.fromAsync(Deno.readDir(join(folder, "out")), ({ name }) => name);
    const figure = ["csv", "png", "svg", "vl.json"].map((extension) =>
      `expert_shares.${extension}`
    );
    assertEquals(names.sort(), [...figure, "sparse_activation.json"]);
    const { folder: _, ...written } = result;
    const read = await Deno.readTextFile(join(folder, "out", "sparse_activation.json"));
    assertEquals(JSON.parse(read) as SparseActivation, JSON.parse(JSON.stringify(written)));
    const csv = await Deno.readTextFile(join(folder, "out", "expert_shares.csv"));
    assertEquals(csv.trim().split("\n").length, 1 + 2 * untrained.layers.length * 8);
    assertStringIncludes(renderSparseActivation(result), "✓ trained: exactly 2 different experts");
    // The same numbers again.
    const again = await run({ out: join(folder, "again") });
    assertEquals(again.models, result.models);
  });
});

Deno.test("sparse-activation says when tokens keep fewer experts than they may", async () => {
  const ffn = { ...MIXTURE.ffn, choice: "top_p", top_p: 0.2 };
  await scene({ ...MIXTURE, ffn }, async (_, run) => {
    const { checks } = await run();
    assertStringIncludes(checks[0]!.name, "1 to 2 different experts");
    assert(checks.every(({ passed }) => passed), JSON.stringify(checks));
  });
});

Deno.test("sparse-activation refuses what it cannot check before it opens a device", async () => {
  const gpu = () => Promise.reject(new Error("No device should be opened"));
  await scene(MIXTURE, async (folder, run) => {
    const refused = async (message: string, more: Partial<SparseActivationOptions>) => {
      const error = await assertRejects(() => run({ gpu, ...more }), UserError, message);
      assertEquals(error.exitCode, 2);
    };
    await refused("is there already; give --out a name that is free", { out: folder });
    await refused("No file matches --files", { files: join(folder, "*.md") });
    await refused("There is no checkpoint", { checkpoint: "train[none]" });
    const { code, stderr } = await runTask([
      ...["sparse-activation", "--checkpoint", folder, "--out", join(folder, "b")],
      ...["--tokens", "0"],
    ]);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "--tokens is 0; expected a whole number from 1");
  });
  await scene(DENSE, async (_, run) => {
    await assertRejects(
      () => run({ gpu }),
      UserError,
      "feed-forwards are dense; expected a mixture",
    );
  });
});
