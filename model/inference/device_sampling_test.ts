import { assert, assertEquals } from "@std/assert";
import type { Gpu } from "../gpu/device.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { packFields } from "../gpu/transfer.ts";
import {
  CHOICE_FIELDS,
  chooseToken,
  CHOSEN_WORDS,
  seenWords,
} from "../ops/decoding/choose_token.ts";
import { Inputs, noise, runOnce } from "../ops/testing.ts";
import { mostLikely } from "./log_probability.ts";
import { drawToken, Sampling, type SamplingOptions, samplingSchema } from "./sampling.ts";

/** Sums of f32 in a GPU's order are as exact as this, relative to the whole. */
const ROUNDING = 1e-5;

interface Question {
  readonly logits: Float32Array;
  readonly options: SamplingOptions;
  readonly seen: readonly number[];
  readonly draw: number;
}

/** The tokens that the kernels choose for questions of one vocabulary, their logits, and the tokens that were there afterwards. */
async function choose(gpu: Gpu, questions: readonly Question[]) {
  using inputs = new Inputs(gpu);
  const rows = questions.length;
  const vocabulary = questions[0]!.logits.length;
  const stride = Math.ceil(vocabulary / 4) * 4;
  const words = seenWords(vocabulary);
  const logits = new Float32Array(rows * stride).fill(NaN);
  const before = new Uint32Array(rows * words);
  const fields = questions.flatMap((question, row) => {
    logits.set(question.logits, row * stride);
    for (const id of question.seen) before[row * words + (id >>> 5)]! |= 1 << (id & 31);
    const { options, draw } = question;
    return [...packFields(CHOICE_FIELDS, {
      ...options,
      top_k: options.top_k < vocabulary ? options.top_k : 0,
      draws: options.temperature > 0 ? 1 : 0,
      nucleus: options.top_p < 1 ? 1 : 0,
      draw,
    })];
  });
  const seen = inputs.tensor("seen", [rows, words], { dtype: "u32", values: before });
  const chosen = inputs.tensor("chosen", [rows, CHOSEN_WORDS], { dtype: "u32" });
  const token = inputs.tensor("token", [rows], { dtype: "u32" });
  const out = await runOnce(gpu, (plan) => {
    chooseToken(plan, "choose", {
      logits: inputs.tensor("logits", [rows, stride], { values: logits }),
      options: inputs.tensor("options", [rows, CHOICE_FIELDS.length], { values: fields }),
      ...{ seen, token, chosen },
    }, { vocabulary });
    return { chosen, seen, token };
  });
  const pairs = new Uint32Array(out["chosen"]!);
  const floats = new Float32Array(pairs.buffer);
  const seens = new Uint32Array(out["seen"]!);
  assertEquals([...out["token"]!], [...pairs.filter((_, i) => i % CHOSEN_WORDS === 0)]);
  return questions.map((_, row) => ({
    token: pairs[CHOSEN_WORDS * row]!,
    logit: floats[CHOSEN_WORDS * row + 1]!,
    seen: [...seens.subarray(row * words, (row + 1) * words)],
  }));
}

/** The logits with the repetition penalty, as `Sampling` makes them. */
function penalised({ logits, options, seen }: Question): Float32Array {
  const out = logits.slice();
  const { repetition_penalty: penalty } = options;
  for (const id of new Set(seen)) out[id] = out[id]! > 0 ? out[id]! / penalty : out[id]! * penalty;
  return out;
}

/** Whether the host chooses a token, or would if the numbers at a boundary were rounded another way. */
function accepts(question: Question, token: number): boolean {
  const logits = penalised(question);
  const { options, draw } = question;
  if (options.temperature === 0) {
    const best = logits[mostLikely(logits)]!;
    return Math.abs(logits[token]! - best) <= 2e-7 * Math.abs(best);
  }
  const near = (value: number) =>
    [-1, 0, 1].map((sign) => Math.max(1e-9, Math.min(1 - 1e-9, value + sign * ROUNDING)));
  const { top_p: p, min_p: least } = options;
  /** Whether `a` is not behind `b` where the draw passes over the candidates. */
  const ordered = (a: number, b: number) =>
    p < 1 && logits[a]! !== logits[b]! ? logits[a]! > logits[b]! : a <= b;
  return (p < 1 ? near(p) : [1]).some((top_p) =>
    (least > 0 ? near(least) : [0]).some((min_p) => {
      const [first, , last] = near(draw)
        .map((u) => drawToken(logits, { ...options, top_p, min_p }, u));
      return ordered(first!, token) && ordered(token, last!);
    })
  );
}

/** The host's choice. */
function expected(question: Question): number {
  const logits = penalised(question);
  const { options, draw } = question;
  return options.temperature === 0 ? mostLikely(logits) : drawToken(logits, options, draw);
}

const WAYS: readonly Partial<SamplingOptions>[] = [
  { temperature: 0 },
  { temperature: 0, repetition_penalty: 1.3 },
  {},
  { temperature: 0.7 },
  { temperature: 2, repetition_penalty: 1.2 },
  { top_k: 1 },
  { top_k: 40 },
  { top_p: 0.9 },
  { top_p: 0.3, temperature: 1.5 },
  { min_p: 0.05 },
  { top_k: 50, top_p: 0.95, min_p: 0.02, temperature: 0.8, repetition_penalty: 1.1 },
];

for (const software of [true, false]) {
  Deno.test(`chooseToken() chooses as Sampling, at odd sizes, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    let others = 0;
    let all = 0;
    for (const [vocabulary, rows] of [[1, 1], [2, 2], [5, 3], [257, 6], [5003, 4], [100_277, 1]]) {
      const questions = WAYS.flatMap((way, w) =>
        Array.from({ length: rows! }, (_, row): Question => {
          const seed = 1000 * row + 10 * w + vocabulary!;
          const [draw] = noise(1, seed + 7);
          return {
            logits: Float32Array.from(noise(vocabulary!, seed), (v) => 12 * v),
            options: samplingSchema.parse(way),
            seen: Array.from({ length: 9 }, (_, i) => (i * 37 + row) % vocabulary!),
            draw: (draw! + 1) / 2,
          };
        })
      );
      const found = await choose(gpu, questions);
      questions.forEach((question, i) => {
        const { token, logit, seen } = found[i]!;
        const { seen: before, options } = question;
        const what = `${vocabulary} tokens, ${JSON.stringify(options)}, draw ${question.draw}`;
        all++;
        if (token !== expected(question)) {
          others++;
          assert(accepts(question, token), `${what}: ${token}, not ${expected(question)}`);
        }
        const of = penalised(question)[token]!;
        assert(Math.abs(logit - of) <= 2e-7 * Math.abs(of), `${what}: logit ${logit}, not ${of}`);
        const bits = new Uint32Array(seenWords(vocabulary!));
        for (const id of [...before, token]) bits[id >>> 5]! |= 1 << (id & 31);
        assertEquals(seen, [...bits], what);
      });
    }
    assert(others <= all / 50, `${others} of ${all} choices are not the host's`);
  });

  Deno.test(`chooseToken() keeps the order of equals, and every draw's place, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    // Probabilities that f32 holds exactly: weights 1 and 0, or all equal.
    const rows = [
      Float32Array.from({ length: 1021 }, () => 7),
      Float32Array.from({ length: 1021 }, (_, i) => i % 8 === 3 ? 2 : -1000),
      Float32Array.from({ length: 1021 }, (_, i) => i % 3 === 0 ? -0 : i % 3 === 1 ? 0 : -900),
    ];
    const ways: Partial<SamplingOptions>[] = [
      { temperature: 0 },
      {},
      { top_k: 16 },
      { top_k: 64, top_p: 0.5 },
      { min_p: 0.5 },
      { min_p: 1, top_p: 0.25 },
    ];
    const draws = [0, 0.0625, 0.40625, 0.9999];
    const questions = rows.flatMap((logits) =>
      ways.flatMap((way) =>
        draws.map((draw) => ({ logits, options: samplingSchema.parse(way), seen: [], draw }))
      )
    );
    const found = await choose(gpu, questions);
    questions.forEach((question, i) =>
      assert(
        found[i]!.token === expected(question) ||
          question.options.top_p < 1 && accepts(question, found[i]!.token),
        `${JSON.stringify(question.options)}, draw ${question.draw}: ${found[i]!.token}, not ${
          expected(question)
        }`,
      )
    );
    assertEquals(await choose(gpu, questions), found);
    for (const row of [0, 17, questions.length - 1]) {
      assertEquals(await choose(gpu, [questions[row]!]), [found[row]!], `row ${row} alone`);
    }
  });

  Deno.test(`chooseToken() tells the first logit that is not finite, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    for (const broken of [NaN, Infinity, -Infinity]) {
      const logits = Float32Array.from(noise(1021, 3));
      logits[700] = broken;
      logits[900] = Infinity;
      const questions = WAYS.map((way) => ({
        logits,
        options: samplingSchema.parse(way),
        seen: [700],
        draw: 0.5,
      }));
      for (const { token, logit } of await choose(gpu, questions)) {
        assertEquals([token, logit], [700, broken]);
      }
    }
  });
}

Deno.test("Sampling's draws are those of its choices", () => {
  const logits = Float32Array.from(noise(99, 5), (v) => 4 * v);
  const chosen = new Sampling({ top_k: 20 }, 11);
  const drawn = new Sampling({ top_k: 20 }, 11);
  const tokens = Array.from({ length: 8 }, () => chosen.choose(logits));
  assertEquals(drawn.draws(8).map((draw) => drawToken(logits, drawn.options, draw)), tokens);
  assertEquals(new Sampling({ temperature: 0 }, 11).draws(2), [0, 0]);
});
