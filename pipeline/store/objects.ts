/**
 * Content-addressed files: `objects/ab/<sha256>`, read-only, each with a small JSON manifest that describes it
 * and names the node that made it.
 *
 * @module
 */

import { dirname, join } from "@std/path";
import {
  hashFile,
  removeThrough,
  renameInto,
  statOrUndefined,
  syncFolder,
  writeAtomic,
} from "./files.ts";
import { writeTemporary } from "./files.ts";
import type { JsonValue } from "../stage.ts";

/** One object. */
export interface ObjectRef {
  /** SHA-256 of the content, which is its name. */
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
}

/** Who made an object; written beside it. */
export interface ObjectOrigin {
  /** Name of the node. */
  readonly node: string;
  /** Key of the node. */
  readonly key: string;
  /** Name of the output. */
  readonly output: string;
  /** Path inside a directory output. */
  readonly path?: string;
}

/** An object's file as the disk describes it, without reading it. */
export interface ObjectStat {
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since 1970; changes when somebody writes into the object. */
  readonly mtime: number;
}

/** The objects of a store. */
export class ObjectStore {
  /** The folder. */
  readonly dir: string;
  readonly #temporary: string;

  /** `temporary` is a folder on the same disk. */
  constructor(dir: string, temporary: string) {
    this.dir = dir;
    this.#temporary = temporary;
  }

  /** Path of an object, there or not. */
  path(sha256: string): string {
    return join(this.dir, sha256.slice(0, 2), sha256);
  }

  /** Path of the manifest beside an object. */
  manifestPath(sha256: string): string {
    return `${this.path(sha256)}.json`;
  }

  /**
   * Moves a file into the store. An object that is there already is replaced, so that a damaged one heals.
   * Returns the object after it is safe on disk.
   */
  async put(path: string, origin: ObjectOrigin): Promise<ObjectRef & ObjectStat> {
    {
      // Windows syncs only writable files; elsewhere the file may be read-only, like a second link to an object.
      using file = await Deno.open(path, { read: true, write: Deno.build.os === "windows" });
      await file.sync();
    }
    const { sha256, size } = await hashFile(path);
    if (Deno.build.os !== "windows") await Deno.chmod(path, 0o444);
    const target = this.path(sha256);
    const { mtime } = await Deno.stat(path);
    await this.#describe({ sha256, size }, origin);
    await renameInto(path, target);
    await syncFolder(dirname(target));
    return { sha256, size, mtime: mtime?.getTime() ?? 0 };
  }

  /** Puts a text into the store as an object. */
  async putText(text: string, origin: ObjectOrigin): Promise<ObjectRef & ObjectStat> {
    return await this.put(await writeTemporary(this.#temporary, text), origin);
  }

  async #describe(object: ObjectRef, origin: ObjectOrigin): Promise<void> {
    const manifest: JsonValue = { format: 1, ...object, ...origin };
    await writeAtomic(
      this.manifestPath(object.sha256),
      `${JSON.stringify(manifest)}\n`,
      { temporary: this.#temporary, sync: false },
    );
  }

  /** Size and time of an object, or `undefined` when it is missing. */
  async stat(sha256: string): Promise<ObjectStat | undefined> {
    const info = await statOrUndefined(this.path(sha256));
    if (info === undefined || !info.isFile) return undefined;
    return { size: info.size, mtime: info.mtime?.getTime() ?? 0 };
  }

  /** Whether an object is there and every byte is what its name says. */
  async verify(object: ObjectRef): Promise<boolean> {
    const stat = await this.stat(object.sha256);
    if (stat === undefined || stat.size !== object.size) return false;
    return (await hashFile(this.path(object.sha256))).sha256 === object.sha256;
  }

  /** Removes an object and its manifest. */
  async remove(sha256: string): Promise<void> {
    await removeThrough(this.#temporary, this.path(sha256));
    await removeThrough(this.#temporary, this.manifestPath(sha256));
  }

  /** Names of all objects, sorted, with their sizes. */
  async list(): Promise<ObjectRef[]> {
    const objects: ObjectRef[] = [];
    for (const prefix of await names(this.dir)) {
      for (const name of await names(join(this.dir, prefix))) {
        if (!/^[0-9a-f]{64}$/.test(name)) continue;
        const stat = await this.stat(name);
        if (stat !== undefined) objects.push({ sha256: name, size: stat.size });
      }
    }
    return objects;
  }
}

async function names(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder), (entry) => entry.name)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return [];
    }
    throw error;
  }
}
