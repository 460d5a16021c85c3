/**
 * The error of a job that published nothing.
 *
 * @module
 */

/** A job that did not publish. Its message names the log. */
export class JobError extends Error {
  override readonly name: string = "JobError";
  /** The system's code of the error, if it was one. */
  readonly code: string | undefined;
  /** Whether the job refused, so that another attempt would too. */
  readonly refused: boolean;

  /** Makes the error; `trace` is where it arose in the job. */
  constructor(message: string, options: { code?: string; trace?: string; refused?: boolean } = {}) {
    super(message);
    this.code = options.code;
    this.refused = options.refused ?? false;
    if (options.trace !== undefined) this.stack = options.trace;
  }
}
