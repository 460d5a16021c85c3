/**
 * The stage `expand`: a published model with Sparse Expansion, in the form of a Hugging Face folder.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { PretrainedCheckpoint } from "../../model/pretrained/checkpoint.ts";
import { BINS, measureNeurons } from "../../model/sparse/entanglement/neurons.ts";
import { type BlockReport, expandIntoFolder, type SiteReport } from "../../model/sparse/folder.ts";
import { defineStage, type JsonValue, type StageContext } from "../../pipeline/stage.ts";
import { readWindows } from "../calibrate/read_windows.ts";
import { modelFolder } from "../pretrained/model_files.ts";
import { publishedModules } from "../pretrained/kinds.ts";
import { gpuProvenance, takeGpu } from "../shared_gpu.ts";
import { neuronsSectionSchema } from "./config.ts";
import { EXPANDED_OUTPUT } from "./result.ts";

const whole = z.int().min(1);

const paramsSchema = z.strictObject({
  expansion: z.strictObject({
    centroids: z.enum(["kmeans", "rows", "random"]).optional(),
    clusters: whole,
    pca_factor: z.int().min(0),
    restarts: whole,
    max_iterations: whole,
  }),
  pruning: z.strictObject({
    method: z.enum(["sparsegpt", "magnitude"]).optional(),
    sparsity: z.number().min(0).lt(1),
    pattern: z.tuple([whole, whole]).optional(),
    bits: z.int().min(2).max(8).optional(),
    symmetric: z.boolean(),
    block: whole,
    damping: z.number().min(0),
  }),
  seed: z.int().min(0).max(2 ** 32 - 1),
  neurons: neuronsSectionSchema,
});

/** Parameters of the stage. */
export type ExpandParams = z.infer<typeof paramsSchema>;

/** The `expand` stage: the folder `expanded/`, and the numbers of its blocks. */
export const expand = defineStage<ExpandParams>({
  name: "expand",
  description: "Give a model's MLPs sparse experts; resumes at its last block",
  module: import.meta.url,
  modules: publishedModules,
  params: paramsSchema,
  outputs: {
    [EXPANDED_OUTPUT]: "directory",
    expansion: "json",
    neurons: "json",
    timings: "measured",
  },
  resource: "gpu",
  run: runExpand,
});

async function runExpand(context: StageContext<ExpandParams>): Promise<void> {
  const { params, stateDir, signal, log } = context;
  const [model] = context.inputs.model ?? [];
  const [calibrate] = context.inputs.calibrate ?? [];
  if (!model) throw new Error(`${context.node.name} has no input named model`);
  if (!calibrate) throw new Error(`${context.node.name} has no input named calibrate`);
  const { tokens, length } = await readWindows(calibrate, "calibration");
  const { folder } = await modelFolder(model, stateDir);
  for (const module of publishedModules()) context.assertInKey(module);
  using checkpoint = await PretrainedCheckpoint.open(folder);
  using taken = await takeGpu();
  const { gpu } = taken;
  context.provenance?.(gpuProvenance(gpu));
  const { num_layers } = checkpoint.architecture.config;
  const progress = context.progress(num_layers, { unit: "blocks" });
  const into = join(stateDir, EXPANDED_OUTPUT);
  await Deno.mkdir(into, { recursive: true });
  const { neurons: measured, ...options } = params;
  const kept = join(stateDir, "neurons");
  await Deno.mkdir(kept, { recursive: true });
  const neuronsFile = (block: number) => join(kept, `${block}.json`);
  let made = 0;
  const start = performance.now();
  const { blocks, peak_bytes } = await expandIntoFolder(gpu, {
    model: checkpoint,
    tokens,
    length,
    ...options,
    folder: into,
    signal,
    // A block that is found again was measured before it was stored.
    async onMlp({ block, ...expanded }) {
      const layers = await measureNeurons(gpu, expanded, { ...measured, seed: params.seed });
      await Deno.writeTextFile(neuronsFile(block), JSON.stringify({ layers }));
    },
    onBlock: (block, _report, resumed) => {
      if (!resumed) made++;
      progress.update(block + 1, resumed ? "found" : "expanded");
    },
    warn: (line) => log.warn(line),
  });
  const seconds = (performance.now() - start) / 1000;
  // They stay in the state folder until they are published: a kill in between must find them there.
  await shareFiles(into, context.output(EXPANDED_OUTPUT));
  context.json("expansion", JSON.parse(JSON.stringify(summed(blocks))));
  const neurons: JsonValue[] = [];
  for (const block of blocks.keys()) {
    neurons.push(JSON.parse(await Deno.readTextFile(neuronsFile(block))));
  }
  context.json("neurons", { bins: { ...BINS }, blocks: neurons });
  context.measured("timings", { seconds, blocks: made, peak_bytes });
}

/** The numbers of blocks, and their sums. */
function summed(blocks: readonly BlockReport[]) {
  const sum = (of: (site: SiteReport) => number) =>
    blocks.reduce((total, block) => total + of(block.in) + of(block.mid), 0);
  return {
    blocks,
    stored_bits: sum((site) => site.stored_bits),
    dense_bits: sum((site) => site.dense_bits),
    multiply_adds: sum((site) => site.multiply_adds),
    dense_multiply_adds: sum((site) => site.dense_multiply_adds),
  };
}

/** Hard links to all files of a folder, or copies where links are not possible. */
async function shareFiles(from: string, to: string): Promise<void> {
  for await (const { name, isFile } of Deno.readDir(from)) {
    if (!isFile) continue;
    try {
      await Deno.link(join(from, name), join(to, name));
    } catch {
      await Deno.copyFile(join(from, name), join(to, name));
    }
  }
}
