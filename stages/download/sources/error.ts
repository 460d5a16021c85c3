/**
 * Failures of a source that are nobody's mistake in the code: a network, a mirror, a listing, a damaged file.
 *
 * @module
 */

/**
 * An error whose message says all there is to say, in one line: it is printed without a stack trace, because it has an
 * `exitCode`.
 */
export class SourceError extends Error {
  /** `SourceError`. */
  override readonly name: string = "SourceError";
  /** The program exits with this code: work had begun. */
  readonly exitCode = 1;
}

/** An answer of the hub whose status is no success and no reason to ask again. */
export class StatusError extends SourceError {
  /** `StatusError`. */
  override readonly name = "StatusError";
  /** Status of HTTP. */
  readonly status: number;

  /** Makes an error of an answer's status. */
  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

/** A failure that is worth another attempt, after `pause_ms` if the server asked for a pause. */
export class TransientError extends SourceError {
  /** `TransientError`. */
  override readonly name = "TransientError";
  /** Milliseconds that the server asked to wait. */
  readonly pause_ms: number | undefined;

  /** Makes an error with the pause that was asked for, if any. */
  constructor(message: string, pause_ms?: number) {
    super(message);
    this.pause_ms = pause_ms;
  }
}

/** Text of others in a message: one line, printable, short, in quotes. */
export function quote(text: string, longest = 120): string {
  const line = text.toWellFormed().replaceAll(/[\p{C}\p{Z}\s]+/gu, " ").trim();
  const characters = [...line];
  const short = characters.length > longest
    ? `${characters.slice(0, longest - 1).join("")}…`
    : line;
  return JSON.stringify(short);
}
