import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { withFolder } from "../../checkpoint/folder_testing.ts";
import { SafetensorsFile, type Tensor, writeSafetensors } from "../../checkpoint/safetensors.ts";
import { PretrainedError } from "../../pretrained/error.ts";
import { type ExpandSmall, SMALL_EXPANSION, writeExpanded } from "../folder_testing.ts";
import { PRUNING } from "../options.ts";
import { ExpandedCheckpoint } from "./checkpoint.ts";

/** Tensors of a file that a test changes. */
type Tensors = Map<string, Tensor>;

/** Changes the tensors of a file. */
async function edit(path: string, change: (tensors: Tensors) => void): Promise<void> {
  const tensors: Tensors = new Map();
  {
    using file = await SafetensorsFile.open(path);
    for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
  }
  change(tensors);
  await writeSafetensors(path, Array.from(tensors, ([name, tensor]) => ({ name, ...tensor })));
}

/** Opens a folder and reads all of its blocks. */
async function readAll(folder: string): Promise<void> {
  using checkpoint = await ExpandedCheckpoint.open(folder);
  for await (const { activation } of checkpoint.mlps()) assertEquals(activation, "swiglu");
}

/** A folder whose second block a test damages, and what is said then. */
async function damaging(
  changes: ExpandSmall,
  damages: readonly [change: (tensors: Tensors) => void, message: string][],
): Promise<void> {
  await withFolder(async (folder) => {
    const { expanded } = await writeExpanded(folder, changes);
    await readAll(expanded);
    const path = join(expanded, "block-00001.safetensors");
    const bytes = await Deno.readFile(path);
    for (const [change, message] of damages) {
      await edit(path, change);
      const error = await assertRejects(() => readAll(expanded), PretrainedError, message);
      assert(error.message.startsWith(path), error.message);
      assert(!error.message.includes("\n"));
      await Deno.writeFile(path, bytes);
    }
    await readAll(expanded);
    await Deno.writeFile(path, bytes.subarray(0, -1));
    const error = await assertRejects(() => readAll(expanded), PretrainedError, path);
    assert(!error.message.includes("\n"));
  });
}

const at = "model.layers.1.mlp";
const up = `${at}.up_proj.experts.1`;

Deno.test("A file with masks says what is wrong with it", async () => {
  await damaging({}, [
    [(t) => t.delete(`${up}.values`), `has no tensor ${up}.values`],
    [(t) => void (t.get(`${up}.values`)!.data[3] = NaN), `tensor ${up}.values has NaN at [3]`],
    [
      (t) => void (t.get(`${at}.router_mid.mean`)!.data[1] = Infinity),
      `tensor ${at}.router_mid.mean has Infinity at [1]`,
    ],
    [
      // A weight more than there are values.
      (t) => {
        const { data } = t.get(`${up}.mask`)!;
        const row = data.findIndex((word) => word !== 0xffffff);
        data[row] = 0xffffff;
      },
      `${up}: values has 432 entries, expected`,
    ],
    [
      (t) => void (t.get(`${up}.mask`)!.data[0] = 0x80000000),
      `${up}: mask of row 0 has bits beyond its 24 inputs`,
    ],
    [
      (t) => t.set(`${at}.router_in.centroids`, t.get(`${at}.router_in.mean`)!),
      `tensor ${at}.router_in.centroids is F32 [24], expected F32 [2, 4]`,
    ],
    [
      (t) => {
        const { shape, data } = t.get(`${up}.values`)!;
        t.set(`${up}.values`, {
          dtype: "F16",
          shape,
          data: Float16Array.from(data as Float32Array),
        });
      },
      `tensor ${up}.values is F16 [432], expected F32 [as many as its mask says]`,
    ],
  ]);
});

Deno.test("A file with a pattern of levels says what is wrong with it", async () => {
  const pruning = { ...PRUNING, pattern: [2, 4] as const, bits: 3, symmetric: true, block: 12 };
  await damaging({ ...SMALL_EXPANSION, pruning }, [
    // Both places of the first group are 0.
    [(t) => void (t.get(`${up}.indices`)!.data[0] = 0), `${up}: place 1 of row 0 is 0 after 0`],
    // A symmetric grid of three bits has no level 4.
    [
      (t) => void (t.get(`${up}.level`)!.data[0] = 0xffffffff),
      `tensor ${up}.level has the level 4 in row 0`,
    ],
    [(t) => void (t.get(`${at}.up_proj.scale`)!.data[5] = NaN), "scale has NaN at [5]"],
    [
      (t) => {
        const { data } = t.get(`${up}.level`)!;
        t.set(`${up}.level`, { dtype: "U32", shape: [3], data: (data as Uint32Array).slice(0, 3) });
      },
      `tensor ${up}.level is U32 [3], expected U32 [72]`,
    ],
  ]);
});

Deno.test("A folder whose files do not belong together is refused", async () => {
  await withFolder(async (folder) => {
    const { expanded } = await writeExpanded(folder);
    const config = join(expanded, "config.json");
    const before = JSON.parse(await Deno.readTextFile(config));
    assertEquals(before.sparse_expansion, {
      version: 1,
      ...SMALL_EXPANSION.expansion,
      ...SMALL_EXPANSION.pruning,
      seed: 5,
      values: "f32",
    });
    const refused = async (changes: Readonly<Record<string, unknown>>, message: string) => {
      const sparse_expansion = { ...before.sparse_expansion, ...changes };
      await Deno.writeTextFile(config, JSON.stringify({ ...before, sparse_expansion }));
      const error = await assertRejects(
        () => ExpandedCheckpoint.open(expanded),
        PretrainedError,
        message,
      );
      assert(!error.message.includes("\n"));
    };
    await refused({ version: 2 }, "config.json: sparse_expansion.version is 2; expected version 1");
    await refused({ pattern: "2/4" }, 'sparse_expansion.pattern is "2/4"; expected N:M');
    await refused({ sparsity: 0, pattern: "3:7" }, "24 inputs do not divide into groups of 7");
    await refused({ clusters: 3 }, "tensor model.layers.0.mlp.router_in.centroids is F32 [2, 4]");
    await refused({ bits: 4 }, "has no tensor model.layers.0.mlp.gate_proj.scale");
    await refused({ clusters: 1 }, "tensor model.layers.0.mlp.router_in.centroids is F32 [2, 4]");
    await Deno.writeTextFile(config, JSON.stringify(before));
    const extra = join(expanded, "block-00000.safetensors");
    await edit(extra, (t) => t.set(`${at}.other`, t.get("model.layers.0.mlp.router_in.mean")!));
    await assertRejects(
      () => ExpandedCheckpoint.open(expanded),
      PretrainedError,
      `has the tensor ${at}.other, which is none of block 0`,
    );
    await Deno.remove(extra);
    await assertRejects(
      () => ExpandedCheckpoint.open(expanded),
      PretrainedError,
      "has no block-00000.safetensors, which model.safetensors.index.json names",
    );
    await Deno.remove(join(expanded, "model.safetensors.index.json"));
    await assertRejects(
      () => ExpandedCheckpoint.open(expanded),
      PretrainedError,
      "the expansion is not finished",
    );
  });
});
