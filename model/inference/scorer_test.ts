import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { openTestGpu } from "../gpu/testing.ts";
import { ReferenceModel } from "../reference/model.ts";
import { noisyTensors, smallModel, writeModelFile } from "./inference_testing.ts";
import { FOUND_WORDS, FoundPrediction } from "./found_prediction.ts";
import {
  logSumExp,
  mostLikely,
  mostLikelyTokens,
  type Prediction,
  predictionOf,
} from "./log_probability.ts";
import { openInferenceModel } from "./open.ts";
import { Scorer } from "./scorer.ts";

const VOCABULARY = 50;
const architecture = smallModel(VOCABULARY);
const tensors = noisyTensors(architecture, 5);
const text = (length: number, seed: number) =>
  Uint32Array.from({ length }, (_, i) => (i * i * 5 + i * seed + 11) % VOCABULARY);

const tokensOf = ({ likeliest }: Prediction) => likeliest.map(({ token }) => token);

Deno.test("Scorer agrees with the float64 reference, and a sequence's company changes no bit", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "model.safetensors");
  await writeModelFile(path, architecture, tensors);
  const gpu = await openTestGpu();
  using model = await openInferenceModel(gpu, path);
  using scorer = new Scorer(model, { capacity: 37, tokens: 48 });
  // Of three lengths, several batches of the shortest, and more wanted rows than are read at once.
  const sequences = [[7, 0], [1, 0], [16, 15], [37, 0], [20, 4], [13, 3], [5, 4]].map(
    ([length, from], i) => ({
      tokens: text(length!, i + 1),
      from: from!,
      likeliest: 1 + 3 * i,
      ...(i % 2 === 0 ? { next: 40 + i } : {}),
    }),
  );
  const numbers = ({ log_probability, likeliest }: Prediction) => ({ log_probability, likeliest });
  const scored = sequences.map(() => new Map<number, ReturnType<typeof numbers>>());
  await scorer.score(sequences, (sequence, position, prediction, logits) => {
    assert(!scored[sequence]!.has(position), "a row was given twice");
    scored[sequence]!.set(position, numbers(prediction));
    assertEquals(logits, undefined);
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
      total -= scored[i]!.get(position)!.log_probability!;
    }
    assertAlmostEquals(total / (tokens.length - 1), crossEntropy, 1e-5);
  }
  for (const [i, sequence] of sequences.entries()) {
    const { from, next, likeliest: count } = sequence;
    await scorer.score([{ ...sequence, from: 0, logits: true }], (_, position, found, logits) => {
      assertEquals(logits?.length, position === sequence.tokens.length - 1 ? 50 : undefined);
      if (position < from) return;
      const what = `sequence ${i}, position ${position}`;
      assertEquals(numbers(found), scored[i]!.get(position), what);
      if (logits === undefined) return;
      // The same numbers as a host finds in all logits.
      const expected = predictionOf(logits, { next, count });
      assertEquals(tokensOf(found), tokensOf(expected), what);
      const [own, wanted] = [found, expected].map(({ log_probability, likeliest }) => [
        log_probability ?? 0,
        ...likeliest.map((one) => one.log_probability),
      ]);
      wanted!.forEach((value, k) => assertAlmostEquals(own![k]!, value, 1e-6, what));
    });
  }
  const refused = async (
    tokens: number[],
    from: number,
    message: string,
    changes: { next?: number; likeliest?: number } = {},
  ) =>
    void await assertRejects(
      () => scorer.score([{ tokens, from, ...changes }], () => {}),
      RangeError,
      message,
    );
  await refused([], 0, "A sequence has 0 tokens; expected 1 to 37");
  await refused(new Array(38).fill(1), 0, "A sequence has 38 tokens; expected 1 to 37");
  const outside = "Token 50 is not in the vocabulary of 50 tokens";
  await refused([1, 50], 0, outside);
  await refused([1], 1, "Predictions are wanted from position 1; expected 0 to 0");
  await refused([1], 0, outside, { next: 50 });
  for (const likeliest of [0, 21]) {
    await refused([1], 0, `${likeliest} likeliest tokens are wanted; expected 1 to 20`, {
      likeliest,
    });
  }
  assertThrows(() => new Scorer(model, { capacity: 0 }), RangeError, "capacity is 0");
  await Deno.remove(folder, { recursive: true });
});

Deno.test("Scorer's predictions tell a logit that is not finite, of their own sequence alone", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "model.safetensors");
  // A sequence with the token 3 has no numbers.
  const broken = new Map(tensors);
  const embedding = tensors.get("embed.weight")!.slice();
  embedding.fill(NaN, 3 * 24, 4 * 24);
  broken.set("embed.weight", embedding);
  broken.set("head.weight", tensors.get("embed.weight")!);
  const own = smallModel(VOCABULARY, { trunk: { head: "own" } });
  await writeModelFile(path, own, broken);
  const gpu = await openTestGpu();
  using model = await openInferenceModel(gpu, path);
  using scorer = new Scorer(model, { capacity: 8 });
  const found: (Prediction | Error)[][] = [[], []];
  await scorer.score([[1, 3, 2], [1, 5, 2]].map((tokens) => ({ tokens, from: 0 })), (i, _, one) => {
    try {
      found[i]!.push({ log_probability: one.log_probability, likeliest: one.likeliest });
    } catch (error) {
      found[i]!.push(error as Error);
    }
  });
  const errors = found.map((own) =>
    own.map((one) => one instanceof Error ? one.message : undefined)
  );
  const message = "The logit of token 0 is NaN; expected finite numbers";
  assertEquals(errors, [Array(3).fill(message), Array(3).fill(undefined)]);
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

Deno.test("FoundPrediction reads a device's words, and tells a logit that is not finite", () => {
  const words = new Uint32Array(2 * FOUND_WORDS);
  const floats = new Float32Array(words.buffer);
  const row = words.subarray(FOUND_WORDS);
  const put = (at: number, logit: number) => void (floats[FOUND_WORDS + at] = logit);
  put(0, 1.5);
  put(1, 998);
  row.set([7], 2);
  put(3, 1000);
  row.set([3], 4);
  put(5, 999.5);
  row.set([0xffffffff], 6);
  const total = 1000 + Math.log(1.5);
  const prediction = new FoundPrediction(row, { next: 9, count: 3 });
  assertEquals(prediction.log_probability, 998 - total);
  assertEquals(prediction.likeliest, [
    { token: 7, log_probability: 1000 - total },
    { token: 3, log_probability: 999.5 - total },
  ]);
  assertEquals(new FoundPrediction(row, { count: 1 }).log_probability, undefined);
  put(3, -Infinity);
  const message = "The logit of token 7 is -Infinity; expected finite numbers";
  assertThrows(() => prediction.likeliest, Error, message);
  assertThrows(() => prediction.log_probability, Error, message);
});
