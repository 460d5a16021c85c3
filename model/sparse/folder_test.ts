import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { withFolder } from "../checkpoint/folder_testing.ts";
import { SafetensorsFile } from "../checkpoint/safetensors.ts";
import { runPlan } from "../gpu/build.ts";
import { Plan } from "../gpu/plan.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { InferenceModel } from "../inference/model.ts";
import { LayerContext } from "../layer/context.ts";
import { compressedBytes } from "../ops/compressed/forms.ts";
import { PretrainedCheckpoint } from "../pretrained/checkpoint.ts";
import { PretrainedError } from "../pretrained/error.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { headLogits } from "../trunk/head.ts";
import { recordForward } from "../trunk/network.ts";
import { ExpandedCheckpoint } from "./files/checkpoint.ts";
import {
  type ExpandSmall,
  expandSmall,
  LENGTH,
  SMALL_EXPANSION,
  someTokens,
  writeDense,
  writeExpanded,
} from "./folder_testing.ts";
import { ExpandedModel } from "./model.ts";
import { PRUNING } from "./options.ts";
import { Tensors } from "./rows.ts";

/** Every file of a folder. */
async function contents(folder: string): Promise<Record<string, string>> {
  const files: [string, string][] = [];
  for await (const { name } of Deno.readDir(folder)) {
    files.push([name, (await Deno.readFile(join(folder, name))).toHex()]);
  }
  return Object.fromEntries(files.sort(([a], [b]) => a < b ? -1 : 1));
}

/** Logits of some tokens. */
async function logits(
  { gpu, weights }: InferenceModel,
  architecture: Architecture,
): Promise<Float32Array> {
  using tensors = new Tensors(gpu);
  const tokens = tensors.tensor("ids", [LENGTH], { dtype: "u32", values: someTokens(LENGTH, 4) });
  const plan = new Plan(gpu, "logits");
  const context = new LayerContext(plan, weights, { batch: 1, length: LENGTH, mode: "evaluate" });
  const { x } = recordForward(context, architecture, { tokens });
  const found = await runPlan(plan, { logits: headLogits(context, { architecture, x }) });
  return found.logits as Float32Array;
}

const cases: [string, ExpandSmall][] = [
  ["a Llama, half of its weights", {}],
  ["a GPT-NeoX in halves of two files, 2:4", {
    family: "gpt_neox",
    written: { dtype: "BF16", shards: 3 },
    pruning: { ...PRUNING, pattern: [2, 4], block: 12 },
  }],
  ["a Llama in four symmetric bits, without components", {
    pruning: { ...PRUNING, sparsity: 0.5, bits: 4, symmetric: true, block: 12 },
    expansion: { ...SMALL_EXPANSION.expansion, pca_factor: 0 },
  }],
  ["a GPT-NeoX in three bits, 2:4", {
    family: "gpt_neox",
    written: { dtype: "F16" },
    pruning: { ...PRUNING, pattern: [2, 4], bits: 3, block: 12 },
  }],
];

for (const [what, changes] of cases) {
  Deno.test(`A folder computes what was expanded in memory: ${what}`, async () => {
    await withFolder(async (folder) => {
      const { dense, expanded, report } = await writeExpanded(folder, changes);
      const gpu = await openTestGpu();
      using published = await PretrainedCheckpoint.open(dense);
      using whole = await InferenceModel.filled(gpu, published);
      const half = changes.written?.dtype !== undefined;
      using direct = await ExpandedModel.expand(gpu, whole, {
        ...SMALL_EXPANSION,
        ...changes,
        values: half ? "f16" : "f32",
      });
      using checkpoint = await ExpandedCheckpoint.open(expanded);
      using loaded = await checkpoint.load(gpu);
      const found = await logits(loaded.model, loaded.model.architecture);
      assertEquals(found, await logits(whole, direct.architecture));
      assertNotEquals(found, await logits(whole, whole.architecture));

      // Nothing but the compressed experts is in memory: their host forms, with the room that kernels want.
      let [bytes, matrices, grids] = [0, 0, 0];
      for await (const { sites } of checkpoint.mlps()) {
        for (const { layers } of Object.values(sites)) {
          for (const { experts, grid, outputs } of Object.values(layers)) {
            grids += grid ? 8 * outputs : 0;
            matrices += experts.length;
            for (const expert of experts) bytes += compressedBytes(expert);
          }
        }
      }
      assertEquals(report.blocks.length, 2);
      const stored = report.blocks.flatMap(({ in: first, mid }) => [first, mid]);
      assertEquals(
        loaded.expanded.storage.stored_bits,
        stored.reduce((sum, { stored_bits }) => sum + stored_bits, 0),
      );
      assert(loaded.expanded.expertBytes >= bytes + grids);
      const room = loaded.expanded.expertBytes - bytes - grids;
      assert(room < 9000 * matrices, `${room} bytes of room for ${matrices} experts`);
    });
  });
}

Deno.test("Tensors that are not expanded keep their names and their bytes", async () => {
  await withFolder(async (folder) => {
    const written = { dtype: "BF16", shards: 2 } as const;
    const { dense, expanded } = await writeExpanded(folder, { written });
    using own = await SafetensorsFile.open(join(expanded, "dense.safetensors"));
    using source = await PretrainedCheckpoint.open(dense);
    const kept = [...source.files.names].filter((name) => !/mlp\.\w+_proj\.weight/.test(name));
    assertEquals([...own.tensors.keys()].sort(), kept.sort());
    for (const name of kept) {
      assertEquals(await own.read(name), await source.files.find(name)!.file.read(name));
    }
    const index = JSON.parse(
      await Deno.readTextFile(join(expanded, "model.safetensors.index.json")),
    );
    const at = "model.layers.1.mlp";
    assertEquals(index.weight_map[`${at}.gate_proj.experts.1.mask`], "block-00001.safetensors");
    assertEquals(index.weight_map[`${at}.router_mid.components`], "block-00001.safetensors");
    assertEquals(index.weight_map["lm_head.weight"], "dense.safetensors");
    using block = await SafetensorsFile.open(join(expanded, "block-00001.safetensors"));
    assertEquals(block.info(`${at}.gate_proj.experts.1.values`).dtype, "F16");
  });
});

Deno.test("An expansion that was stopped goes on to the same bytes", async () => {
  await withFolder(async (folder) => {
    const changes: ExpandSmall = {
      written: { dtype: "BF16" },
      config: { num_hidden_layers: 3 },
    };
    const { dense, expanded, report } = await writeExpanded(folder, changes);
    const whole = await contents(expanded);
    const parts = join(folder, "parts");
    const told: [number, boolean][] = [];
    for (const stop of [0, 1]) {
      const controller = new AbortController();
      await assertRejects(
        () =>
          expandSmall({ dense, expanded: parts }, {
            ...changes,
            signal: controller.signal,
            onBlock(block, _report, resumed) {
              told.push([block, resumed]);
              if (block === stop) controller.abort();
            },
          }),
        DOMException,
      );
      await assertRejects(() => ExpandedCheckpoint.open(parts), PretrainedError, "not finished");
    }
    // A kill while a file was written leaves what is no file of the folder.
    await Deno.writeTextFile(join(parts, "block-00002.safetensors.partial"), "half");
    const again = await expandSmall({ dense, expanded: parts }, {
      ...changes,
      onBlock: (block, _report, resumed) => void told.push([block, resumed]),
    });
    assertEquals(told, [[0, false], [0, true], [1, false], [0, true], [1, true], [2, false]]);
    assertEquals(again.blocks, report.blocks);
    assertEquals(await contents(parts), whole);
    // A kill between a block's file and the state that names it.
    const state = join(parts, "sparse_expansion.json");
    const named = JSON.parse(await Deno.readTextFile(state));
    await Deno.writeTextFile(state, JSON.stringify({ ...named, blocks: named.blocks.slice(0, 2) }));
    await expandSmall({ dense, expanded: parts }, changes);
    assertEquals(await contents(parts), whole);

    // A cluster of the first block is done, the others are not.
    const clusters = join(folder, "clusters");
    const controller = new AbortController();
    let experts = 0;
    await assertRejects(
      () =>
        expandSmall({ dense, expanded: clusters }, {
          ...changes,
          signal: controller.signal,
          onExpert() {
            experts++;
            controller.abort();
          },
        }),
      DOMException,
    );
    assertEquals(experts, 2);

    // A finished folder stays as it is, and what is damaged is made again.
    const warned: string[] = [];
    const warn = (line: string) => void warned.push(line);
    const before = await expandSmall({ dense, expanded }, { ...changes, warn });
    assertEquals([before.blocks, warned, before.peak_bytes], [report.blocks, [], 0]);
    for (const name of ["block-00001.safetensors", "dense.safetensors"]) {
      const bytes = await Deno.readFile(join(expanded, name));
      bytes[bytes.length - 3]! ^= 4;
      await Deno.writeFile(join(expanded, name), bytes);
    }
    await expandSmall({ dense, expanded }, { ...changes, warn });
    assertEquals(warned, [
      `${join(expanded, "dense.safetensors")} is damaged; it is written again`,
      `${join(expanded, "block-00001.safetensors")} is damaged; block 1 is expanded again`,
    ]);
    assertEquals(await contents(expanded), whole);
  });
});

Deno.test("A folder of other options, or with other files, is refused", async () => {
  await withFolder(async (folder) => {
    const { dense, expanded } = await writeExpanded(folder);
    const refused = async (changes: ExpandSmall, message: string, from = dense) => {
      const error = await assertRejects(
        () => expandSmall({ dense: from, expanded }, changes),
        PretrainedError,
        message,
      );
      assert(!error.message.includes("\n"));
    };
    const before = await contents(expanded);
    const { expansion, pruning } = SMALL_EXPANSION;
    const state = join(expanded, "sparse_expansion.json");
    await refused({ seed: 6 }, `${state}: seed is 5, but 6 is asked for`);
    await refused({ pruning: { ...pruning, sparsity: 0.25 } }, "pruning.sparsity is 0.5, but 0.25");
    await refused({ pruning: { ...pruning, bits: 4 } }, "pruning.bits is undefined, but 4");
    await refused({ expansion: { ...expansion, restarts: 3 } }, "expansion.restarts is 2, but 3");
    await refused({ tokens: someTokens(LENGTH * 8, 2) }, "calibration.tokens is ");
    const other = join(folder, "other");
    await writeDense(other, {
      written: { edit: (t) => void (t.get("model.norm.weight")!.values[3] = 2) },
    });
    await refused({}, "model.tensors is ", other);
    assertEquals(await contents(expanded), before);
    await assertRejects(
      () => expandSmall({ dense, expanded: dense }),
      PretrainedError,
      "and no sparse_expansion.json; expected a new or empty folder",
    );
    await Deno.writeTextFile(state, "{}");
    await refused({}, `${state}: version: `);
  });
});

Deno.test("An impossible expansion is refused before anything is written", async () => {
  await withFolder(async (folder) => {
    const dense = join(folder, "dense");
    const expanded = join(folder, "expanded");
    await writeDense(dense);
    const { expansion, pruning } = SMALL_EXPANSION;
    const refused = async (changes: ExpandSmall, message: string) => {
      await assertRejects(() => expandSmall({ dense, expanded }, changes), RangeError, message);
      await assertRejects(() => Deno.stat(expanded), Deno.errors.NotFound);
    };
    await refused({ tokens: [] }, "0 calibration tokens are no windows of 16");
    await refused({ tokens: new Uint32Array(16).fill(263) }, "the token 263");
    await refused({ expansion: { ...expansion, clusters: 300 } }, "block 0 in: clusters is 300");
    await refused({ pruning: { ...pruning, sparsity: 1 } }, "block 0 in: sparsity is 1");
    await refused(
      { pruning: { ...pruning, sparsity: 0, pattern: [2, 7] } },
      "24 inputs do not divide into groups of 7",
    );
  });
});

Deno.test("The device has the weights of one block at a time", async () => {
  await withFolder(async (folder) => {
    const peaks: number[] = [];
    for (const num_hidden_layers of [2, 4]) {
      const config = { num_hidden_layers };
      const { report } = await writeExpanded(join(folder, `${num_hidden_layers}`), { config });
      peaks.push(report.peak_bytes);
    }
    assert(peaks[0]! > 0);
    assertEquals(peaks[1], peaks[0]);
  });
});

Deno.test("A Hessian that is not positive definite is told of", async () => {
  await withFolder(async (folder) => {
    const warned: string[] = [];
    const { report } = await writeExpanded(folder, {
      pruning: { ...SMALL_EXPANSION.pruning, damping: 1e-9 },
      warn: (line) => void warned.push(line),
    });
    const raised = report.blocks.flatMap(({ in: first, mid }) =>
      [...first.dampings, ...mid.dampings].filter((count) => count > 1)
    );
    assert(raised.length > 0);
    assertEquals(warned.length, raised.length);
    assert(
      /^block \d (in|mid) cluster \d: the Hessian was not positive definite; damping was added \d+ times$/
        .test(warned[0]!),
      warned[0],
    );
  });
});
