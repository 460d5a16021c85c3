/**
 * The fingerprint of local files: a digest of their names and contents, so that changed text makes a node stale.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { contentDigest } from "./content_digest.ts";
import { findFiles, requireSeparable } from "./files.ts";

/** How to take a fingerprint. */
export interface FingerprintOptions {
  /** Reads every file, whatever is known of it. */
  readonly verify?: boolean;
  /** Called with each link that leads to no file. */
  readonly warn?: ((line: string) => void) | undefined;
}

/**
 * Digest of the names and contents of the files that a `data.files` section names: what an experiment puts into
 * `data.files.fingerprint`.
 *
 * @throws {Error} If a file can't be found or read, or the section's separator splits none of them.
 */
export async function filesFingerprint(
  section: {
    readonly glob: string;
    readonly validation?: string | undefined;
    readonly separator?: string | undefined;
  },
  options: FingerprintOptions = {},
): Promise<string> {
  const { warn } = options;
  const hash = createHash("sha256");
  const add = async (paths: readonly string[]) => {
    for (const path of paths) {
      hash.update(JSON.stringify([path, await contentDigest(path, options)]));
    }
  };
  const { glob, validation, separator } = section;
  const learned = await findFiles(glob, { warn });
  const heldOut = validation === undefined
    ? []
    : await findFiles(validation, { setting: "data.files.validation", warn });
  requireSeparable([...learned, ...heldOut], separator);
  await add(learned);
  if (validation !== undefined) {
    hash.update("validation");
    await add(heldOut);
  }
  return hash.digest("hex");
}
