import { assertEquals } from "@std/assert";
import { NO_TARGET } from "../ops/elementwise/cross_entropy.ts";
import { documentBatch, documentBatches, packedBatch } from "./token_batch.ts";

const END = 9;
const SIZES = { batch: 2, length: 3, endoftext: END };
const heads = [[1, END], [2, 3, 4, 5], [6, 7, END]].map((head) => Uint32Array.from(head));

async function batches(most: number, padded = false) {
  async function* stream() {
    for (const head of heads) yield await Promise.resolve(head);
  }
  const all = await Array.fromAsync(documentBatches(stream(), { ...SIZES, most, padded }));
  return all.map(({ tokens, targets }) => [[...tokens], [...targets]]);
}

Deno.test("documentBatch() pads what is shorter, and predicts nothing there", () => {
  const { tokens, targets } = documentBatch(heads.slice(0, 2), SIZES);
  assertEquals([...tokens], [1, END, END, 2, 3, 4]);
  assertEquals([...targets], [END, NO_TARGET, NO_TARGET, 3, 4, 5]);
  assertEquals([...packedBatch(Uint32Array.of(1, 2, 3), 4).targets], [2, 3, NO_TARGET, NO_TARGET]);
});

Deno.test("documentBatches() takes documents in their order, up to a number of predictions", async () => {
  const first = [[1, END, END, 2, 3, 4], [END, NO_TARGET, NO_TARGET, 3, 4, 5]];
  const second = [[6, 7, END, END, END, END], [7, END, ...Array(4).fill(NO_TARGET)]];
  assertEquals(await batches(Infinity), [first, second]);
  assertEquals(await batches(6), [first, second]);
  assertEquals(await batches(4), [first]);
  // With padding that is predicted, only whole sequences, and nothing in a row without a document.
  const all = [[1, END, END, 2, 3, 4], [END, END, END, 3, 4, 5]];
  assertEquals(await batches(8, true), [all]);
  assertEquals((await batches(9, true))[1], [
    second[0],
    [7, END, END, NO_TARGET, NO_TARGET, NO_TARGET],
  ]);
  assertEquals(await batches(2, true), []);
  assertEquals(await batches(2), [[
    [1, END, END, 2, END, END],
    [END, NO_TARGET, NO_TARGET, 3, NO_TARGET, NO_TARGET],
  ]]);
});
