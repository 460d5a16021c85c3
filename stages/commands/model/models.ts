/**
 * The model that a command uses: one that was trained here, or a published one in a folder or on the hub.
 *
 * @module
 */

import type { Gpu } from "../../../model/gpu/device.ts";
import { InferenceModel, type WeightSource } from "../../../model/inference/model.ts";
import { openInferenceModel } from "../../../model/inference/open.ts";
import { PretrainedCheckpoint } from "../../../model/pretrained/checkpoint.ts";
import { PretrainedError } from "../../../model/pretrained/error.ts";
import { openPretrainedTokenizer } from "../../../model/pretrained/tokenizer.ts";
import { ExpandedCheckpoint } from "../../../model/sparse/files/checkpoint.ts";
import type { MlpStorage } from "../../../model/sparse/storage.ts";
import type { Tokenizer } from "../../../model/text/tokenizer.ts";
import type { Architecture } from "../../../model/trunk/architecture.ts";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import { SourceError } from "../../download/sources/error.ts";
import { type LocatedModel, locateModel } from "../../pretrained/locate.ts";
import { type CheckpointKind, openCheckpoint, type OpenedCheckpoint } from "./checkpoints.ts";

/** Which model to use: exactly one of `checkpoint` and `model`. */
export interface ModelChoice {
  /** A model that was trained here; see `findCheckpoint`. */
  readonly checkpoint?: string;
  readonly which?: CheckpointKind;
  /** A published model: a folder with its files, or its name on the hub. */
  readonly model?: string;
  /** Branch, tag or commit on the hub. */
  readonly revision?: string;
  /** Folder of the store. */
  readonly storeDir: string;
  /** Told what is fetched. */
  warn?(line: string): void;
}

/** A model on a device. */
export interface LoadedModel extends Disposable {
  readonly model: InferenceModel;
  /** Storage and work of the experts, of a model that was expanded. */
  readonly expansion?: MlpStorage;
}

/** A model whose configuration and tokenizer have been read. */
export interface OpenedModel extends Disposable {
  /** Name in messages and results. */
  readonly name: string;
  readonly architecture: Architecture;
  readonly tokenizer: Tokenizer;
  /** Tokens of the longest sequence; infinite where nothing limits it. */
  readonly longest: number;
  /** The checkpoint, of a model that was trained here. */
  readonly checkpoint?: OpenedCheckpoint;
  /** The commit, of a model of the hub. */
  readonly revision?: string;
  /** Puts the weights on a device. @throws {UserError} If they can't be read. */
  load(gpu: Gpu, precision: "f32" | "mixed"): Promise<LoadedModel>;
}

/**
 * Opens the model that a user chose.
 *
 * @throws {UserError} If there is none, or its files are wrong or not supported: in one line.
 */
export async function openModel(choice: ModelChoice): Promise<OpenedModel> {
  const { checkpoint: name, model } = choice;
  if ((name === undefined) === (model === undefined)) {
    throw new UserError("Expected either --checkpoint or --model, to say which model to use.");
  }
  if (model !== undefined) return await openPublished(model, choice);
  if (choice.revision !== undefined) {
    throw new UserError(`--revision is ${choice.revision}, which only --model of the hub has.`);
  }
  const checkpoint = await openCheckpoint(name!, choice);
  const { architecture, tokenizer } = checkpoint;
  return {
    name: checkpoint.name,
    architecture,
    tokenizer,
    longest: architecture.longest,
    checkpoint,
    load: async (gpu, precision) =>
      alone(await openInferenceModel(gpu, checkpoint.model, { precision })),
    [Symbol.dispose]() {},
  };
}

/** A model that is nothing besides. */
function alone(model: InferenceModel): LoadedModel {
  return { model, [Symbol.dispose]: () => model[Symbol.dispose]() };
}

/** Opens a published model, or an expanded one. */
async function openPublished(model: string, choice: ModelChoice): Promise<OpenedModel> {
  if (choice.which !== undefined) {
    throw new UserError(`--which is ${choice.which}, which only --checkpoint has.`);
  }
  const { folder, commit } = await folderOf(model, choice);
  if (await explained(() => ExpandedCheckpoint.isIn(folder))) {
    return await openExpanded(model, folder);
  }
  const published = await explained(() => PretrainedCheckpoint.open(folder));
  try {
    const { architecture, positions = Infinity } = published;
    const { vocab_size } = architecture.config;
    const tokenizer = await explained(() => openPretrainedTokenizer(folder, vocab_size));
    const source: WeightSource = published;
    return {
      name: model,
      architecture,
      tokenizer,
      longest: positions,
      ...(commit === undefined ? {} : { revision: commit }),
      load: (gpu, precision) =>
        explained(async () => alone(await InferenceModel.filled(gpu, source, { precision }))),
      [Symbol.dispose]: () => published[Symbol.dispose](),
    };
  } catch (error) {
    published[Symbol.dispose]();
    throw error;
  }
}

/** Opens a model that was expanded into a folder. */
async function openExpanded(name: string, folder: string): Promise<OpenedModel> {
  const checkpoint = await explained(() => ExpandedCheckpoint.open(folder));
  try {
    const { architecture, positions = Infinity } = checkpoint;
    const { vocab_size } = architecture.config;
    return {
      name,
      architecture,
      tokenizer: await explained(() => openPretrainedTokenizer(folder, vocab_size)),
      longest: positions,
      async load(gpu, precision) {
        if (precision !== "f32") {
          throw new UserError(
            `--precision is ${precision}, but --model ${name} is expanded; expected f32.`,
          );
        }
        const loaded = await explained(() => checkpoint.load(gpu));
        const { model, expanded: { storage: expansion } } = loaded;
        return { model, expansion, [Symbol.dispose]: () => loaded[Symbol.dispose]() };
      },
      [Symbol.dispose]: () => checkpoint[Symbol.dispose](),
    };
  } catch (error) {
    checkpoint[Symbol.dispose]();
    throw error;
  }
}

/** Turns what is wrong with files into the user's error. */
async function explained<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof PretrainedError)) throw error;
    throw new UserError(`${error.message}.`, { cause: error });
  }
}

/** The folder of a published model's files, and its commit if it is of the hub. */
async function folderOf(
  model: string,
  { revision, warn = () => {} }: ModelChoice,
): Promise<LocatedModel> {
  try {
    const settings = { model: "--model", revision: "--revision" };
    return await locateModel({ model, revision, warn, settings });
  } catch (error) {
    if (!(error instanceof SourceError)) throw error;
    throw new UserError(`${messageOf(error)}.`, { cause: error });
  }
}
