/** Describes a bundle: `bundle.json`, and `SHA256SUMS` over every file. */

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { join } from "@std/path";
import { listFolder } from "./archive.ts";
import type { Pruned } from "./packages.ts";
import type { Revision } from "./tree.ts";

/** `bundle.json`. */
export interface Manifest {
  readonly format: 1;
  readonly target: string;
  readonly deno: string;
  readonly commit: string;
  /** Whether the tree differed from the commit. */
  readonly modified: boolean;
  readonly dawn: boolean;
  readonly slim: boolean;
  /** Packages with their integrity hashes in `deno.lock`. */
  readonly packages: Readonly<Record<string, string>>;
  /** Packages of which only the manifest is there. */
  readonly left_out: readonly string[];
  /** Values of `data.files.glob` for the text that is part of the bundle. */
  readonly data: readonly string[];
}

/** Puts together what `bundle.json` says. */
export async function describeBundle(
  bundle: string,
  about: {
    target: string;
    revision: Revision;
    pruned: Pruned;
    dawn: boolean;
    slim: boolean;
    globs: readonly string[];
  },
): Promise<Manifest> {
  const lock = JSON.parse(await Deno.readTextFile(join(bundle, "deno.lock"))) as {
    npm?: Record<string, { integrity?: string }>;
  };
  // In the lock file a package that has peers is named with them: `vega-lite@6.5.0_vega@6.4.0`.
  const integrity = new Map(
    Object.entries(lock.npm ?? {}).map(([id, entry]) => [
      /^(@?[^@]+@[^_]+)/.exec(id)?.[1] ?? id,
      entry.integrity ?? "none",
    ]),
  );
  return {
    format: 1,
    target: about.target,
    deno: Deno.version.deno,
    commit: about.revision.commit,
    modified: about.revision.modified,
    dawn: about.dawn,
    slim: about.slim,
    packages: Object.fromEntries(
      about.pruned.kept.map((id) => [id, integrity.get(id) ?? "not in the lock file"]),
    ),
    left_out: about.pruned.left_out,
    data: about.globs,
  };
}

/** Writes `bundle.json`, then `SHA256SUMS` as `sha256sum --check` reads it. Links have no line. */
export async function writeManifest(bundle: string, manifest: Manifest): Promise<void> {
  await Deno.writeTextFile(join(bundle, "bundle.json"), JSON.stringify(manifest, null, 2) + "\n");
  const lines: string[] = [];
  for (const { path, link } of await listFolder(bundle)) {
    if (link !== undefined) continue;
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(join(bundle, path))) hash.update(chunk);
    lines.push(`${hash.digest("hex")}  ${path}\n`);
  }
  await Deno.writeTextFile(join(bundle, "SHA256SUMS"), lines.join(""));
}
