/**
 * The processes that train one model together, as the training sees them.
 *
 * @module
 */

/** Bytes that a message carries; memory that nobody else moves or frees while it is under way. */
export type Message = ArrayBufferView<ArrayBuffer>;

/** The other end of a message, and its number: messages of one number between two ranks arrive in the order in which they were sent. */
export interface Address {
  readonly rank: number;
  readonly tag: number;
}

/** Messages that a rank sent, broadcasts aside. */
export interface Traffic {
  readonly messages: number;
  readonly bytes: number;
}

/** One of several processes that train one model; `model/training/mpi` connects them. */
export interface Ranks {
  /** Number of this process, from 0. */
  readonly rank: number;
  /** Processes. */
  readonly size: number;
  /** Messages of this process so far. */
  readonly sent: Traffic;
  /** Resolves when the message's memory may change. */
  send(message: Message, to: Address): Promise<void>;
  /** Resolves when the message is there. */
  receive(message: Message, from: Address): Promise<void>;
  /** Gives every rank the bytes of rank 0. Each calls it, in the same order. */
  broadcast(message: Message): Promise<void>;
}

const nobody = () => Promise.reject(new Error("A single rank has nobody to talk to"));

/** A process that trains by itself. */
export const ALONE: Ranks = {
  rank: 0,
  size: 1,
  sent: { messages: 0, bytes: 0 },
  send: nobody,
  receive: nobody,
  broadcast: () => Promise.resolve(),
};
