/**
 * Errors that are the user's to mend, and one clear line for every other.
 *
 * @module
 */

/** Exit codes of the command line. */
export const EXIT = {
  /** Everything was done. */
  ok: 0,
  /** Something failed while work was done. */
  failed: 1,
  /** Nothing was started: bad arguments, a bad configuration, a store that is held. */
  usage: 2,
  /** Interrupted, as shells say it (128 + SIGINT). */
  interrupted: 130,
} as const;

/**
 * An error whose message is all that a user needs: it is printed without a stack trace, and the program ends with
 * `exitCode`.
 *
 * ```ts
 * import { UserError } from "./errors.ts";
 * const error = new UserError("No node is named `trian`; did you mean `train`?");
 * console.assert(error.exitCode === 2);
 * ```
 */
export class UserError extends Error {
  /** `UserError`. */
  override readonly name: string = "UserError";
  /** The program exits with this code. */
  readonly exitCode: number;

  /** Makes an error with exit code 2 unless another is given. */
  constructor(message: string, options: { exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.exitCode = options.exitCode ?? EXIT.usage;
  }
}

/** The system's code of an error (`ENOSPC`), wherever the runtime put it. */
export function systemCode(error: unknown): string | undefined {
  for (let e: unknown = error; e instanceof Error; e = e.cause) {
    const code = (e as Error & { code?: unknown }).code;
    if (typeof code === "string" && /^E[A-Z0-9]+$/.test(code)) return code;
    // DuckDB passes on the C library's message without the code.
    if (/No space left on device/i.test(e.message)) return "ENOSPC";
    if (/Read-only file system/i.test(e.message)) return "EROFS";
    if (/Permission denied/i.test(e.message)) return "EACCES";
    if (/Disk quota exceeded/i.test(e.message)) return "EDQUOT";
    // Deno has no class for these.
    if (/No locks available/i.test(e.message)) return "ENOLCK";
    if (/Operation not supported/i.test(e.message)) return "EOPNOTSUPP";
    if (/Function not implemented/i.test(e.message)) return "ENOSYS";
  }
  return undefined;
}

const SYSTEM: Readonly<Record<string, string>> = {
  ENOSPC: "The disk is full",
  EDQUOT: "The disk quota is used up",
  EROFS: "The file system is read-only",
  EACCES: "Permission was denied",
  EPERM: "The operation is not permitted",
  EMFILE: "Too many files are open",
};

/**
 * Describes an error in one line; `doing` names the work that failed ("publishing `train`").
 *
 * ```ts
 * import { explain } from "./errors.ts";
 * const full = Object.assign(new Error("write"), { code: "ENOSPC" });
 * console.assert(explain(full, "writing the log") === "The disk is full while writing the log.");
 * ```
 */
export function explain(error: unknown, doing?: string): string {
  if (error instanceof UserError) return error.message;
  const text = error instanceof Error ? error.message : String(error);
  const system = SYSTEM[systemCode(error) ?? ""];
  if (system === undefined) return text || (error instanceof Error ? error.name : "unknown error");
  const path = /'([^']*\/[^']*)'/.exec(text)?.[1];
  const where = path === undefined ? "" : ` (${path})`;
  return `${system}${doing === undefined ? "" : ` while ${doing}`}${where}.`;
}

/** Where in the program an error and its causes arose, a call a line. */
export function traceOf(error: unknown): string {
  const parts: string[] = [];
  for (let e: unknown = error; e !== undefined; e = e instanceof Error ? e.cause : undefined) {
    parts.push(e instanceof Error ? e.stack ?? `${e.name}: ${e.message}` : String(e));
  }
  return parts.join("\ncaused by ");
}

/** Returns an error's message without its full stop, for a sentence that goes on. */
export function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/\.$/, "");
}

/** The exit code that an error asks for: its own `exitCode`, otherwise 1. */
export function exitCodeOf(error: unknown): number {
  const code = (error as { exitCode?: unknown } | null | undefined)?.exitCode;
  return typeof code === "number" ? code : EXIT.failed;
}

/** Whether the error is about the disk, so that going on is pointless. */
export function isDiskError(error: unknown): boolean {
  const code = systemCode(error);
  return code === "ENOSPC" || code === "EDQUOT" || code === "EROFS";
}
