/**
 * Ranks that MPI connects: each is a process that `mpirun` started.
 *
 * All calls are made on the main thread, and none of them waits. Messages under way are asked for in turn, so the host's thread is free for the
 * device in between, and waiting takes no core.
 *
 * @module
 */

import type { Address, Message, Ranks } from "../groups/ranks.ts";
import { MpiError, type MpiLibrary, openLibrary } from "./library.ts";

/** `MPI_THREAD_FUNNELED`: the process has threads, and one of them calls MPI. */
const FUNNELED = 1;
/** Rounds without an answer after which the questions are spaced out. */
const EAGER_ROUNDS = 64;
/** Milliseconds between two rounds then. */
const PAUSE = 1;
/** MPI counts elements in an `int`. */
const MOST_BYTES = 2 ** 31 - 1;

/** A message under way. */
interface Pending {
  /** Keeps the memory alive whose address MPI has. */
  readonly memory: ArrayBuffer;
  readonly request: BigUint64Array<ArrayBuffer>;
  readonly arrived: () => void;
}

const integer = () => new Int32Array(1);

/** The ranks of `mpirun`'s processes; one alone where nothing started the process. */
export class MpiRanks implements Ranks {
  readonly rank: number;
  readonly size: number;
  readonly #library: MpiLibrary;
  readonly #pending: Pending[] = [];
  readonly #flag = integer();
  #polling = false;
  #messages = 0;
  #bytes = 0;

  /**
   * Starts MPI, once a process.
   *
   * @throws {MpiError} If there is no Open MPI, or it does not start.
   */
  constructor(library: MpiLibrary = openLibrary()) {
    this.#library = library;
    const number = integer();
    check("MPI_Init_thread", library.symbols.MPI_Init_thread(null, null, FUNNELED, number));
    if (number[0]! < FUNNELED) {
      throw new MpiError(`MPI allows threads of level ${number[0]}; expected ${FUNNELED} or more`);
    }
    check("MPI_Comm_rank", library.symbols.MPI_Comm_rank(this.#world, number));
    this.rank = number[0]!;
    check("MPI_Comm_size", library.symbols.MPI_Comm_size(this.#world, number));
    this.size = number[0]!;
  }

  get sent(): { messages: number; bytes: number } {
    return { messages: this.#messages, bytes: this.#bytes };
  }

  send(message: Message, { rank, tag }: Address): Promise<void> {
    this.#messages++;
    this.#bytes += message.byteLength;
    const { MPI_Isend: isend } = this.#library.symbols;
    return this.#start(
      "MPI_Isend",
      message,
      (count, request) => isend(message, count, this.#byte, rank, tag, this.#world, request),
    );
  }

  receive(message: Message, { rank, tag }: Address): Promise<void> {
    const { MPI_Irecv: irecv } = this.#library.symbols;
    return this.#start(
      "MPI_Irecv",
      message,
      (count, request) => irecv(message, count, this.#byte, rank, tag, this.#world, request),
    );
  }

  broadcast(message: Message): Promise<void> {
    const { MPI_Ibcast: ibcast } = this.#library.symbols;
    return this.#start(
      "MPI_Ibcast",
      message,
      (count, request) => ibcast(message, count, this.#byte, 0, this.#world, request),
    );
  }

  /** Ends MPI in this process; every rank calls it. */
  finalize(): void {
    check("MPI_Finalize", this.#library.symbols.MPI_Finalize());
  }

  /** Ends the processes of all ranks with an exit code. */
  abort(code: number): void {
    this.#library.symbols.MPI_Abort(this.#world, code);
  }

  get #world(): Deno.PointerValue {
    return this.#library.symbols.ompi_mpi_comm_world;
  }

  get #byte(): Deno.PointerValue {
    return this.#library.symbols.ompi_mpi_byte;
  }

  #start(
    name: string,
    message: Message,
    start: (count: number, request: BigUint64Array<ArrayBuffer>) => number,
  ): Promise<void> {
    if (message.byteLength > MOST_BYTES) {
      throw new RangeError(`A message has ${message.byteLength} bytes; at most ${MOST_BYTES}`);
    }
    const { buffer: memory } = message;
    const request = new BigUint64Array(1);
    check(name, start(message.byteLength, request));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#pending.push({ memory, request, arrived: resolve });
    if (!this.#polling) this.#poll();
    return promise;
  }

  /** Asks for the messages under way until there are none. */
  async #poll(): Promise<void> {
    this.#polling = true;
    for (let idle = 0; this.#pending.length > 0; idle++) {
      for (const pending of [...this.#pending]) {
        if (!this.#hasArrived(pending)) continue;
        this.#pending.splice(this.#pending.indexOf(pending), 1);
        pending.arrived();
        idle = 0;
      }
      const pause = idle < EAGER_ROUNDS ? 0 : PAUSE;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    this.#polling = false;
  }

  #hasArrived({ request }: Pending): boolean {
    check("MPI_Test", this.#library.symbols.MPI_Test(request, this.#flag, null));
    return this.#flag[0] !== 0;
  }
}

function check(name: string, code: number): void {
  if (code !== 0) throw new MpiError(`${name} returned ${code}; expected 0`);
}
