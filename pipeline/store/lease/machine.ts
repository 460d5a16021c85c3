/**
 * Tells whether two processes run under one kernel. Host names and clocks of different machines may be alike, so all of
 * name, network addresses and time of the last start have to agree.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** One start of one machine. */
export interface Machine {
  /** Digest of the host's name and its network addresses. */
  readonly identity: string;
  /** When it started: seconds since 1970, by its clock. */
  readonly started: number;
}

/** How far two readings of one machine's start may be apart, seconds. */
const START_TOLERANCE = 5;

function isAllowed(kind: "hostname" | "networkInterfaces" | "osUptime"): boolean {
  return Deno.permissions.querySync({ name: "sys", kind }).state === "granted";
}

/** The host's name, for people. */
export function hostName(): string {
  return isAllowed("hostname") ? Deno.hostname() : "unknown";
}

/** This machine, or nothing where the program may not ask. */
export function thisMachine(): Machine | undefined {
  if (!isAllowed("networkInterfaces") || !isAllowed("osUptime")) return undefined;
  const addresses = Deno.networkInterfaces().map(({ mac }) => mac).sort();
  const text = [hostName(), ...new Set(addresses)].join("\n");
  return {
    identity: createHash("sha256").update(text).digest("hex").slice(0, 16),
    started: Math.round(Date.now() / 1000 - Deno.osUptime()),
  };
}

/** Whether both are the same start of the same machine. */
export function isSameMachine(a: Machine | undefined, b: Machine | undefined): boolean {
  return a !== undefined && b !== undefined && a.identity === b.identity &&
    Math.abs(a.started - b.started) <= START_TOLERANCE;
}
