/**
 * A worker per core that tokenises batches of lines, with results in the order of the batches.
 *
 * @module
 */

import type { EncodingName } from "../../model/text/tokenizer.ts";

/** Bytes of a document's SHA-256 that are kept: enough to tell documents apart and to split them. */
export const HASH_BYTES = 16;

/** Lines of JSON, one document each. */
export interface TokenizeJob {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Number of the first line. */
  readonly line: number;
  /** Name of the file, for messages. */
  readonly name: string;
  /** The encoding that cuts the texts. */
  readonly encoding: EncodingName;
}

/** Documents of a batch, in order. */
export interface TokenizeResult {
  /** First 16 bytes of the SHA-256 of each text. */
  readonly hashes: Uint8Array<ArrayBuffer>;
  /** UTF-8 bytes of each text. */
  readonly bytes: Uint32Array<ArrayBuffer>;
  /** Tokens of each text. */
  readonly lengths: Uint32Array<ArrayBuffer>;
  /** Tokens of all texts, one after the other, without `<|endoftext|>`. */
  readonly tokens: Uint32Array<ArrayBuffer>;
}

/** The worker's module; part of the stage's key. */
export const WORKER_MODULE: string = new URL("./worker.ts", import.meta.url).href;

interface Lane {
  readonly worker: Worker;
  /** Promises of the jobs that the worker has, first come, first served. */
  readonly waiting: PromiseWithResolvers<TokenizeResult>[];
}

/** Workers that tokenise. */
export class TokenizePool implements Disposable {
  readonly #lanes: Lane[];

  /** @param workers How many; a worker per core if not given. */
  constructor(workers: number = navigator.hardwareConcurrency) {
    this.#lanes = Array.from({ length: workers }, () => {
      const worker = new Worker(WORKER_MODULE, { type: "module" });
      const lane: Lane = { worker, waiting: [] };
      worker.onmessage = ({ data }: MessageEvent<TokenizeResult | { error: string }>) => {
        const job = lane.waiting.shift();
        if ("error" in data) job?.reject(new Error(data.error));
        else job?.resolve(data);
      };
      worker.onerror = (event) => {
        event.preventDefault();
        for (const job of lane.waiting.splice(0)) {
          job.reject(new Error(`A tokenising worker failed: ${event.message}`));
        }
      };
      return lane;
    });
  }

  /**
   * Tokenises batches; at most two a worker are under way, so memory does not grow with the input.
   *
   * @returns Results in the order of the batches, whichever worker is first.
   */
  async *map(jobs: AsyncIterable<TokenizeJob>): AsyncGenerator<TokenizeResult> {
    const pending: Promise<TokenizeResult>[] = [];
    for await (const job of jobs) {
      const result = this.#submit(job);
      // Awaited in its turn; an earlier failure may end the run before.
      result.catch(() => {});
      pending.push(result);
      if (pending.length >= 2 * this.#lanes.length) yield await pending.shift()!;
    }
    while (pending.length > 0) yield await pending.shift()!;
  }

  /** Ends the workers. */
  [Symbol.dispose](): void {
    for (const { worker } of this.#lanes) worker.terminate();
  }

  #submit(job: TokenizeJob): Promise<TokenizeResult> {
    const lane = this.#lanes.reduce((best, lane) =>
      lane.waiting.length < best.waiting.length ? lane : best
    );
    const deferred = Promise.withResolvers<TokenizeResult>();
    lane.waiting.push(deferred);
    lane.worker.postMessage(job, [job.bytes.buffer]);
    return deferred.promise;
  }
}
