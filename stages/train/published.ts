/**
 * A published model as the start of a training. Trainings that start otherwise do not load this module.
 *
 * @module
 */

import { PretrainedCheckpoint } from "../../model/pretrained/checkpoint.ts";
import { openPretrainedTokenizer } from "../../model/pretrained/tokenizer.ts";
import type { InitialSource } from "../../model/checkpoint/initial_model.ts";
import type { Tokenizer } from "../../model/text/tokenizer.ts";
import type { NodeOutput } from "../../pipeline/stage.ts";
import { modelFolder } from "../pretrained/model_files.ts";
import type { OpenedStart, StartFiles } from "./initial.ts";

/** The weights of an opened checkpoint as a source. */
export function publishedSource(name: string, checkpoint: PretrainedCheckpoint): InitialSource {
  const { architecture, parameters } = checkpoint;
  return {
    name,
    config: architecture.config,
    tensors: new Map(parameters.map(({ name, shape }) => [name, shape])),
    read: (names, take) =>
      checkpoint.fill(
        { architecture, writeState: (_, name, values) => take(name, values) },
        (name) => names.has(name),
      ),
  };
}

/**
 * Finds the model of a node `pretrained`, whose files are hashed again, and compares its ids with a dataset's.
 *
 * @param options `into`: a folder for links. `tokenizer`: that of the dataset.
 * @throws {Error} If its files changed, or an id stands for other bytes.
 */
export async function findPublished(
  node: NodeOutput,
  options: { readonly into: string; readonly tokenizer: Tokenizer },
): Promise<StartFiles> {
  const { about, folder } = await modelFolder(node, options.into);
  const own = await openPretrainedTokenizer(folder, about.vocab_size);
  assertSameIds(about.name, own, options.tokenizer);
  return { published: true, path: folder, name: about.name };
}

/** Opens the weights of a published model; disposing closes its files. */
export async function openPublished({ path, name }: StartFiles): Promise<OpenedStart> {
  const checkpoint = await PretrainedCheckpoint.open(path);
  return {
    source: publishedSource(name, checkpoint),
    [Symbol.dispose]: () => checkpoint[Symbol.dispose](),
  };
}

/** Tokenizers as far as they are compared. */
type Ids = Pick<Tokenizer, "vocab_size" | "endoftext" | "decodeBytes">;

/**
 * Compares the ids of a published model with those of a dataset. The dataset may have fewer: published models round their tables up.
 *
 * @throws {Error} At the first id that stands for other bytes.
 */
export function assertSameIds(name: string, published: Ids, dataset: Ids): void {
  for (let id = 0; id < dataset.vocab_size; id++) {
    if (id === dataset.endoftext) continue;
    const [own, wanted] = [published, dataset].map((ids) =>
      id < ids.vocab_size ? ids.decodeBytes([id]).join() : "nothing"
    );
    if (own === wanted) continue;
    const shown = (ids: Ids) =>
      id < ids.vocab_size
        ? JSON.stringify(new TextDecoder().decode(ids.decodeBytes([id])))
        : "nothing";
    throw new Error(
      `train.initial.checkpoint ${name} speaks another vocabulary: its token ${id} is ${
        shown(published)
      }, that of the tokenizer section ${shown(dataset)}`,
    );
  }
}
