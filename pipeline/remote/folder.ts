/**
 * A remote store in a folder, such as one of a shared disk.
 *
 * @module
 */

import { dirname, join } from "@std/path";
import { explain, isDiskError, systemCode } from "../errors.ts";
import type { RemoteAddress } from "./address.ts";
import type { Backend, Sink, Source, TransferOptions } from "./backend.ts";
import { RemoteError } from "./error.ts";
import { remove, renameInto, statOrUndefined, syncFolder, writeTemporary } from "../store/files.ts";
import { MARKER } from "../store/folder.ts";

const CHUNK_BYTES = 1 << 20;
/** An unfinished file that is older was left by a killed process. */
const LEFTOVER_MS = 24 * 3600 * 1000;

/** Files below a folder, each written under another name and renamed. */
export class FolderBackend implements Backend {
  readonly name: string;
  readonly #folder: string;

  constructor(address: Extract<RemoteAddress, { kind: "file" }>) {
    this.name = address.name;
    this.#folder = address.folder;
  }

  get #temporary(): string {
    return join(this.#folder, "tmp");
  }

  /** Refuses a run's own store, whose lock this is no holder of; removes what killed processes left. */
  async prepare(): Promise<void> {
    if (await statOrUndefined(join(this.#folder, MARKER)) !== undefined) {
      throw new RemoteError(
        `${this.name} is a store that runs write to; expected a folder of its own to push to.`,
        { fault: "denied", exitCode: 2 },
      );
    }
    await this.#local("writing to it", async () => {
      await Deno.mkdir(this.#temporary, { recursive: true });
      for await (const { name } of Deno.readDir(this.#temporary)) {
        const path = join(this.#temporary, name);
        const made = (await statOrUndefined(path))?.mtime?.getTime() ?? Date.now();
        if (Date.now() - made > LEFTOVER_MS) await remove(path);
      }
    });
  }

  async size(path: string, _options: TransferOptions): Promise<number | undefined> {
    const stat = await this.#local(path, () => statOrUndefined(join(this.#folder, path)));
    if (stat?.isFile) return stat.size;
    await this.#requireFolder();
    return undefined;
  }

  async read(path: string, sink: Sink, { signal }: TransferOptions): Promise<boolean> {
    let file: Deno.FsFile;
    try {
      file = await Deno.open(join(this.#folder, path));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw this.#explain(error, path);
      await this.#requireFolder();
      return false;
    }
    using _ = file;
    await sink.reset();
    const chunk = new Uint8Array(CHUNK_BYTES);
    for (;;) {
      signal.throwIfAborted();
      const n = await this.#local(path, () => file.read(chunk));
      if (n === null) return true;
      await sink.write(chunk.subarray(0, n));
    }
  }

  async write(path: string, source: Source, { signal, onBytes }: TransferOptions): Promise<void> {
    await this.#local(path, async () => {
      const target = join(this.#folder, path);
      const from = "bytes" in source
        ? await writeTemporary(this.#temporary, source.bytes)
        : await this.#copy(source.path, { signal, onBytes });
      try {
        if (Deno.build.os !== "windows") await Deno.chmod(from, 0o444);
        await renameInto(from, target);
      } catch (error) {
        await remove(from);
        throw error;
      }
      await syncFolder(dirname(target));
    });
  }

  async #copy(from: string, { signal, onBytes }: TransferOptions): Promise<string> {
    const path = join(this.#temporary, `w-${crypto.randomUUID()}`);
    try {
      using source = await Deno.open(from);
      using target = await Deno.open(path, { write: true, createNew: true });
      const chunk = new Uint8Array(CHUNK_BYTES);
      for (let n = await source.read(chunk); n !== null; n = await source.read(chunk)) {
        signal.throwIfAborted();
        for (let at = 0; at < n;) at += await target.write(chunk.subarray(at, n));
        onBytes?.(n);
      }
      await target.sync();
      return path;
    } catch (error) {
      await remove(path);
      throw error;
    }
  }

  /** A disk that isn't mounted must not look like a remote that has nothing. */
  async #requireFolder(): Promise<void> {
    const stat = await this.#local("looking at it", () => statOrUndefined(this.#folder));
    if (stat?.isDirectory) return;
    throw new RemoteError(
      `${this.name}: there is no such folder; \`push\` makes it, or its disk is not mounted.`,
      { fault: "unavailable" },
    );
  }

  async #local<T>(path: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.#explain(error, path);
    }
  }

  #explain(error: unknown, path: string): unknown {
    if (systemCode(error) === undefined && !(error instanceof Deno.errors.PermissionDenied)) {
      return error;
    }
    const code = systemCode(error);
    const fault = code === "EACCES" || code === "EPERM" ? "denied" : "unavailable";
    // The remote's disk is not the store's: a full one must not stop a run.
    const text = isDiskError(error) || fault === "denied"
      ? explain(error).replace(/ \(.*\)\.$/, ".").replace(/\.$/, "")
      : `the folder can't be used (${code})`;
    return new RemoteError(`${this.name}: ${text}: ${path}.`, { fault });
  }
}
