import { assert, assertEquals } from "@std/assert";
import type { Gpu } from "../../gpu/device.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { Inputs, noise, runOnce } from "../testing.ts";
import { ASKED_WORDS, foundWords, likeliest } from "./likeliest.ts";

/** Choices that there is room for. */
const MOST = 20;
const NONE = 0xffffffff;

interface Rows {
  readonly rows: number;
  readonly vocabulary: number;
  readonly targets: readonly number[];
  readonly counts: readonly number[];
  /** Of a row at a time, side by side. */
  readonly logits: Float32Array;
}

/** The words that the kernels find; the padding of rows is no number. */
async function find(gpu: Gpu, { rows, vocabulary, targets, counts, logits }: Rows) {
  const stride = Math.ceil(vocabulary / 4) * 4;
  const values = new Float32Array(rows * stride).fill(NaN);
  for (let row = 0; row < rows; row++) {
    values.set(logits.subarray(row * vocabulary, (row + 1) * vocabulary), row * stride);
  }
  using inputs = new Inputs(gpu);
  const asked = targets.flatMap((target, row) => [target, counts[row]!]);
  const tensors = {
    logits: inputs.tensor("logits", [rows, stride], { values }),
    asked: inputs.tensor("asked", [rows, ASKED_WORDS], { values: asked, dtype: "u32" }),
    found: inputs.tensor("found", [rows, foundWords(MOST)], { dtype: "u32" }),
  };
  const out = await runOnce(gpu, (plan) => {
    likeliest(plan, "likeliest", tensors, { vocabulary });
    return { found: tensors.found };
  });
  const words = new Uint32Array(out.found);
  const floats = new Float32Array(words.buffer);
  return Array.from({ length: rows }, (_, row) => {
    const at = row * foundWords(MOST);
    const choices = Array.from({ length: counts[row]! }, (_, k) => ({
      token: words[at + 2 + 2 * k]!,
      logit: floats[at + 3 + 2 * k]!,
    }));
    return { sum: floats[at]!, target: floats[at + 1]!, choices };
  });
}

/** The tokens with the largest logits, of equals the lower first. */
function sorted(logits: Float32Array, count: number) {
  const least = logits.toSorted()[Math.max(0, logits.length - count)]!;
  return [...logits.entries()].filter(([, logit]) => logit >= least)
    .sort(([i, a], [j, b]) => b - a || i - j).slice(0, count)
    .map(([token, logit]) => ({ token, logit }));
}

function check(found: Awaited<ReturnType<typeof find>>, given: Rows, what: string): void {
  const { rows, vocabulary, targets, counts } = given;
  for (let row = 0; row < rows; row++) {
    const logits = given.logits.subarray(row * vocabulary, (row + 1) * vocabulary);
    const { sum, target, choices } = found[row]!;
    const expected = sorted(logits, counts[row]!);
    const none = Array(counts[row]! - expected.length).fill({ token: NONE, logit: 0 });
    assertEquals(choices, [...expected, ...none], `${what}, row ${row}`);
    assertEquals(target, targets[row] === NONE ? 0 : logits[targets[row]!], `${what}, row ${row}`);
    const largest = expected[0]!.logit;
    const whole = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
    const error = Math.abs(Math.log(sum) - Math.log(whole));
    assert(error < 3e-6, `${what}, row ${row}: the logarithm of the sum is off by ${error}`);
  }
}

function rowsOf(rows: number, vocabulary: number, spread: number): Rows {
  return {
    rows,
    vocabulary,
    targets: Array.from({ length: rows }, (_, i) => i % 7 === 3 ? NONE : (i * 977) % vocabulary),
    counts: Array.from({ length: rows }, (_, i) => 1 + (i * 19) % MOST),
    logits: Float32Array.from(noise(rows * vocabulary, vocabulary + rows), (v) => spread * v),
  };
}

for (const software of [true, false]) {
  Deno.test(`likeliest() agrees with float64 at odd sizes, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    for (const vocabulary of [1, 2, 5, 257, 50_257, 100_277]) {
      for (const rows of vocabulary > 257 ? [1, 3] : [1, 3, 65]) {
        const given = rowsOf(rows, vocabulary, 12);
        const found = await find(gpu, given);
        check(found, given, `${rows} × ${vocabulary}`);
        if (vocabulary === 257) assertEquals(await find(gpu, given), found);
      }
    }
    const large = rowsOf(65, 100_277, 12);
    // A sum whose terms are all about as large rounds most.
    large.logits.subarray(0, 100_277).fill(-0.25);
    check(await find(gpu, large), large, "65 × 100,277");
  });

  Deno.test(`likeliest() keeps the order of equals, zeros and extremes, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    const vocabulary = 1021;
    const logits = new Float32Array(5 * vocabulary);
    const row = (number: number, fill: (token: number) => number) =>
      logits.subarray(number * vocabulary, (number + 1) * vocabulary)
        .forEach((_, token, all) => all[token] = fill(token));
    row(0, () => 7);
    // −0 is as likely as 0.
    row(1, (token) => token % 3 === 0 ? -0 : token % 3 === 1 ? 0 : -1);
    row(2, (token) => token % 50 === 9 ? 3 : -2 - token % 2);
    row(3, (token) => token === 1020 ? 3e38 : token === 4 ? -3e38 : 1000 + token % 5);
    row(4, (token) => -900 + (token % 11) / 8);
    const given = { rows: 5, vocabulary, targets: [0, 1, 2, 4, NONE], counts: Array(5).fill(MOST) };
    check(await find(gpu, { ...given, logits }), { ...given, logits }, "equals");
  });

  Deno.test(`likeliest() tells the first logit that is not finite, software ${software}`, async () => {
    const gpu = await openTestGpu({ software });
    for (const vocabulary of [3, 1021]) {
      const given = rowsOf(4, vocabulary, 1);
      const place = (row: number, token: number, logit: number) =>
        given.logits[row * vocabulary + token] = logit;
      place(0, 1, NaN);
      place(0, 2, Infinity);
      place(1, vocabulary - 1, -Infinity);
      place(2, 2, Infinity);
      place(2, 0, -Infinity);
      const found = await find(gpu, given);
      const first = found.map(({ choices: [choice] }) => choice);
      assertEquals(first.slice(0, 3), [
        { token: 1, logit: NaN },
        { token: vocabulary - 1, logit: -Infinity },
        { token: 0, logit: -Infinity },
      ]);
      assertEquals(first[3], sorted(given.logits.subarray(3 * vocabulary), 1)[0]);
    }
  });
}
