import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Sampling, type SamplingOptions } from "./sampling.ts";

const LOGITS = Float32Array.of(1, 3, 2, -1, 3, 0);

/** How often each token is drawn. */
function frequencies(
  options: Partial<SamplingOptions>,
  draws = 4000,
  logits: Float32Array = LOGITS,
): number[] {
  const sampling = new Sampling(options, 7);
  const counts = logits.reduce((list: number[]) => [...list, 0], []);
  for (let i = 0; i < draws; i++) counts[sampling.choose(logits)]!++;
  return counts.map((count) => count / draws);
}

function softmax(logits: readonly number[]): number[] {
  const sum = logits.reduce((s, x) => s + Math.exp(x), 0);
  return logits.map((x) => Math.exp(x) / sum);
}

Deno.test("Sampling draws from the softmax at a temperature", () => {
  for (const temperature of [0.5, 1, 2]) {
    const expected = softmax([...LOGITS].map((x) => x / temperature));
    frequencies({ temperature }).forEach((probability, i) =>
      assert(
        Math.abs(probability - expected[i]!) < 0.03,
        `${probability} at ${i}, expected ${expected[i]}`,
      )
    );
  }
});

Deno.test("Sampling with temperature 0 takes the first of the most likely tokens", () => {
  assertEquals(frequencies({ temperature: 0 }, 5), [0, 1, 0, 0, 0, 0]);
});

Deno.test("Sampling leaves out what top_k, top_p and min_p exclude", () => {
  const used = (options: Partial<SamplingOptions>) =>
    frequencies(options).flatMap((probability, i) => probability > 0 ? [i] : []);
  assertEquals(used({ top_k: 3 }), [1, 2, 4]);
  // Of two equally likely tokens the first stays.
  assertEquals(used({ top_k: 1 }), [1]);
  assertEquals(used({ top_k: 100 }), [0, 1, 2, 3, 4, 5]);
  // The probabilities are 0.40, 0.40, 0.15, 0.05, …
  assertEquals(used({ top_p: 0.5 }), [1, 4]);
  assertEquals(used({ top_p: 0.9 }), [1, 2, 4]);
  assertEquals(used({ top_p: 0.01 }), [1]);
  assertEquals(used({ top_k: 2, top_p: 0.4 }), [1]);
  // Relative to the most likely the probabilities are 1, 1, 0.37, 0.14, 0.05, 0.02.
  assertEquals(used({ min_p: 1 }), [1, 4]);
  assertEquals(used({ min_p: 0.1 }), [0, 1, 2, 4]);
  assertEquals(used({ min_p: 0.1, temperature: 2 }), [0, 1, 2, 3, 4, 5]);
  assertEquals(used({ min_p: 0.1, top_k: 3 }), [1, 2, 4]);
  // The probabilities that min_p leaves are shared out anew before top_p counts them.
  assertEquals(used({ min_p: 1, top_p: 0.5 }), [1]);
});

Deno.test("Sampling's nucleus is the smallest set that reaches p", () => {
  fc.assert(fc.property(
    // Eighths: equal, or apart by more than rounding.
    fc.array(fc.integer({ min: -64, max: 64 }), { minLength: 1, maxLength: 40 }),
    fc.double({ min: 0.01, max: 0.99, noNaN: true }),
    (values, top_p) => {
      const logits = Float32Array.from(values, (value) => value / 8);
      const probabilities = softmax([...logits]).map((probability, token) => ({
        probability,
        token,
      }))
        .sort((a, b) => b.probability - a.probability || a.token - b.token);
      let sum = 0;
      const nucleus = new Set<number>();
      for (const { probability, token } of probabilities) {
        nucleus.add(token);
        if ((sum += probability) >= top_p + 1e-9) break;
      }
      const sampling = new Sampling({ top_p }, 3);
      for (let i = 0; i < 20; i++) assert(nucleus.has(sampling.choose(logits)));
    },
  ));
});

Deno.test("Sampling is a function of its seed", () => {
  const draw = (seed: number) => {
    const sampling = new Sampling({ temperature: 2 }, seed);
    return Array.from({ length: 50 }, () => sampling.choose(LOGITS));
  };
  assertEquals(draw(1), draw(1));
  assert(draw(1).join() !== draw(2).join());
});

Deno.test("Sampling makes tokens that were there less likely", () => {
  const logits = Float32Array.of(2, 1.5, -1);
  const sampling = new Sampling({ temperature: 0, repetition_penalty: 2 }, 0);
  // 2 is halved once it was chosen, then 1.5 is, and 2 / 2 = 1 is the most likely again.
  assertEquals([1, 2, 3].map(() => sampling.choose(logits)), [0, 1, 0]);
  const noted = new Sampling({ temperature: 0, repetition_penalty: 2 }, 0);
  noted.note([0, 1]);
  assertEquals(noted.choose(Float32Array.of(-0.5, -0.6, -0.7)), 2);
  assertEquals(logits, Float32Array.of(2, 1.5, -1));
});

Deno.test("Sampling refuses options out of range and logits that are not finite", () => {
  assertThrows(() => new Sampling({ top_p: 0 }, 0), Error, "top_p");
  assertThrows(() => new Sampling({ temperature: -1 }, 0), Error, "temperature");
  assertThrows(
    () => new Sampling({}, 0).choose(Float32Array.of(0, NaN)),
    Error,
    "The logit of token 1 is NaN; expected finite numbers",
  );
});

Deno.test("Sampling's first draws are spread evenly over seeds", () => {
  const logits = new Float32Array(4);
  const counts = [0, 0, 0, 0];
  for (let seed = 0; seed < 400; seed++) counts[new Sampling({}, seed).choose(logits)]!++;
  for (const count of counts) assert(Math.abs(count - 100) < 40, `${counts}`);
});
