/** A rank of `mpi_ranks_test.ts`: says what it got from the others as a line of JSON, or ends them all. */

import { createHash } from "node:crypto";
import { OrderedSum } from "../groups/ordered_sum.ts";
import { MpiRanks } from "./mpi_ranks.ts";

/** Bytes that a rank sends: the same for the same sender and length. */
function bytes(rank: number, length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length).map((_, i) => (i * 31 + rank * 7 + length) % 251);
}

/** From a byte to more than a message that is sent at once. */
const LENGTHS = [1, 3, 64, 5000, 3_000_001];

/** Groups that all ranks share, and elements of the parts that they add up. */
const GROUPS = 4;
const PARTS = [1000, 1, 70_000, 3];

/** SHA-256 of sums whose order matters, over all groups. */
async function sumOf(ranks: MpiRanks): Promise<string> {
  const own = GROUPS / ranks.size;
  const sum = new OrderedSum({ ranks, groups: own, sizes: PARTS });
  const hash = createHash("sha256");
  // Twice, for messages of one number follow each other.
  for (const round of [1, 2]) {
    const totals: Promise<Float32Array<ArrayBuffer>>[] = [];
    for (let group = 0; group < own; group++) {
      for (const [part, size] of PARTS.entries()) {
        const seed = round * 3 + part + 7 * (ranks.rank * own + group);
        sum.give(part, new Float32Array(size).map((_, i) => Math.sin(seed + i) * 2 ** (seed % 20)));
        if (group === own - 1) totals.push(sum.total(part));
      }
    }
    for (const total of await Promise.all(totals)) {
      hash.update(new Uint8Array(total.buffer, total.byteOffset, total.byteLength));
    }
  }
  return hash.digest("hex");
}

if (import.meta.main) {
  const ranks = new MpiRanks();
  const { rank, size } = ranks;
  if (Deno.args[0] === "sum") {
    const digest = await sumOf(ranks);
    // deno-lint-ignore no-console -- the test reads it
    console.log(JSON.stringify({ rank, digest, sent: ranks.sent }));
    ranks.finalize();
    Deno.exit(0);
  }
  if (Deno.args[0] === "abort" && rank === 1) ranks.abort(3);
  const from = (rank + size - 1) % size;
  const right: boolean[] = [];
  const garbage: unknown[] = [];
  const received = LENGTHS.map(async (length, tag) => {
    const message = new Uint8Array(length);
    await ranks.receive(message, { rank: from, tag });
    const expected = bytes(from, length);
    right[tag] = message.every((byte, i) => byte === expected[i]);
  });
  // The collector moves what it can while messages are under way.
  for (let i = 0; i < 300; i++) garbage.push(new Float64Array(3), new Array(1000).fill(i));
  const sent = LENGTHS.map((length, tag) =>
    ranks.send(bytes(rank, length), { rank: (rank + 1) % size, tag })
  );
  await Promise.all([...received, ...sent]);
  const small = Float64Array.of(rank === 0 ? Math.PI : 0);
  await ranks.broadcast(small);
  const large = bytes(rank, 1_000_000);
  await ranks.broadcast(large);
  const expected = bytes(0, 1_000_000);
  const broadcast = small[0] === Math.PI && large.every((byte, i) => byte === expected[i]);
  // deno-lint-ignore no-console -- the test reads it
  console.log(JSON.stringify({ rank, size, right, broadcast, sent: ranks.sent }));
  ranks.finalize();
}
