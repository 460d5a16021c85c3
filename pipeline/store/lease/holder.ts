/**
 * Who has a lease, as its files say it.
 *
 * @module
 */

import type { Machine } from "./machine.ts";

/** Who has a lease. */
export interface LeaseHolder {
  /** Unique to this taking; also the name of what only this owner writes through. */
  readonly token: string;
  /** Process number on its host. */
  readonly pid: number;
  /** Name of its host. */
  readonly host: string;
  /** Its host, more exactly. */
  readonly machine?: Machine;
  /** Whether the kernel gave it a lock on its file, which is gone as soon as the process is. */
  readonly locked?: boolean;
  /** Its command line. */
  readonly command: string;
  /** When it came, by its own clock (ISO 8601). */
  readonly since: string;
}

/** `process 12 on host n17 (`reproduce`)`. */
export function describeHolder(holder: LeaseHolder | undefined): string {
  if (holder === undefined) return "another process, whose ticket can't be read";
  return `process ${holder.pid} on host ${holder.host} (\`${holder.command}\`)`;
}

/** Reads a holder; nothing from a text that is none, such as one that is half written. */
export function parseHolder(text: string): LeaseHolder | undefined {
  try {
    const holder: LeaseHolder = JSON.parse(text);
    const { token, pid, host, command, since } = holder;
    const known = [host, command, since].every((value) => typeof value === "string") &&
      typeof pid === "number" && typeof token === "string" && /^[0-9a-f-]+$/.test(token);
    return known ? holder : undefined;
  } catch {
    return undefined;
  }
}
