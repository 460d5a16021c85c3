/**
 * The models that trainings start from, found and compared while an experiment is planned.
 *
 * @module
 */

import { resolve } from "@std/path";
import {
  assertStartsFrom,
  type InitialSource,
  openInitialModel,
} from "../../model/checkpoint/initial_model.ts";
import { architectureOf } from "../../model/config.ts";
import { MODEL_TYPE } from "../../model/export/transformers.ts";
import { PretrainedCheckpoint } from "../../model/pretrained/checkpoint.ts";
import { CONFIG_FILE } from "../../model/pretrained/json.ts";
import type { ModelConfig } from "../../model/section.ts";
import type { InitialSection } from "../../model/training/config.ts";
import type { ExperimentRequest } from "../../pipeline/command.ts";
import type { Stage } from "../../pipeline/stage.ts";
import { readTextOrUndefined } from "../../pipeline/store/files.ts";
import { findCheckpoint } from "../commands/model/checkpoints.ts";
import { contentDigest } from "../download/sources/content_digest.ts";
import { ModelCache } from "../pretrained/cache.ts";
import { HUB_NAME } from "../pretrained/fetch.ts";
import { isFolder } from "../pretrained/locate.ts";
import { describeFiles, filesDigest, modelFileNames } from "../pretrained/model_files.ts";
import { pretrained, type PretrainedParams } from "../pretrained/pretrained.ts";
import { initialModelFile } from "../train/initial.ts";
import { publishedSource } from "../train/published.ts";
import { readInputHashes } from "./input_hashes.ts";

/** Facts of a model to start from that planning found. */
export interface PlannedStart {
  /** Values that the section `train.initial` gets. */
  readonly found?: Pick<InitialSection, "fingerprint" | "vocabulary">;
  /** A node that the training reads: its stage, which other experiments do not load, and its parameters. */
  readonly pretrained?: {
    // deno-lint-ignore no-explicit-any -- the stage's schema checks its own parameters
    readonly stage: Stage<any>;
    readonly params: PretrainedParams;
  };
  /** The node of the store that has the model. */
  readonly node?: { readonly name: string; readonly key: string };
}

/**
 * Finds the model of a section, and checks as far as its files are at hand that the training can start from it. Nothing is fetched.
 *
 * @throws {Error} If there is none, or it does not fit.
 */
export async function planInitial(
  initial: InitialSection,
  model: ModelConfig,
  request: ExperimentRequest,
): Promise<PlannedStart> {
  const { checkpoint, which, revision } = initial;
  const { storeDir, verifyInputs = false } = request;
  if (storeDir !== undefined) await readInputHashes(storeDir);
  const check = async (source: InitialSource) => {
    await assertStartsFrom(source, architectureOf(model), initial);
  };
  if (await isPublishedFolder(checkpoint)) {
    if (revision !== undefined) {
      throw new Error(`${checkpoint} is a folder, which has no revision ${revision}`);
    }
    assertNoChoice(initial);
    const folder = resolve(checkpoint);
    await checkFolder(checkpoint, folder, check);
    const files = await describeFiles(folder, await modelFileNames(folder), {
      verify: verifyInputs,
    });
    const params = { name: checkpoint, fingerprint: filesDigest(files) };
    return { pretrained: { stage: pretrained, params } };
  }
  const file = await initialModelFile(checkpoint, which);
  if (file !== undefined) {
    assertNoRevision(initial);
    await check(await openInitialModel(file));
    return { found: { fingerprint: await contentDigest(file, { verify: verifyInputs }) } };
  }
  if (HUB_NAME.test(checkpoint)) {
    assertNoChoice(initial);
    const cache = new ModelCache(checkpoint);
    const commit = await cache.commitOf(revision ?? "main");
    if (commit !== undefined && await cache.isComplete(commit)) {
      await checkFolder(checkpoint, cache.snapshot(commit), check);
    }
    const params = { name: checkpoint, ...(revision !== undefined && { revision }) };
    return { pretrained: { stage: pretrained, params } };
  }
  assertNoRevision(initial);
  if (storeDir === undefined || /[/\\]|\.safetensors$/.test(checkpoint)) {
    throw new Error(`there is no file or folder ${checkpoint}`);
  }
  const { model: path, vocabulary, record } = await findCheckpoint(checkpoint, {
    storeDir,
    which: which ?? "last",
  });
  await check({ ...await openInitialModel(path), name: checkpoint });
  const digest = (path: string) => contentDigest(path, { verify: verifyInputs });
  return {
    found: { fingerprint: await digest(path), vocabulary: await digest(vocabulary) },
    ...(record && { node: { name: record.node, key: record.key } }),
  };
}

async function checkFolder(
  name: string,
  folder: string,
  check: (source: InitialSource) => Promise<void>,
): Promise<void> {
  using checkpoint = await PretrainedCheckpoint.open(folder);
  await check(publishedSource(name, checkpoint));
}

/** Whether a path is the folder of a published model, rather than of a checkpoint of a training or of what `export-model` made of one. */
async function isPublishedFolder(path: string): Promise<boolean> {
  if (!await isFolder(path)) return false;
  const text = await readTextOrUndefined(resolve(path, CONFIG_FILE));
  if (text === undefined) return false;
  try {
    return Object(JSON.parse(text)).model_type !== MODEL_TYPE;
  } catch {
    // Who reads it as a published model's says what is wrong.
    return true;
  }
}

function assertNoChoice({ checkpoint, which }: InitialSection): void {
  if (which === undefined) return;
  throw new Error(`${checkpoint} is a published model, which has no ${which} one: remove which`);
}

function assertNoRevision({ checkpoint, revision }: InitialSection): void {
  if (revision === undefined) return;
  throw new Error(`${checkpoint} is not of the hub and has no revision ${revision}: remove it`);
}
