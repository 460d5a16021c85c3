/**
 * `export-model`: a trained model as a folder that other programs load.
 *
 * @module
 */

import { dirname, join, resolve } from "@std/path";
import { writeTransformers } from "../../../model/export/transformers.ts";
import { parseVocabulary } from "../../../model/text/tokenizer.ts";
import { explain, messageOf, systemCode, UserError } from "../../../pipeline/errors.ts";
import { type CheckpointKind, openCheckpoint, trainedLength } from "../model/checkpoints.ts";
import { CARD_FILE, renderCard } from "./card.ts";
import { gatherProvenance, PROVENANCE_FILE } from "./provenance.ts";

/** Options of {@linkcode exportModel}. */
export interface ExportModelOptions {
  /** See `findCheckpoint`. */
  readonly checkpoint: string;
  readonly which?: CheckpointKind;
  /** Folder to make; it may be there and empty. */
  readonly out: string;
  /** Identifier of the weights' licence, as the hub writes it. */
  readonly license: string;
  /** Folder of the store. */
  readonly storeDir: string;
}

/** An exported model. */
export interface ExportedModel {
  /** Name of the checkpoint. */
  readonly checkpoint: string;
  readonly which: CheckpointKind;
  readonly folder: string;
  /** Names in the folder. */
  readonly files: readonly string[];
}

/**
 * Writes the folder, with a card and `provenance.json`. It appears whole or not at all.
 *
 * @throws {UserError} In one line, if there is no such checkpoint, it can't be exported, or the folder has other files.
 */
export async function exportModel(options: ExportModelOptions): Promise<ExportedModel> {
  const { which = "last", license, storeDir } = options;
  if (!/^[a-z0-9][a-z0-9.+-]*$/.test(license)) {
    throw new UserError(
      `--license is ${
        JSON.stringify(license)
      }; expected an identifier of the hub, such as agpl-3.0.`,
    );
  }
  const folder = resolve(options.out);
  await requireFree(folder);
  const checkpoint = await openCheckpoint(options.checkpoint, options);
  const provenance = await gatherProvenance(checkpoint, { which, storeDir });
  const temporary = `${folder}.${Deno.pid}.partial`;
  try {
    await Deno.mkdir(dirname(folder), { recursive: true });
    await Deno.mkdir(temporary);
    const files = await writeTransformers(temporary, {
      model: checkpoint.model,
      vocabulary: parseVocabulary(JSON.parse(await Deno.readTextFile(checkpoint.vocabulary))),
      trained: trainedLength(checkpoint),
    });
    const texts = {
      [PROVENANCE_FILE]: `${JSON.stringify(provenance, null, 2)}\n`,
      [CARD_FILE]: renderCard(provenance, { license }),
    };
    for (const [name, text] of Object.entries(texts)) {
      await Deno.writeTextFile(join(temporary, name), text);
    }
    await Deno.rename(temporary, folder);
    return {
      checkpoint: checkpoint.name,
      which,
      folder,
      files: [...files, ...Object.keys(texts)].sort(),
    };
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    if (systemCode(error) !== undefined) {
      throw new UserError(explain(error, `writing ${folder}`), { exitCode: 1, cause: error });
    }
    throw new UserError(
      `The checkpoint ${checkpoint.name} can't be exported: ${messageOf(error)}.`,
      { cause: error },
    );
  }
}

/** Refuses a folder with files, and a path that is no folder. */
async function requireFree(folder: string): Promise<void> {
  let names: string[];
  try {
    names = (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw new UserError(`--out ${folder} can't be a folder: ${messageOf(error)}.`, {
      cause: error,
    });
  }
  if (names.length === 0) return;
  const shown = names.length > 3 ? `${names.slice(0, 3).join(", ")}, …` : names.join(", ");
  throw new UserError(
    `--out ${folder} has files already (${shown}); expected an empty folder or a name that is free.`,
  );
}
