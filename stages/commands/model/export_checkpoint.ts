/**
 * `export-checkpoint`: a node's checkpoint as a plain folder.
 *
 * @module
 */

import { dirname, join, resolve } from "@std/path";
import { explain, systemCode, UserError } from "../../../pipeline/errors.ts";
import { filesOf, findNode, NODE_FILE } from "./checkpoints.ts";

/** An exported checkpoint. */
export interface ExportedCheckpoint {
  readonly checkpoint: string;
  readonly key: string;
  readonly folder: string;
  /** Paths inside the folder. */
  readonly files: readonly string[];
}

/**
 * Copies the checkpoint of a node: models, vocabulary, the state to resume training, and `node.json`, which names the node.
 * The folder appears whole or not at all.
 *
 * @throws {UserError} If there is no such node, or the folder is there already.
 */
export async function exportCheckpoint(
  options: { checkpoint: string; out: string; storeDir: string },
): Promise<ExportedCheckpoint> {
  const record = await findNode(options.checkpoint, options.storeDir);
  const folder = resolve(options.out);
  if (await exists(folder)) {
    throw new UserError(`${folder} is there already; give --out a name that is free.`);
  }
  const temporary = `${folder}.${Deno.pid}.partial`;
  const files = filesOf(record, { output: "checkpoint", storeDir: options.storeDir });
  try {
    for (const { path, file } of files) {
      const target = join(temporary, path);
      await Deno.mkdir(dirname(target), { recursive: true });
      // Not Deno.copyFile, which makes the copy read-only as objects are.
      using from = await Deno.open(file);
      using to = await Deno.open(target, { write: true, create: true, truncate: true });
      await from.readable.pipeTo(to.writable, { preventClose: true });
      await to.sync();
    }
    const { node, key, labels, components, provenance } = record;
    await Deno.writeTextFile(
      join(temporary, NODE_FILE),
      `${JSON.stringify({ node, key, labels, params: components.params, provenance }, null, 2)}\n`,
    );
    await Deno.rename(temporary, folder);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    if (error instanceof Deno.errors.NotFound) {
      throw new UserError(
        `A file of the checkpoint of ${record.node} is missing from the store; \`verify\` says more.`,
        { exitCode: 1, cause: error },
      );
    }
    if (systemCode(error) === undefined) throw error;
    throw new UserError(explain(error, `writing ${folder}`), { exitCode: 1, cause: error });
  }
  return {
    checkpoint: record.node,
    key: record.key,
    folder,
    files: [...files.map(({ path }) => path), NODE_FILE].sort(),
  };
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
