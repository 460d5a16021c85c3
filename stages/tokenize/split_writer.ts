/**
 * Writes one split as shards, and counts it.
 *
 * @module
 */

import { join } from "@std/path";
import { ShardWriter } from "../../model/text/shard.ts";
import type { SplitCounts } from "../dataset_result.ts";

/** How to write a split. */
export interface SplitOptions {
  /** Folder of the shards, `train`. */
  readonly name: string;
  /** SHA-256 of the vocabulary. */
  readonly digest: Uint8Array;
  readonly vocab_size: number;
  /** Written after each document. */
  readonly endoftext: number;
  /** Tokens from which on a shard is closed after a document. */
  readonly shard_tokens: number;
  /** Tokens at most; the document that would exceed it is the first left out. */
  readonly max_tokens: number;
}

/** Writes one split as shards. */
export class SplitWriter {
  readonly #folder: string;
  readonly #options: SplitOptions;
  readonly #counts: Float64Array;
  readonly #shards: SplitCounts["shards"] = [];
  readonly #end: Uint32Array;
  #writer: ShardWriter | undefined;
  #full = false;

  /** @param folder Folder that the split's folder goes into. */
  constructor(folder: string, options: SplitOptions) {
    this.#folder = folder;
    this.#options = options;
    this.#counts = new Float64Array(options.vocab_size);
    this.#end = Uint32Array.of(options.endoftext);
    Deno.mkdirSync(join(folder, options.name), { recursive: true });
  }

  /** Documents written. */
  get documents(): number {
    return this.#sum("documents");
  }

  /** Tokens written. */
  get tokens(): number {
    return this.#sum("tokens");
  }

  /** Whether a document was left out, after which all are. */
  get full(): boolean {
    return this.#full;
  }

  /** Writes a document of `bytes` UTF-8 bytes, unless the split is full. */
  write(tokens: Uint32Array, bytes: number): void {
    const { name, shard_tokens, max_tokens } = this.#options;
    this.#full ||= this.tokens + tokens.length + 1 > max_tokens;
    if (this.#full) return;
    if (!this.#writer) {
      const file = `${name}/${String(this.#shards.length).padStart(5, "0")}.tokens`;
      this.#writer = new ShardWriter(join(this.#folder, file), this.#options);
      this.#shards.push({ file, tokens: 0, bytes: 0, documents: 0 });
    }
    const shard = this.#shards.at(-1)!;
    this.#writer.write(tokens);
    this.#writer.write(this.#end);
    for (const token of tokens) this.#counts[token]!++;
    this.#counts[this.#options.endoftext]!++;
    shard.tokens += tokens.length + 1;
    shard.bytes += bytes;
    shard.documents++;
    if (shard.tokens >= shard_tokens) this.#closeShard();
  }

  /** Closes the last shard. */
  close(): SplitCounts {
    this.#closeShard();
    return {
      tokens: this.tokens,
      bytes: this.#sum("bytes"),
      documents: this.documents,
      unigram_entropy_nats: entropy(this.#counts),
      shards: this.#shards.map((shard) => ({ ...shard })),
    };
  }

  #closeShard(): void {
    this.#writer?.close();
    this.#writer = undefined;
  }

  #sum(key: "tokens" | "bytes" | "documents"): number {
    return this.#shards.reduce((sum, shard) => sum + shard[key], 0);
  }
}

/**
 * Entropy of a distribution given by counts, in nats.
 *
 * @example
 * ```ts
 * import { entropy } from "./split_writer.ts";
 * console.assert(entropy([5, 5]) === Math.LN2);
 * ```
 */
export function entropy(counts: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < counts.length; i++) total += counts[i]!;
  let nats = 0;
  for (let i = 0; i < counts.length; i++) {
    const share = counts[i]! / total;
    if (share > 0) nats -= share * Math.log(share);
  }
  return nats;
}
