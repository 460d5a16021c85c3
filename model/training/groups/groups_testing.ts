/**
 * Ranks of one process, for tests.
 *
 * @module
 */

import type { Message, Ranks } from "./ranks.ts";

const bytesOf = (message: Message) =>
  new Uint8Array(message.buffer, message.byteOffset, message.byteLength);

/** A queue of messages between two ranks under one number. */
class Channel {
  readonly #sent: Uint8Array[] = [];
  readonly #waiting: ((bytes: Uint8Array) => void)[] = [];

  put(bytes: Uint8Array): void {
    const take = this.#waiting.shift();
    if (take) take(bytes);
    else this.#sent.push(bytes);
  }

  async take(): Promise<Uint8Array> {
    return this.#sent.shift() ??
      await new Promise<Uint8Array>((resolve) => this.#waiting.push(resolve));
  }
}

/** Ranks that are connected with each other; each belongs to a trainer of this process. */
export function connectedRanks(size: number): Ranks[] {
  const channels = new Map<string, Channel>();
  const channel = (from: number, to: number, tag: number | string) => {
    const key = `${from} ${to} ${tag}`;
    let found = channels.get(key);
    if (!found) channels.set(key, found = new Channel());
    return found;
  };
  return Array.from({ length: size }, (_, rank) => {
    const sent = { messages: 0, bytes: 0 };
    return {
      rank,
      size,
      sent,
      send(message, to) {
        sent.messages++;
        sent.bytes += message.byteLength;
        channel(rank, to.rank, to.tag).put(bytesOf(message).slice());
        return Promise.resolve();
      },
      async receive(message, from) {
        bytesOf(message).set(await channel(from.rank, rank, from.tag).take());
      },
      async broadcast(message) {
        if (rank > 0) {
          bytesOf(message).set(await channel(0, rank, "broadcast").take());
          return;
        }
        for (let to = 1; to < size; to++) {
          channel(0, to, "broadcast").put(bytesOf(message).slice());
        }
      },
    };
  });
}
