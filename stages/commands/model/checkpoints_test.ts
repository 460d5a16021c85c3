import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { UserError } from "../../../pipeline/errors.ts";
import { writeStore } from "./checkpoint_testing.ts";
import { findCheckpoint, findInput, openCheckpoint, trainedLength } from "./checkpoints.ts";
import { exportCheckpoint } from "./export_checkpoint.ts";

const NODE = "train[base,seed=1]";

Deno.test("A checkpoint is found by node, key, folder and file, and exported", async (t) => {
  const dir = await Deno.makeTempDir();
  const storeDir = join(dir, "store");
  const { key } = await writeStore(storeDir);
  const out = join(dir, "out", "model");
  await Deno.mkdir(join(dir, "out"));

  await t.step("by node and by key", async () => {
    const byNode = await openCheckpoint(NODE, { storeDir });
    assertEquals([byNode.name, byNode.tokenizer.vocab_size], [NODE, 257]);
    assertEquals(trainedLength(byNode), 16);
    assertEquals((await findCheckpoint(key.slice(0, 8), { storeDir })).model, byNode.model);
    const best = await findCheckpoint(NODE, { storeDir, which: "best" });
    assertEquals(best.model === byNode.model, false);
    assertEquals(best.vocabulary, byNode.vocabulary);
    const dataset = await findInput(byNode.record!, { input: "dataset", storeDir });
    assertEquals(dataset?.key, "1".repeat(64));
    assertEquals(await findInput(byNode.record!, { input: "other", storeDir }), undefined);
  });

  await t.step("exported whole, and not over something", async () => {
    const done = await exportCheckpoint({ checkpoint: NODE, out, storeDir });
    assertEquals(done.files, [
      "best/model.safetensors",
      "last/model.safetensors",
      "node.json",
      "vocabulary.json",
    ]);
    const stored = await findCheckpoint(NODE, { storeDir });
    const exported = await findCheckpoint(out, { storeDir });
    assertEquals(await Deno.readFile(exported.model), await Deno.readFile(stored.model));
    assertEquals(trainedLength(exported), 16);
    assertEquals(JSON.parse(await Deno.readTextFile(join(out, "node.json"))).key, key);
    await assertRejects(
      () => exportCheckpoint({ checkpoint: NODE, out, storeDir }),
      UserError,
      "is there already",
    );
    assertEquals((await Array.fromAsync(Deno.readDir(join(dir, "out")))).length, 1);
  });

  await t.step("by folder and by file", async () => {
    const best = join(out, "best", "model.safetensors");
    assertEquals((await findCheckpoint(out, { storeDir, which: "best" })).model, best);
    for (const name of [best, join(out, "best")]) {
      const found = await openCheckpoint(name, { storeDir });
      assertEquals([found.model, found.vocabulary], [best, join(out, "vocabulary.json")]);
    }
  });

  await t.step("what is wrong is named", async () => {
    const said = async (name: string, options: { which?: "best" } = {}) => {
      const error = await assertRejects(
        () => openCheckpoint(name, { storeDir, ...options }),
        UserError,
      );
      assertEquals(error.exitCode, 2);
      return error.message;
    };
    assertStringIncludes(await said("train[bas,seed=1]"), `Did you mean \`${NODE}\`?`);
    assertStringIncludes(await said("tokenize"), "The node tokenize has no checkpoint; the store");
    assertStringIncludes(await said(join(dir, "store")), "holds no checkpoint: expected");
    const node = await Deno.readTextFile(join(out, "node.json"));
    await Deno.writeTextFile(join(out, "node.json"), node.slice(0, 20));
    assertStringIncludes(await said(out), "node.json can't be read as a node's JSON");
    await Deno.writeTextFile(join(out, "node.json"), node);
    await Deno.writeTextFile(join(out, "vocabulary.json"), "{}");
    assertStringIncludes(await said(out), "The vocabulary is not valid");
    const { CL100K_VOCABULARY, formatVocabulary } = await import(
      "../../../model/text/tokenizer.ts"
    );
    await Deno.writeTextFile(join(out, "vocabulary.json"), formatVocabulary(CL100K_VOCABULARY));
    assertStringIncludes(await said(out), "100277 tokens, the model");
    await Deno.remove(join(out, "vocabulary.json"));
    assertStringIncludes(await said(out), "has no vocabulary.json beside it");
    await assertRejects(
      () => openCheckpoint(NODE, { storeDir: join(dir, "nowhere") }),
      UserError,
      "no node of the store has one yet",
    );
    const { model } = await findCheckpoint(NODE, { storeDir });
    await Deno.remove(model);
    assertStringIncludes(await said(NODE), "is missing from the store or damaged");
  });
  await Deno.remove(dir, { recursive: true });
});
