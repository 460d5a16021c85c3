/**
 * Errors of remote stores. A message is one line that names the remote and the path, and never a credential.
 *
 * @module
 */

import { EXIT, UserError } from "../errors.ts";

/**
 * The cause of a {@linkcode RemoteError}: `unavailable` when a server can't be reached, fails or is too slow; `denied`
 * when it refuses; `damaged` when it gave other bytes than were promised.
 */
export type RemoteFault = "unavailable" | "denied" | "damaged";

/** A remote store that doesn't give or take. */
export class RemoteError extends UserError {
  override readonly name: string = "RemoteError";
  /** The cause. */
  readonly fault: RemoteFault;

  /** Exits with 1 unless another code is given. */
  constructor(message: string, options: { fault: RemoteFault; exitCode?: number }) {
    super(message, { exitCode: options.exitCode ?? EXIT.failed });
    this.fault = options.fault;
  }
}

/** A failure that the next attempt may not meet. */
export class TransientError extends Error {
  override readonly name: string = "TransientError";
  /** Milliseconds that the server asks to wait before the next attempt. */
  readonly after: number | undefined;

  /** The message goes on a sentence: `answered with status 503`. */
  constructor(message: string, after?: number) {
    super(message);
    this.after = after;
  }
}

/** A failure of this machine while bytes were received or sent, such as a full disk. */
export class LocalError extends Error {
  override readonly name: string = "LocalError";

  /** `cause` is the failure. */
  constructor(cause: unknown) {
    super("local", { cause });
  }
}
