/**
 * The operations that a place for a remote store has: a folder, an S3 bucket, a web server.
 *
 * Paths are relative, with `/`, and made of validated digests alone: `objects/ab/<sha256>`, `nodes/ab/<key>.json`.
 *
 * @module
 */

/** Where received bytes go. */
export interface Sink {
  /** Bytes so far; a transfer that broke off goes on from here where the server can. */
  readonly length: number;
  /** Takes the next bytes. */
  write(chunk: Uint8Array): Promise<void>;
  /** Called when the bytes that come next are of another answer than those so far. */
  resume(): void;
  /** Forgets all bytes. */
  reset(): Promise<void>;
}

/** Bytes to send. */
export type Source =
  | { readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly path: string; readonly size: number; readonly sha256: string };

/** Options of a transfer. */
export interface TransferOptions {
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Called with the number of bytes that were sent. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** A place for a remote store. Failures are `RemoteError`s, or those of this machine's disk. */
export interface Backend {
  /** The address, without credentials. */
  readonly name: string;
  /** Bytes of a file, or `undefined` when it isn't there. */
  size(path: string, options: TransferOptions): Promise<number | undefined>;
  /** Gives the bytes of a file to a sink; `false` when it isn't there. */
  read(path: string, sink: Sink, options: TransferOptions): Promise<boolean>;
  /** Writes a whole file, or nothing that a reader takes for it. */
  write(path: string, source: Source, options: TransferOptions): Promise<void>;
  /** Called before the first file is written. */
  prepare?(): Promise<void>;
}
