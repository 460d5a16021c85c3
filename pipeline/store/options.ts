/**
 * How a store is opened, and the damage that it may find.
 *
 * @module
 */

import type { Pace } from "./lease/protocol.ts";
import type { TryLock } from "./locks/lock.ts";

/** An object that differs from its manifest. */
export interface Damage {
  /** Name of the object. */
  readonly sha256: string;
  /** The object is not there, or its bytes are others. */
  readonly problem: "missing" | "changed";
}

/** How a store is opened. */
export interface StoreOptions {
  /** The command line that the user typed, for the message to whoever comes second. */
  readonly command: string;
  /** Makes the store when it is not there; otherwise an absent store is an empty one in memory. */
  readonly create?: boolean;
  /** Only reads: writes nothing at all, and shows what another process that holds the store has published so far. */
  readonly look?: boolean;
  /** Called with what was mended and who holds the store. */
  readonly warn?: (message: string) => void;
  /** Waits for another owner instead of refusing. */
  readonly wait?: boolean;
  /** Asks for the lock; the kernel's unless given. */
  readonly tryLock?: TryLock;
  /** Times of the lease between hosts. */
  readonly pace?: Pace;
}
