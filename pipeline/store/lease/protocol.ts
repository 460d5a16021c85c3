/**
 * Takes a lease by atomic files, without the kernel's locks, which network file systems may lack.
 *
 * A lease's folder holds *tickets*, `00000007.json`, and a file `<token>` for the owner, which is the same file as the
 * ticket (a hard link). The highest ticket names the owner by its token. The lease is free when that `<token>` is gone.
 *
 * - **Take**: write `<token>`, then link it as the next ticket. The server lets one of many do that. Tickets are never
 *   written again, and the last few stay, so a late process can't take a number that was passed over.
 * - **Beat**: the owner sets the time of `<token>` every few seconds.
 * - **Judge**: others watch `<token>` by their own clock. Only that it changes counts, so clocks may differ. An owner
 *   whose mark stays for {@linkcode Pace.stale} milliseconds is taken over with the next ticket.
 * - **Fence**: whoever takes over removes the old `<token>`, and the folder out of which the old owner renames what it
 *   publishes ({@linkcode TakeOptions.fence}), before it goes on. A process that was stopped meanwhile wakes without
 *   them. That folder is made before the ticket and never again.
 * - **Release**: the owner removes `<token>`.
 *
 * @module
 */

import { messageOf, UserError } from "../../errors.ts";
import type { LeaseFolder } from "./folder.ts";
import { describeHolder, type LeaseHolder, parseHolder } from "./holder.ts";

/** Times of a lease, milliseconds. */
export interface Pace {
  /** Between two heartbeats. */
  readonly beat: number;
  /** How long a mark must stay unchanged until its owner counts as gone. */
  readonly stale: number;
  /** Between two looks of somebody who waits. */
  readonly poll: number;
}

/** Ten beats may be late or lost before a lease is taken over. */
export const PACE: Pace = { beat: 5000, stale: 60_000, poll: 1000 };

/** The lease is somebody else's. */
export class LeaseHeldError extends UserError {
  override readonly name: string = "LeaseHeldError";
  /** Who has it; unknown when the ticket can't be read. */
  readonly holder: LeaseHolder | undefined;

  constructor(holder: LeaseHolder | undefined) {
    super(`The lease is held by ${describeHolder(holder)}.`);
    this.holder = holder;
  }
}

/** An owner, as far as it can be known without waiting for its heartbeat. */
export type Evidence = "alive" | "gone" | "unknown";

/** How a lease is taken. */
export interface TakeOptions {
  readonly pace: Pace;
  /** Waits for an owner that is alive; otherwise that is a {@linkcode LeaseHeldError}. */
  readonly wait: boolean;
  /** Stops waiting. */
  readonly signal?: AbortSignal | undefined;
  /** Called once for each owner that is watched. */
  readonly onWatch?: ((holder: LeaseHolder | undefined) => void) | undefined;
  /** Makes what the holder writes through; called before anybody can know of it, so that a fence always finds it. */
  readonly prepare: (us: LeaseHolder) => Promise<void>;
  /** Takes from an earlier owner what it writes through; called before the lease is ours to use. */
  readonly fence: (earlier: LeaseHolder) => Promise<void>;
  /** A quicker proof than the heart. */
  readonly evidence: (earlier: LeaseHolder) => Promise<Evidence>;
  /** Milliseconds; never goes back. */
  readonly now: () => number;
  readonly sleep: (milliseconds: number) => Promise<void>;
}

/** How many tickets stay after they were passed over. */
const KEPT_TICKETS = 8;

/** Number of a ticket by its file's name, 0 for other files. */
function ticketNumber(name: string): number {
  return Number(/^(\d{8,})\.json$/.exec(name)?.[1] ?? 0);
}

function ticketName(number: number): string {
  return `${String(number).padStart(8, "0")}.json`;
}

/** A lease that was taken. */
export interface TakenLease {
  /** Later owners have greater ones. */
  readonly ticket: number;
  /** An earlier owner that did not let go and may only stand still; `fence` has been called for it. */
  readonly silent?: LeaseHolder;
}

/** The highest ticket, and who holds the lease by it. */
export interface LeaseState {
  /** Numbers of all tickets, ascending. */
  readonly tickets: readonly number[];
  /** 0 when there never was an owner. */
  readonly highest: number;
  /** Whoever took the highest ticket, now or earlier. */
  readonly holder: LeaseHolder | undefined;
  /** Changes with each beat; nothing when the lease is free. */
  readonly mark: string | undefined;
}

/** Reads who has a lease; writes nothing. */
export async function readLease(folder: LeaseFolder): Promise<LeaseState> {
  const names = await folder.list();
  const tickets = names.map(ticketNumber).filter((number) => number > 0).sort((a, b) => a - b);
  const highest = tickets.at(-1) ?? 0;
  if (highest === 0) return { tickets, highest, holder: undefined, mark: undefined };
  const holder = await readHolder(folder, highest);
  // A ticket that can't be read is watched itself: it is being written, or damaged.
  const mark = await folder.mark(holder?.token ?? ticketName(highest));
  return { tickets, highest, holder, mark };
}

async function readHolder(folder: LeaseFolder, ticket: number): Promise<LeaseHolder | undefined> {
  return parseHolder(await folder.read(ticketName(ticket)) ?? "");
}

/**
 * Takes a lease.
 *
 * @throws LeaseHeldError when its owner is alive and `wait` is false.
 */
export async function takeLease(
  folder: LeaseFolder,
  us: LeaseHolder,
  options: TakeOptions,
): Promise<TakenLease> {
  for (;;) {
    const { highest, silent } = await awaitFree(folder, options);
    try {
      await folder.create(us);
      await options.prepare(us);
      if (await folder.link(us.token, ticketName(highest + 1))) {
        // Our own write made a network file system forget older listings.
        const after = await readLease(folder);
        const ours = after.highest === highest + 1 && after.holder?.token === us.token &&
          after.mark !== undefined;
        if (ours) {
          await passOver(folder, after.tickets.slice(0, -1), options);
          return { ticket: after.highest, ...silent && { silent } };
        }
      }
    } catch (error) {
      await folder.remove(us.token).catch(() => {});
      await options.fence(us).catch(() => {});
      throw error;
    }
    await folder.remove(us.token);
    await options.fence(us);
    await options.sleep(options.pace.poll * Math.random());
  }
}

/** Waits until the lease's owner is gone, or refuses. */
async function awaitFree(
  folder: LeaseFolder,
  options: TakeOptions,
): Promise<{ highest: number; silent?: LeaseHolder }> {
  const { pace, now, sleep, signal } = options;
  let watched: { highest: number; mark: string; since: number; beats: number } | undefined;
  for (;;) {
    const asked = now();
    const state = await readLease(folder);
    const { highest, holder, mark } = state;
    if (mark === undefined) return { highest };
    const evidence = holder === undefined ? "unknown" : await options.evidence(holder);
    if (evidence === "gone") return { highest };
    if (watched?.highest !== highest) {
      if (evidence !== "alive") options.onWatch?.(holder);
      watched = { highest, mark, since: asked, beats: 0 };
    } else if (watched.mark !== mark) {
      watched = { highest, mark, since: asked, beats: watched.beats + 1 };
    } else if (evidence !== "alive" && asked - watched.since >= pace.stale) {
      // This look came later than that time, even if we were stopped ourselves before it.
      return { highest, ...holder && { silent: holder } };
    }
    if (!options.wait && (evidence === "alive" || watched.beats > 0)) {
      throw new LeaseHeldError(holder);
    }
    signal?.throwIfAborted();
    await sleep(pace.poll);
  }
}

/** Fences all earlier owners, and forgets tickets of long ago. */
async function passOver(
  folder: LeaseFolder,
  tickets: readonly number[],
  { fence }: TakeOptions,
): Promise<void> {
  for (const ticket of tickets) {
    const earlier = await readHolder(folder, ticket);
    if (earlier === undefined) continue;
    await folder.remove(earlier.token);
    await fence(earlier);
  }
  for (const ticket of tickets.slice(0, -KEPT_TICKETS)) await folder.remove(ticketName(ticket));
}

/** Explains who came after an owner that was fenced. */
export async function describeSuccessor(folder: LeaseFolder, us: LeaseHolder): Promise<string> {
  try {
    const { holder } = await readLease(folder);
    return holder === undefined || holder.token === us.token ? "" : ` by ${describeHolder(holder)}`;
  } catch (error) {
    return ` (${messageOf(error)})`;
  }
}
