/** The stages `expand` and `perplexity` on small models: what they publish, and an expansion that was stopped. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import { withFolder } from "../../model/checkpoint/folder_testing.ts";
import { EXPANSION, PRUNING } from "../../model/sparse/options.ts";
import type { JsonValue, NodeOutput } from "../../pipeline/stage.ts";
import { calibrate } from "../calibrate/calibrate.ts";
import { perplexity } from "../perplexity/perplexity.ts";
import { perplexitySchema } from "../perplexity/result.ts";
import { FAMILIES, pretrainedNode, writeModel } from "../pretrained/model_testing.ts";
import { runStage } from "../testing.ts";
import { expand } from "./expand.ts";
import { neuronsSchema } from "./neurons_result.ts";
import { EXPANDED_OUTPUT, expandTimingsSchema, expansionSchema } from "./result.ts";

const expansion = { ...EXPANSION, clusters: 3, pca_factor: 8, restarts: 2 };
const pruning = { ...PRUNING, sparsity: 0.5, block: 12 };
const neurons = { neurons: 4, rows: 200, shown: 1 };
const PARAMS = { expansion, pruning, seed: 3, neurons };

/** Inputs of the stages. */
async function inputsOf(dir: string, family: keyof typeof FAMILIES = "gpt_neox") {
  const folder = join(dir, "published");
  await writeModel(folder, family);
  const model = await pretrainedNode(folder, join(dir, "pretrained"));
  const text = Array.from({ length: 400 }, (_, i) => `Line ${i * i % 97} of ${i} words`).join("\n");
  await Deno.writeTextFile(join(dir, "text.txt"), text);
  const files = { dataset: "files", files: { glob: join(dir, "text.txt") }, length: 24 };
  const { output } = await runStage(calibrate, {
    params: {
      calibration: { ...files, samples: 9 },
      evaluation: { ...files, windows: 7 },
      seed: 1,
    },
    inputs: { model: [model] },
    dir: join(dir, "calibrate"),
  });
  return { model: [model], calibrate: [output] };
}

type Inputs = Awaited<ReturnType<typeof inputsOf>>;

/** Digests of the files of a directory output. */
function digests(node: NodeOutput): Record<string, string> {
  return Object.fromEntries(
    node.files(EXPANDED_OUTPUT).map((path) => {
      const bytes = Deno.readFileSync(node.file(EXPANDED_OUTPUT, path));
      return [path, createHash("sha256").update(bytes).digest("hex")];
    }),
  );
}

/** Expands, and stops after so many blocks. */
async function expanded(
  inputs: Inputs,
  { dir, stopAfter, params = PARAMS }: {
    dir: string;
    stopAfter?: number;
    params?: Record<string, unknown>;
  },
) {
  const stop = new AbortController();
  return await runStage(
    expand,
    { params: params as JsonValue, inputs, dir, signal: stop.signal },
    (context) =>
      expand.run({
        ...context,
        progress(total, options) {
          const bar = context.progress(total, options);
          return {
            update(done, remark) {
              bar.update(done, remark);
              if (done === stopAfter) stop.abort(new Error("stopped by the test"));
            },
          };
        },
      }),
  );
}

Deno.test("an expansion that was stopped goes on behind its last block, to the same bytes", async () => {
  await withFolder(async (dir) => {
    const inputs = await inputsOf(dir);
    const whole = await expanded(inputs, { dir: join(dir, "whole") });
    assertEquals(expandTimingsSchema.parse(whole.measured.timings).blocks, 2);

    const stopped = { dir: join(dir, "stopped"), stopAfter: 1 };
    await assertRejects(() => expanded(inputs, stopped), Error, "stopped by the test");
    const resumed = await expanded(inputs, { dir: stopped.dir });
    assertEquals(expandTimingsSchema.parse(resumed.measured.timings).blocks, 1);
    assertEquals(resumed.progress.map(({ done, remark }) => [done, remark]), [
      [1, "found"],
      [2, "expanded"],
    ]);
    assertEquals(digests(resumed.output), digests(whole.output));
    assertEquals(resumed.json, whole.json);
    assert("block-00001.safetensors" in digests(whole.output));
  });
});

for (const family of ["gpt_neox", "llama"] as const) {
  Deno.test(`expand publishes the numbers of each block of a ${family}, and perplexity measures it`, async () => {
    await withFolder(async (dir) => {
      const inputs = await inputsOf(dir, family);
      const { output, json } = await expanded(inputs, { dir: join(dir, "expand") });
      const { blocks, ...sums } = expansionSchema.parse(json.expansion);
      const layers = family === "llama" ? ["gate", "up"] : ["up"];
      for (const block of blocks) {
        assertEquals(Object.keys(block.in.layers), layers);
        assertEquals(Object.keys(block.mid.layers), ["down"]);
        // Nine windows of 24 tokens, and half of 24 × 36 weights of each expert.
        assertEquals(block.in.sizes.reduce((a, b) => a + b), 9 * 24);
        for (const layer of Object.values(block.in.layers)) {
          assertEquals(layer.kept, [432, 432, 432]);
        }
      }
      const matrices = 24 * 36 * (layers.length + 1) * 2;
      assertEquals(sums.dense_multiply_adds, matrices);
      assertEquals(sums.dense_bits, 16 * matrices);
      assertEquals(sums.multiply_adds, matrices / 2 + 2 * 3 * (24 + 36));
      const measured = neuronsSchema.parse(json.neurons);
      assertEquals(
        measured.blocks.map(({ layers }) => layers.map(({ layer }) => layer)),
        [[...layers, "down"], [...layers, "down"]],
      );

      const measure = async (more: Record<string, readonly NodeOutput[]>, micro_batch = 3) => {
        const run = await runStage(perplexity, {
          params: { micro_batch },
          inputs: { calibrate: inputs.calibrate, ...more },
          dir: join(dir, `perplexity-${micro_batch}-${Object.keys(more)}`),
        });
        return perplexitySchema.parse(run.json.perplexity);
      };
      const dense = await measure({ model: inputs.model });
      const sparse = await measure({ expanded: [output] });
      assertEquals([dense.windows, dense.predictions, dense.losses.length], [7, 7 * 23, 7]);
      assertAlmostEquals(dense.perplexity!, Math.exp(dense.nats), 1e-12);
      assertEquals(dense.mlp, {
        stored_bits: 16 * matrices,
        multiply_adds: matrices,
        stored_weights: matrices,
      });
      assertEquals(sparse.mlp.stored_weights, 3 * matrices / 2);
      assertEquals(sparse.mlp.multiply_adds, sums.multiply_adds);
      assert(Math.abs(sparse.nats - dense.nats) > 1e-4, "an expansion changes the model");
      const other = await measure({ model: inputs.model }, 2);
      other.losses.forEach((loss, i) => assertAlmostEquals(loss, dense.losses[i]!, 1e-5));

      // Nothing is pruned: the same model.
      const same = await expanded(inputs, {
        dir: join(dir, "same"),
        params: { ...PARAMS, pruning: { ...pruning, sparsity: 0 } },
      });
      const again = await measure({ expanded: [same.output] });
      assertAlmostEquals(again.nats, dense.nats, 1e-5);
    });
  });
}

Deno.test("expand and perplexity name an input that is missing, and a block that can't be expanded", async () => {
  await withFolder(async (dir) => {
    const inputs = await inputsOf(dir);
    const without = (name: string) => ({ ...inputs, [name]: [] });
    for (const name of ["model", "calibrate"]) {
      await assertRejects(
        () => expanded(without(name), { dir: join(dir, "a") }),
        Error,
        `expand has no input named ${name}`,
      );
      await assertRejects(
        () =>
          runStage(perplexity, {
            params: { micro_batch: 1 },
            inputs: without(name),
            dir: join(dir, "b"),
          }),
        Error,
        `perplexity has no input named ${name}`,
      );
    }
    await assertRejects(
      () =>
        expanded(inputs, {
          dir: join(dir, "c"),
          params: { ...PARAMS, expansion: { ...expansion, clusters: 217 } },
        }),
      RangeError,
      "block 0 in: clusters is 217, expected at most its 216 rows",
    );
  });
});
