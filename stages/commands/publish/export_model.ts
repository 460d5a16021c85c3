/**
 * `export-model`: a trained model as a folder that other programs load.
 *
 * @module
 */

import { join, resolve } from "@std/path";
import { writeTransformers } from "../../../model/export/transformers.ts";
import { parseVocabulary } from "../../../model/text/tokenizer.ts";
import { explain, messageOf, systemCode, UserError } from "../../../pipeline/errors.ts";
import { makeFolder, requireFree } from "../free_folder.ts";
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
  try {
    const files = await makeFolder(folder, async (temporary) => {
      const names = await writeTransformers(temporary, {
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
      return [...names, ...Object.keys(texts)].sort();
    });
    return { checkpoint: checkpoint.name, which, folder, files };
  } catch (error) {
    if (systemCode(error) !== undefined) {
      throw new UserError(explain(error, `writing ${folder}`), { exitCode: 1, cause: error });
    }
    throw new UserError(
      `The checkpoint ${checkpoint.name} can't be exported: ${messageOf(error)}.`,
      { cause: error },
    );
  }
}
