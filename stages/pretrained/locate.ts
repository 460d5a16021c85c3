/**
 * Finds a published model: a folder with its files, or a name of the hub.
 *
 * @module
 */

import { resolve } from "@std/path";
import { PretrainedError } from "../../model/pretrained/error.ts";
import { message } from "../download/sources/document.ts";
import { SourceError } from "../download/sources/error.ts";
import { type FetchedModel, fetchModel, type FetchOptions, HUB_NAME } from "./fetch.ts";

/** A model to find. */
export interface LocateOptions extends Omit<FetchOptions, "name"> {
  /** A folder, or `ORG/NAME`. */
  readonly model: string;
  /** Names of the settings that messages give. */
  readonly settings: { readonly model: string; readonly revision: string };
}

/** Where a model's files are. */
export interface LocatedModel extends Pick<FetchedModel, "folder"> {
  /** The commit, of a model of the hub. */
  readonly commit?: string;
}

/**
 * The folder of a published model's files; a model of the hub is fetched if the cache lacks it.
 *
 * @throws {SourceError} Of one line, if there is no such model.
 */
export async function locateModel(options: LocateOptions): Promise<LocatedModel> {
  const { model, settings, revision, ...rest } = options;
  const path = resolve(model);
  if (await isFolder(path)) {
    if (revision === undefined) return { folder: path };
    throw new SourceError(
      `${settings.revision} is ${revision}, but ${settings.model} ${model} is a folder`,
    );
  }
  if (!HUB_NAME.test(model)) throw noFolder(model, settings.model);
  try {
    return await fetchModel({ ...rest, name: model, revision });
  } catch (error) {
    // An interruption and a fault in the code keep their own message.
    const wrong = error instanceof PretrainedError || (error as { exitCode?: unknown }).exitCode;
    if (!wrong) throw error;
    throw new SourceError(
      `${settings.model} ${model} is no folder, and on the hub: ${message(error)}`,
      { cause: error },
    );
  }
}

/** Says that a model is neither a folder nor a name of the hub. */
export function noFolder(model: string, setting: string): SourceError {
  return new SourceError(
    `${setting} is ${model}: there is no such folder; expected one, or a name of the hub such as EleutherAI/pythia-70m-deduped`,
  );
}

/** Whether a path leads to a folder. */
export async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (error) {
    const { NotFound, NotADirectory } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotADirectory) return false;
    throw error;
  }
}
