/**
 * Scaling of the tokenise stage's workers: 2 MB of English through 1, 2, 4 … cores of them; MB/s = 2,000 ÷
 * milliseconds. Workers are started before the clock.
 *
 * @module
 */

import { readEmbedded } from "../download/sources/embedded.ts";
import { lineBatches } from "../download/sources/document.ts";
import { type TokenizeJob, TokenizePool } from "./pool.ts";

const BYTES = 2_000_000;
const { documents } = await readEmbedded();
const lines: string[] = [];
let size = 0;
for (const { text } of documents) {
  if (size >= BYTES) break;
  lines.push(JSON.stringify({ text }) + "\n");
  size += text.length;
}
const bytes = new TextEncoder().encode(lines.join(""));

async function* jobs(): AsyncGenerator<TokenizeJob> {
  async function* chunks() {
    for (let at = 0; at < bytes.length; at += 65536) {
      yield await Promise.resolve(bytes.subarray(at, at + 65536));
    }
  }
  for await (const batch of lineBatches(chunks(), { size: 65_536, name: "bench" })) {
    yield { ...batch, name: "bench", encoding: "cl100k_base" };
  }
}

async function tokenizeAll(pool: TokenizePool): Promise<void> {
  let tokens = 0;
  for await (const batch of pool.map(jobs())) tokens += batch.tokens.length;
  if (tokens === 0) throw new Error("No token came back");
}

const cores = navigator.hardwareConcurrency;
const sizes = [1, 2, 4, 8, 16, 32, 64].filter((workers) => workers < cores).concat(cores);
for (const workers of new Set(sizes)) {
  const pool = new TokenizePool(workers);
  await tokenizeAll(pool);
  Deno.bench(
    `${workers} workers, 2 MB`,
    { group: "workers", baseline: workers === 1, n: 5, warmup: 1 },
    // Deno.bench awaits only functions declared async.
    async () => await tokenizeAll(pool),
  );
}
