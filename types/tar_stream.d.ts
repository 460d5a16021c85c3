/** Declarations for the parts of `tar-stream` that the project uses. */

import type { Writable } from "node:stream";

/** The head of one entry. */
export interface Headers {
  /** Path in the archive, with `/`. */
  readonly name: string;
  /** Bytes that follow. */
  readonly size?: number;
  /** Permissions. */
  readonly mode?: number;
  /** Time of the last change. */
  readonly mtime?: Date;
  /** Its type; a file unless given. */
  readonly type?: "file" | "directory" | "symlink" | "link";
  /** Where a link points. */
  readonly linkname?: string | null;
}

/** An archive that is being written: entries in, bytes out. */
export interface Pack extends AsyncIterable<Uint8Array> {
  /** Starts an entry, whose bytes are written to what is given back. */
  entry(headers: Headers): Writable;
  /** Ends the archive. */
  finalize(): void;
  /** Gives up; whoever reads fails with the error. */
  destroy(error?: Error): void;
}

/** A new archive. */
export function pack(): Pack;
