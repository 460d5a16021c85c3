import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { openTestGpu } from "../gpu/testing.ts";
import { ReferenceModel } from "../reference/model.ts";
import { noisyTensors, smallModel, writeModelFile } from "./inference_testing.ts";
import { logSumExp, mostLikely, mostLikelyTokens } from "./log_probability.ts";
import { openInferenceModel } from "./open.ts";
import { Scorer } from "./scorer.ts";

const VOCABULARY = 50;
const architecture = smallModel(VOCABULARY);
const tensors = noisyTensors(architecture, 5);
const text = (length: number, seed: number) =>
  Uint32Array.from({ length }, (_, i) => (i * i * 5 + i * seed + 11) % VOCABULARY);

Deno.test("Scorer agrees with the float64 reference, and a sequence's company changes no bit", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "model.safetensors");
  await writeModelFile(path, architecture, tensors);
  const gpu = await openTestGpu();
  using model = await openInferenceModel(gpu, path);
  using scorer = new Scorer(model, { capacity: 37, tokens: 48 });
  // Of three lengths, several batches of the shortest, and more wanted rows than are read at once.
  const sequences = [[7, 0], [1, 0], [16, 15], [37, 0], [20, 4], [13, 3], [5, 4]].map(
    ([length, from], i) => ({ tokens: text(length!, i + 1), from: from! }),
  );
  const scored = sequences.map(() => new Map<number, Float32Array>());
  await scorer.score(sequences, (sequence, position, logits) => {
    assert(!scored[sequence]!.has(position), "a row was given twice");
    scored[sequence]!.set(position, logits.slice());
  });
  const reference = new ReferenceModel(architecture, tensors);
  for (const [i, { tokens, from }] of sequences.entries()) {
    const positions = Array.from({ length: tokens.length - from }, (_, k) => from + k);
    assertEquals([...scored[i]!.keys()], positions);
    if (from > 0 || tokens.length < 2) continue;
    const { crossEntropy } = reference.evaluate({
      tokens: tokens.subarray(0, -1),
      targets: tokens.subarray(1),
      length: tokens.length - 1,
    });
    let total = 0;
    for (let position = 0; position < tokens.length - 1; position++) {
      const logits = scored[i]!.get(position)!;
      total += logSumExp(logits) - logits[tokens[position + 1]!]!;
    }
    assertAlmostEquals(total / (tokens.length - 1), crossEntropy, 1e-5);
  }
  for (const [i, { tokens, from }] of sequences.entries()) {
    await scorer.score([{ tokens, from: 0 }], (_, position, logits) => {
      if (position < from) return;
      assertEquals(logits, scored[i]!.get(position), `sequence ${i}, position ${position}`);
    });
  }
  const refused = async (tokens: number[], from: number, message: string) =>
    void await assertRejects(
      () => scorer.score([{ tokens, from }], () => {}),
      RangeError,
      message,
    );
  await refused([], 0, "A sequence has 0 tokens; expected 1 to 37");
  await refused(new Array(38).fill(1), 0, "A sequence has 38 tokens; expected 1 to 37");
  await refused([1, 50], 0, "Token 50 is not in the vocabulary of 50 tokens");
  await refused([1], 1, "Logits are wanted from position 1; expected 0 to 0");
  assertThrows(() => new Scorer(model, { capacity: 0 }), RangeError, "capacity is 0");
  await Deno.remove(folder, { recursive: true });
});

Deno.test("Logarithms of probabilities are those of a sum in float64", () => {
  const logits = Float32Array.of(1000, 999, -50, 1000, 998.5);
  const total = 1000 + Math.log(2 + Math.exp(-1) + Math.exp(-1050) + Math.exp(-1.5));
  assertAlmostEquals(logSumExp(logits), total, 1e-12);
  assertEquals(mostLikely(logits), 0);
  assertEquals(
    mostLikelyTokens(logits, { count: 3, total }),
    [0, 3, 1].map((token) => ({ token, log_probability: logits[token]! - total })),
  );
  assertEquals(mostLikelyTokens(logits, { count: 9, total }).length, 5);
  assertThrows(() => logSumExp([1, NaN]), Error, "The logit of token 1 is NaN");
});
