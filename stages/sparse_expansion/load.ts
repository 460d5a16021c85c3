/**
 * Makes the nodes of Sparse Expansion from the command line. Whatever is wrong with the model's or the texts' files is found here, before anything starts, where they are at hand.
 *
 * @module
 */

import { join, resolve } from "@std/path";
import { PretrainedCheckpoint } from "../../model/pretrained/checkpoint.ts";
import { PretrainedError } from "../../model/pretrained/error.ts";
import { openPretrainedTokenizer } from "../../model/pretrained/tokenizer.ts";
import type { Experiment, ExperimentRequest } from "../../pipeline/command.ts";
import { ConfigurationError, loadConfiguration } from "../../pipeline/config/config.ts";
import { messageOf } from "../../pipeline/errors.ts";
import type { JsonValue } from "../../pipeline/stage.ts";
import { textFingerprint } from "../calibrate/texts.ts";
import { knownFiles } from "../download/sources/content_digest.ts";
import { SourceError } from "../download/sources/error.ts";
import { readInputHashes, writeInputHashes } from "../experiment/input_hashes.ts";
import { ModelCache } from "../pretrained/cache.ts";
import { HUB_NAME } from "../pretrained/fetch.ts";
import { isFolder, noFolder } from "../pretrained/locate.ts";
import { describeFiles, filesDigest, modelFileNames } from "../pretrained/model_files.ts";
import {
  type ModelWidths,
  problemsOf,
  type SparseExpansionConfiguration,
  sparseExpansionSchema,
} from "./config.ts";
import { sparseExpansion, type SparseExpansionNodes } from "./experiment.ts";
import { STAGES } from "./parts.ts";

/** From this size on a user is told that files are hashed. */
const LARGE = 2 ** 30;

/** The nodes of a configuration, and where it came from. */
export type LoadedSparseExpansion = Experiment & SparseExpansionNodes;

/**
 * Loads the configuration and wires its nodes. `--seed N` is the key `seed`, said last.
 *
 * @throws {ConfigurationError} With every problem of the configuration; nothing has been started then.
 */
export async function loadSparseExpansion(
  request: ExperimentRequest,
): Promise<LoadedSparseExpansion> {
  const { value } = await loadConfiguration(request.config, {
    schema: sparseExpansionSchema,
    set: request.seed === undefined ? request.set : [...request.set, `seed=${request.seed}`],
  });
  return await planSparseExpansion(value, request);
}

/**
 * Wires the nodes of a configuration that its schema has accepted, after its files have been looked at.
 *
 * @throws {ConfigurationError} If a file can't be used, or the options do not fit the model.
 */
export async function planSparseExpansion(
  value: SparseExpansionConfiguration,
  request: ExperimentRequest,
): Promise<LoadedSparseExpansion> {
  if (request.storeDir !== undefined) await readInputHashes(request.storeDir);
  const refused = (path: string, error: unknown) =>
    new ConfigurationError([{ place: request.config, path, message: messageOf(error) }], {
      cause: error,
    });
  const found = await examineModel(value, request).catch((error) => {
    if (error instanceof PretrainedError || error instanceof SourceError) {
      throw refused("model.name", error);
    }
    throw error;
  });
  const problems = found.widths ? problemsOf(value, found.widths) : [];
  if (problems.length > 0) {
    throw new ConfigurationError(
      problems.map(({ path, message }) => ({
        place: request.config,
        path: path.join("."),
        message,
      })),
    );
  }
  const configuration = { ...value };
  for (const role of ["calibration", "evaluation"] as const) {
    const { files } = value[role];
    if (!files) continue;
    const options = { verify: request.verifyInputs ?? false, warn: request.warn };
    const fingerprint = await textFingerprint(files, role, options).catch((error) => {
      throw refused(`${role}.files.glob`, error);
    });
    Object.assign(configuration, { [role]: { ...value[role], files: { ...files, fingerprint } } });
  }
  const { fingerprint } = found;
  return {
    ...sparseExpansion(configuration, { stages: STAGES, fingerprint }),
    // Optional keys that are undefined are no JSON.
    configuration: JSON.parse(JSON.stringify(configuration)) as JsonValue,
    configPath: request.config,
    remember: writeInputHashes,
  };
}

/** Facts of a model that planning found. */
interface Examined {
  /** Of a folder. */
  readonly fingerprint?: string;
  /** Where the model is at hand. */
  readonly widths?: ModelWidths;
}

/** Looks at a model's files as far as they are at hand: nothing is fetched. */
async function examineModel(
  { model }: SparseExpansionConfiguration,
  { verifyInputs = false, warn }: ExperimentRequest,
): Promise<Examined> {
  const { name, revision = "main", made } = model;
  if (made) {
    const { d_model, d_ffn, train } = made;
    return { widths: { d_model, d_ffn, positions: train.sequence_length } };
  }
  if (name === undefined) return {};
  if (await isFolder(name)) {
    if (model.revision !== undefined) {
      throw new SourceError(`${name} is a folder, which has no revision ${model.revision}`);
    }
    const folder = resolve(name);
    const widths = await examineFolder(folder);
    const names = await modelFileNames(folder);
    const unread = names.map((path) => join(folder, path))
      .filter((path) => verifyInputs || !knownFiles().has(path));
    const sizes = await Promise.all(unread.map((path) => Deno.stat(path)));
    const bytes = sizes.reduce((sum, { size }) => sum + size, 0);
    if (bytes > LARGE) warn?.(`Hashing ${(bytes / 1e9).toFixed(1)} GB of ${name} …`);
    const files = await describeFiles(folder, names, { verify: verifyInputs });
    return { widths, fingerprint: filesDigest(files) };
  }
  if (!HUB_NAME.test(name)) throw noFolder(name, "model.name");
  const cache = new ModelCache(name);
  const commit = await cache.commitOf(revision);
  if (commit === undefined || !await cache.isComplete(commit)) return {};
  return { widths: await examineFolder(cache.snapshot(commit)) };
}

/** Opens configuration, headers and tokenizer. */
async function examineFolder(folder: string): Promise<ModelWidths> {
  using checkpoint = await PretrainedCheckpoint.open(folder);
  const { d_model, leading_dense, vocab_size } = checkpoint.architecture.config;
  await openPretrainedTokenizer(folder, vocab_size);
  return { d_model, d_ffn: leading_dense.d_ffn, positions: checkpoint.positions };
}
