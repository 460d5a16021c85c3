/**
 * The stage `pretrained`: a published model, from a folder or from the hub.
 *
 * Weights stay where they are, in the folder or in the hub's cache: a model of many gigabytes is stored once. The node publishes the digest of each file,
 * which the keys of later nodes depend on, and the small files themselves. A later node hashes the weights that it reads.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { PretrainedCheckpoint } from "../../model/pretrained/checkpoint.ts";
import { openPretrainedTokenizer } from "../../model/pretrained/tokenizer.ts";
import { defineStage, type StageContext } from "../../pipeline/stage.ts";
import type { HubOptions } from "../download/sources/hub/hub.ts";
import { describeModel } from "./describe.ts";
import { publishedModules } from "./kinds.ts";
import { locateModel } from "./locate.ts";
import {
  describeFiles,
  FILES_OUTPUT,
  filesDigest,
  holdsWeights,
  modelFileNames,
} from "./model_files.ts";

const paramsSchema = z.strictObject({
  name: z.string().min(1),
  revision: z.string().min(1).optional(),
  fingerprint: z.string().optional()
    .describe("digest of a folder's files, so that changed ones are another model"),
});

/** Parameters of the stage. */
export type PretrainedParams = z.infer<typeof paramsSchema>;

/** The `pretrained` stage. */
export const pretrained = defineStage<PretrainedParams>({
  name: "pretrained",
  description: "Find a published model, fetch it if need be, and hash its files",
  module: import.meta.url,
  modules: publishedModules,
  params: paramsSchema,
  outputs: { [FILES_OUTPUT]: "directory", model: "json" },
  run: (context) => runPretrained(context),
});

/**
 * Runs {@linkcode pretrained}.
 *
 * @param hub Where the hub is and how patient to be; tests change it.
 */
export async function runPretrained(
  context: StageContext<PretrainedParams>,
  hub?: HubOptions,
): Promise<void> {
  const { params, log, signal } = context;
  const { name, revision, fingerprint } = params;
  const { folder, commit } = await locateModel({
    model: name,
    revision,
    settings: { model: "model.name", revision: "model.revision" },
    // Each fetched file is told as it comes.
    warn: (line) => log.info(line),
    ...(hub && { hub }),
    signal,
  });
  for (const module of publishedModules()) context.assertInKey(module);
  using checkpoint = await PretrainedCheckpoint.open(folder);
  await openPretrainedTokenizer(folder, checkpoint.architecture.config.vocab_size);
  const names = await modelFileNames(folder);
  const sizes = await Promise.all(names.map((path) => Deno.stat(join(folder, path))));
  const progress = context.progress(sizes.reduce((sum, { size }) => sum + size, 0), {
    unit: "bytes",
  });
  let hashed = 0;
  const files = await describeFiles(folder, names, {
    onFile: ({ path, bytes }) => {
      signal.throwIfAborted();
      progress.update(hashed += bytes, path);
    },
  });
  if (fingerprint !== undefined && fingerprint !== filesDigest(files)) {
    throw new Error(
      `The files of model.name ${name} changed after the experiment was planned; run it again`,
    );
  }
  for (const { path } of files) {
    if (holdsWeights(path)) continue;
    await Deno.writeFile(
      join(context.output(FILES_OUTPUT), path),
      await Deno.readFile(join(folder, path)),
    );
  }
  context.json("model", {
    name,
    commit: commit ?? null,
    ...await describeModel(checkpoint),
    files: files.map((file) => ({ ...file, published: !holdsWeights(file.path) })),
  });
}
