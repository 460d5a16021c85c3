/** Published checkpoints: which numbers end where, and what is refused. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { withFolder } from "../checkpoint/folder_testing.ts";
import { parameterSpecs } from "../trunk/parameters.ts";
import { PretrainedCheckpoint } from "./checkpoint.ts";
import { PretrainedError } from "./error.ts";
import {
  SMALL_LLAMA,
  SMALL_NEOX,
  writePretrained,
  type WritePretrainedOptions,
} from "./pretrained_testing.ts";

/** Every parameter of the checkpoint in a folder. */
async function read(folder: string) {
  using checkpoint = await PretrainedCheckpoint.open(folder);
  const values = new Map<string, Float32Array>();
  await checkpoint.fill({
    architecture: checkpoint.architecture,
    writeState: (_, name, tensor) => void values.set(name, tensor),
  });
  return { values, architecture: checkpoint.architecture, positions: checkpoint.positions };
}

const FAMILIES = {
  llama: SMALL_LLAMA,
  "llama with biases, tied": {
    ...SMALL_LLAMA,
    attention_bias: true,
    mlp_bias: true,
    tie_word_embeddings: true,
  },
  gpt_neox: SMALL_NEOX,
  "gpt_neox without attention's biases, tied": {
    ...SMALL_NEOX,
    attention_bias: false,
    tie_word_embeddings: true,
  },
};

for (const [name, config] of Object.entries(FAMILIES)) {
  Deno.test(`A checkpoint gives every parameter once, whatever its type and files, ${name}`, async () => {
    await withFolder(async (dir) => {
      const ways: Record<string, WritePretrainedOptions> = {
        whole: {},
        halves: { dtype: "F16" },
        bfloat: { dtype: "BF16", shards: 3 },
      };
      const read_ = async (way: string) => {
        await writePretrained(join(dir, way), config, ways[way]);
        return await read(join(dir, way));
      };
      const { values, architecture, positions } = await read_("whole");
      assertEquals(positions, 64);
      const specs = parameterSpecs(architecture);
      assertEquals([...values.keys()].sort(), specs.map(({ name }) => name).sort());
      for (const { name, shape } of specs) {
        const tensor = values.get(name)!;
        assertEquals(tensor.length, shape.reduce((a, b) => a * b, 1), name);
        // Every number is one of the file's; a place that nothing wrote would be zero.
        assert(tensor.filter((v) => v === 0).length < Math.max(2, tensor.length / 20), name);
      }
      for (const way of ["halves", "bfloat"]) {
        assertEquals((await read_(way)).values, values, way);
      }
    });
  });
}

Deno.test("A fused product's heads become queries, keys and values, transposed", async () => {
  await withFolder(async (folder) => {
    const [heads, width, input] = [3, 8, 24];
    await writePretrained(folder, SMALL_NEOX, {
      edit(tensors) {
        const name = "gpt_neox.layers.1.attention.query_key_value";
        const rows = 3 * heads * width;
        const values = Float32Array.from({ length: rows * input }, (_, i) => i);
        tensors.set(`${name}.weight`, { shape: [rows, input], values });
        const bias = Float32Array.from({ length: rows }, (_, i) => i);
        tensors.set(`${name}.bias`, { shape: [rows], values: bias });
      },
    });
    const { values } = await read(folder);
    const w_qkv = values.get("layers.1.attn.w_qkv")!;
    const b_qkv = values.get("layers.1.attn.b_qkv")!;
    const columns = 3 * heads * width;
    for (let what = 0; what < 3; what++) {
      for (let head = 0; head < heads; head++) {
        for (let i = 0; i < width; i++) {
          const column = (what * heads + head) * width + i;
          const row = (head * 3 + what) * width + i;
          assertEquals(b_qkv[column], row);
          for (const j of [0, 5, 23]) assertEquals(w_qkv[j * columns + column], row * input + j);
        }
      }
    }
  });
});

Deno.test("A sink that takes its time holds up the next tensor", async () => {
  await withFolder(async (folder) => {
    await writePretrained(folder, SMALL_LLAMA);
    using checkpoint = await PretrainedCheckpoint.open(folder);
    let [waiting, most] = [0, 0];
    await checkpoint.fill({
      architecture: checkpoint.architecture,
      writeState: async () => {
        most = Math.max(most, ++waiting);
        await new Promise((resolve) => setTimeout(resolve, 1));
        waiting--;
      },
    });
    assertEquals([waiting, most], [0, 1]);
  });
});

Deno.test("Buffers and a copy of the tied embedding are passed over", async () => {
  await withFolder(async (folder) => {
    const one = { shape: [1], values: Float32Array.of(NaN) };
    await writePretrained(folder, { ...SMALL_LLAMA, tie_word_embeddings: true }, {
      edit(tensors) {
        tensors.set("model.layers.0.self_attn.rotary_emb.inv_freq", one);
        tensors.set("lm_head.weight", one);
      },
    });
    await read(folder);
    await writePretrained(folder, SMALL_NEOX, {
      edit(tensors) {
        for (const name of ["bias", "masked_bias", "rotary_emb.inv_freq"]) {
          tensors.set(`gpt_neox.layers.1.attention.${name}`, one);
        }
      },
    });
    await read(folder);
  });
});

/** Asserts that a folder is refused in one line. */
async function refused(folder: string, message: string) {
  const error = await assertRejects(() => read(folder), PretrainedError, message);
  assert(!error.message.includes("\n"), error.message);
}

Deno.test("A checkpoint that can't be right is refused in one line that names file and tensor", async () => {
  await withFolder(async (dir) => {
    const write = async (
      name: string,
      options: WritePretrainedOptions = {},
      config: Readonly<Record<string, unknown>> = SMALL_LLAMA,
    ) => {
      await writePretrained(join(dir, name), config, options);
      return join(dir, name);
    };
    await refused(join(dir, "nowhere"), "has no config.json");
    await Deno.mkdir(join(dir, "empty"));
    await Deno.writeTextFile(join(dir, "empty/config.json"), JSON.stringify(SMALL_LLAMA));
    await refused(join(dir, "empty"), "has no model.safetensors and no model.safetensors.index");
    await Deno.writeTextFile(join(dir, "empty/config.json"), "{");
    await refused(join(dir, "empty"), "config.json is not JSON");

    const q_proj = "model.layers.1.self_attn.q_proj.weight";
    const tensor = (shape: number[], value = 1) => ({
      shape,
      values: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value),
    });
    await refused(
      await write("missing", { edit: (t) => t.delete(q_proj) }),
      `has no tensor ${q_proj}`,
    );
    await refused(
      await write("shape", { edit: (t) => t.set(q_proj, tensor([24, 32])) }),
      `tensor ${q_proj} is F32 [24, 32], expected F32, F16 or BF16 [32, 24]`,
    );
    await refused(
      await write("more", {
        edit: (t) => t.set("model.layers.1.self_attn.q_proj.bias", tensor([32])),
      }),
      "has the tensor model.layers.1.self_attn.q_proj.bias, of which config.json says nothing",
    );
    const infinite = tensor([32, 24]);
    infinite.values[5 * 24 + 7] = Infinity;
    await refused(
      await write("infinite", { edit: (t) => t.set(q_proj, infinite) }),
      `tensor ${q_proj} has Infinity at [5, 7]; expected finite numbers`,
    );

    const sharded = await write("sharded", { shards: 2 });
    const index = join(sharded, "model.safetensors.index.json");
    const { weight_map } = JSON.parse(await Deno.readTextFile(index));
    const say = (map: unknown) => Deno.writeTextFile(index, JSON.stringify({ weight_map: map }));
    await say({ ...weight_map, more: "model-1-of-2.safetensors" });
    await refused(sharded, "has no tensor more, which model.safetensors.index.json says it has");
    await say({ ...weight_map, more: "../elsewhere.safetensors" });
    await refused(sharded, "weight_map.more: expected the name of a .safetensors file beside");
    await say({});
    await refused(sharded, "weight_map is empty");
    await say(weight_map);
    const last = join(sharded, "model-2-of-2.safetensors");
    await Deno.truncate(last, (await Deno.stat(last)).size - 4);
    await refused(sharded, "model-2-of-2.safetensors is not a valid safetensors file");
    await Deno.remove(last);
    await refused(sharded, "has no model-2-of-2.safetensors, which model.safetensors.index.json");
  });
});
