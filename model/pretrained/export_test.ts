/** A trained model as a published one: the same weights, and tokens that are bytes. */

import { assertEquals, assertRejects } from "@std/assert";
import { withFolder } from "../checkpoint/folder_testing.ts";
import { loadArchitecture } from "../load.ts";
import { parameterSpecs } from "../trunk/parameters.ts";
import { PretrainedCheckpoint } from "./checkpoint.ts";
import { PretrainedError } from "./error.ts";
import { BYTE_VOCABULARY, llamaSection, writeByteLlama } from "./export.ts";
import { openPretrainedTokenizer } from "./tokenizer.ts";

const SIZES = { d_model: 24, num_layers: 2, num_heads: 3, d_ffn: 28 };

/** A model of numbers that say where they are. */
async function numbered() {
  const section = llamaSection(SIZES);
  const architecture = await loadArchitecture({ ...section, vocab_size: BYTE_VOCABULARY });
  const values = new Map(
    parameterSpecs(architecture).map(({ name, shape }, i) => {
      const count = shape.reduce((product, n) => product * n, 1);
      return [name, Float32Array.from({ length: count }, (_, at) => i + at / 4096)];
    }),
  );
  return { architecture, values };
}

Deno.test("a model that is written has the weights that it had, and its tokens are bytes", async () => {
  await withFolder(async (folder) => {
    const { architecture, values } = await numbered();
    const source = {
      architecture,
      async fill(sink: Parameters<PretrainedCheckpoint["fill"]>[0]) {
        for (const [name, array] of values) await sink.writeState("value", name, array);
      },
    };
    await writeByteLlama(folder, source, { ...SIZES, positions: 40 });
    using checkpoint = await PretrainedCheckpoint.open(folder);
    assertEquals(checkpoint.positions, 40);
    assertEquals(checkpoint.architecture.config, architecture.config);
    const read = new Map<string, Float32Array>();
    await checkpoint.fill({
      architecture,
      writeState: (_kind, name, array) => void read.set(name, array),
    });
    assertEquals(new Set(read.keys()), new Set(values.keys()));
    for (const [name, array] of values) assertEquals(read.get(name), array, name);
    const tokenizer = await openPretrainedTokenizer(folder, BYTE_VOCABULARY);
    const text = "Ça va? <|endoftext|>\n\n  日本 \u0000\t'tis";
    assertEquals(tokenizer.encode(text), Uint32Array.from(new TextEncoder().encode(text)));
    assertEquals(tokenizer.decode(tokenizer.encode(text)), text);
    assertEquals([tokenizer.begin, tokenizer.endoftext], [[], 256]);
    await assertRejects(
      () => writeByteLlama(folder, source, { ...SIZES, num_heads: 6, positions: 40 }),
      PretrainedError,
      "model.attention.num_heads is 3, expected 6: only a Llama of single bytes is written",
    );
  });
});
