/**
 * Exported models of every kind against the float64 reference, by PyTorch.
 *
 * The test runs where `python3` or `/usr/bin/python3` imports torch (Debian: `apt-get install python3-torch`, 90 MB and about a minute), or the interpreter
 * that `ETHOS_PYTHON` names. Where that has transformers, models are loaded through it too. `ETHOS_EXPORT_CASES` names a folder that keeps the exported models,
 * for `check_export.py` on another machine.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { withFolder } from "../checkpoint/folder_testing.ts";
import { noisyTensors, smallModel, writeModelFile } from "../inference/inference_testing.ts";
import { encodingVocabulary } from "../text/tokenizer.ts";
import { BYTES, writeCases } from "./export_testing.ts";
import { writeTransformers } from "./transformers.ts";

const CHECK = fromFileUrl(new URL("./check_export.py", import.meta.url));

/** The first interpreter that imports torch. */
function findPython(): string | undefined {
  const named = Deno.env.get("ETHOS_PYTHON");
  for (const python of named ? [named] : ["python3", "/usr/bin/python3"]) {
    try {
      const args = ["-c", "import torch"];
      if (new Deno.Command(python, { args, stdout: "null", stderr: "null" }).outputSync().success) {
        return python;
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  if (named) throw new Error(`ETHOS_PYTHON is ${named}, which does not import torch`);
}

const python = findPython();
if (python === undefined) {
  // deno-lint-ignore no-console -- whoever runs the tests must see that this one does not run
  console.error(
    "\nNOT TESTED: exported models by PyTorch, since no python3 imports torch (Debian: apt-get install python3-torch).\n",
  );
}

Deno.test({
  name: "PyTorch gives the reference's logits for an exported model of every kind",
  ignore: python === undefined,
  fn: async () => {
    await withFolder(async (temporary) => {
      const folders = await writeCases(Deno.env.get("ETHOS_EXPORT_CASES") ?? temporary);
      const { success, stdout, stderr } = await new Deno.Command(python!, {
        args: [CHECK, ...folders],
        env: { HF_HUB_OFFLINE: "1", HF_MODULES_CACHE: join(temporary, "modules") },
      }).output();
      const [text, said] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
      assert(success, said);
      const { differences } = JSON.parse(text!);
      assertEquals(Object.keys(differences).length, folders.length);
    });
  },
});

Deno.test("An exported model says its sizes to general tools, and keeps its weights", async () => {
  await withFolder(async (folder) => {
    const model = join(folder, "trained.safetensors");
    const architecture = smallModel(257, { ffn: { execution: "naive" } });
    await writeModelFile(model, architecture, noisyTensors(architecture, 3));
    const out = join(folder, "out");
    await Deno.mkdir(out);
    const files = await writeTransformers(out, { model, vocabulary: BYTES, trained: 64 });
    assertEquals(files, [
      "config.json",
      "configuration_ethos.py",
      "ethos_torch.py",
      "generation_config.json",
      "model.safetensors",
      "modeling_ethos.py",
      "tokenizer.json",
      "tokenizer_config.json",
      "vocabulary.json",
    ]);
    const config = JSON.parse(await Deno.readTextFile(join(out, "config.json")));
    assertEquals(
      [config.model_type, config.hidden_size, config.num_attention_heads, config.eos_token_id],
      ["ethos", 24, 3, 256],
    );
    assertEquals([config.max_position_embeddings, config.model.ffn.execution], [64, "auto"]);
    // The tensors are the same bytes behind another header.
    const [before, after] = await Promise.all(
      [model, join(out, "model.safetensors")].map((path) => Deno.readFile(path)),
    );
    const data = (file: Uint8Array) =>
      file.subarray(8 + Number(new DataView(file.buffer).getBigUint64(0, true)));
    assertEquals(data(after!), data(before!));
  });
});

Deno.test("A vocabulary of another size is refused", async () => {
  await withFolder(async (folder) => {
    const model = join(folder, "trained.safetensors");
    const architecture = smallModel(257);
    await writeModelFile(model, architecture, noisyTensors(architecture, 3));
    await assertRejects(
      () => writeTransformers(folder, { model, vocabulary: encodingVocabulary("gpt2") }),
      RangeError,
      "The vocabulary has 50257 tokens, the model 257",
    );
  });
});
