/**
 * The stage `publish`: a model that was trained here in the form of a published one. It publishes the same as `pretrained`, and the weights.
 *
 * @module
 */

import { z } from "zod";
import {
  loadModel,
  MODEL_FILE,
  readArchitecture,
  type WeightSink,
} from "../../model/checkpoint/checkpoint.ts";
import { PretrainedCheckpoint } from "../../model/pretrained/checkpoint.ts";
import { writeByteLlama } from "../../model/pretrained/export.ts";
import { defineStage } from "../../pipeline/stage.ts";
import { describeModel } from "./describe.ts";
import { describeFiles, FILES_OUTPUT, modelFileNames } from "./model_files.ts";
import { publishedModules } from "./kinds.ts";

const size = z.int().min(1);

const paramsSchema = z.strictObject({
  d_model: size,
  num_layers: size,
  num_heads: size,
  d_ffn: size,
  positions: size,
});

/** Sizes of a made model. */
export type PublishParams = z.infer<typeof paramsSchema>;

/** The `publish` stage. */
export const publish = defineStage<PublishParams>({
  name: "publish",
  description: "Write a trained Llama of single bytes as a published model",
  module: import.meta.url,
  modules: publishedModules,
  params: paramsSchema,
  outputs: { [FILES_OUTPUT]: "directory", model: "json" },
  async run(context) {
    const [trained] = context.inputs.train ?? [];
    if (!trained) throw new Error(`${context.node.name} has no input named train`);
    const path = trained.file("checkpoint", `last/${MODEL_FILE}`);
    const architecture = await readArchitecture(path, { onLoad: context.assertInKey });
    const folder = context.output(FILES_OUTPUT);
    const source = {
      architecture,
      fill: (sink: WeightSink) => loadModel(path, sink),
    };
    await writeByteLlama(folder, source, context.params);
    using checkpoint = await PretrainedCheckpoint.open(folder);
    const files = await describeFiles(folder, await modelFileNames(folder));
    context.json("model", {
      name: "made",
      commit: null,
      ...await describeModel(checkpoint),
      files: files.map((file) => ({ ...file, published: true })),
    });
  },
});
