import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  evaluateLimit,
  fitLimit,
  latentLaw,
  type LatentPoint,
  sufficientWidth,
} from "./latent_law.ts";

const WIDTHS = [32, 64, 128, 256];
const LATENTS = [2, 4, 8, 16, 32, 64, 128];
const TOLERANCE = 0.02;

/** Losses whose sufficient width is `factor · d_model^exponent`; a seed shifts all and disturbs each a little. */
function made(
  options: { exponent: number; factor: number; seeds: number; noise?: number; set?: number },
): LatentPoint[] {
  const { exponent, factor, seeds, noise = 0, set = 0 } = options;
  const alpha = 0.8;
  return WIDTHS.flatMap((d_model) => {
    const scale = TOLERANCE * (factor * d_model ** exponent) ** alpha;
    return LATENTS.flatMap((d_latent) =>
      Array.from({ length: seeds }, (_, i): LatentPoint => ({
        d_model,
        d_latent,
        seed: i + 1,
        nats: 5 - 0.3 * Math.log(d_model) + scale * d_latent ** -alpha + 0.1 * wave(i) +
          noise * wave(77777 * set + 1000 * i + 31 * d_latent + d_model),
      }))
    );
  });
}

/** Between −1 and 1, without a pattern. */
function wave(i: number): number {
  let bits = Math.imul(i + 1, 2654435761);
  bits = Math.imul(bits ^ (bits >>> 15), 2246822519);
  return 2 * (((bits ^ (bits >>> 13)) >>> 8) % 1000) / 999 - 1;
}

Deno.test("a curve with a limit is found again", () => {
  for (const exponent of [0.2, 0.7, 1.5, 3]) {
    const fit = fitLimit(LATENTS.map((x) => ({ x, y: 3.2 + 0.7 * x ** -exponent })));
    assertAlmostEquals(fit.limit, 3.2, 1e-4);
    assertAlmostEquals(fit.scale, 0.7, 1e-3);
    assertAlmostEquals(fit.exponent, exponent, 1e-3);
    assert(fit.rmse < 1e-6);
    assertAlmostEquals(evaluateLimit(fit, 8), 3.2 + 0.7 * 8 ** -exponent, 1e-5);
  }
});

Deno.test("a loss that rises with the width is flat, not a negative scale", () => {
  const fit = fitLimit(LATENTS.map((x) => ({ x, y: 3 + 0.01 * Math.log(x) })));
  assertEquals(fit.scale, 0);
  const range = { tolerance: TOLERANCE, from: 2, to: 128 };
  assertEquals(sufficientWidth(fit, range), { state: "flat" });
});

Deno.test("a loss that falls like a logarithm shows no limit", () => {
  const fit = fitLimit(LATENTS.map((x) => ({ x, y: 3 - 0.05 * Math.log(x) })));
  assert(fit.unlimited && fit.scale > 0);
  assert(!fitLimit(LATENTS.map((x) => ({ x, y: 3 + x ** -0.3 }))).unlimited);
  const range = { tolerance: TOLERANCE, from: 2, to: 128 };
  assertEquals(sufficientWidth(fit, range), { state: "above" });
});

Deno.test("a width outside of the measured ones is named by its side", () => {
  const range = { tolerance: 0.1, from: 4, to: 32 };
  assertEquals(sufficientWidth({ scale: 1, exponent: 1 }, range), { state: "measured", width: 10 });
  assertEquals(sufficientWidth({ scale: 0.4, exponent: 1 }, range), { state: "flat" });
  assertEquals(sufficientWidth({ scale: 4, exponent: 1 }, range), { state: "above" });
});

Deno.test("two widths are not enough for a limit", () => {
  assertThrows(
    () => fitLimit([{ x: 4, y: 3 }, { x: 8, y: 2 }, { x: 8, y: 2.1 }]),
    RangeError,
    "the widths 4, 8; expected three at least",
  );
});

Deno.test("the exponent of made-up sweeps is found again, without noise exactly", () => {
  for (const exponent of [0, 0.5, 1]) {
    const factor = 16 / 64 ** exponent;
    const law = latentLaw(made({ exponent, factor, seeds: 3 }), { tolerance: TOLERANCE })!;
    assertAlmostEquals(law.law!.exponent, exponent, 2e-3);
    assertAlmostEquals(law.law!.factor * 64 ** law.law!.exponent, 16, 0.05);
    assertEquals(law.fitted, 1);
    assertAlmostEquals(law.interval!.low, exponent, 2e-3);
    assertAlmostEquals(law.interval!.high, exponent, 2e-3);
    assertEquals(law.widths.map(({ d_model }) => d_model), WIDTHS);
  }
});

Deno.test("with noise the interval holds the exponent, and more seeds narrow it", () => {
  const options = { exponent: 0.5, factor: 2, noise: 0.006 };
  const few = [1, 2, 3, 4].map((set) =>
    latentLaw(made({ ...options, seeds: 4, set }), { tolerance: TOLERANCE })!
  );
  const many = latentLaw(made({ ...options, seeds: 24 }), { tolerance: TOLERANCE })!;
  assert(many.interval!.low < 0.5 && many.interval!.high > 0.5);
  // Of intervals from four seeds some miss it: a bootstrap of few is too short.
  assert(few.filter(({ interval }) => interval!.low < 0.5 && interval!.high > 0.5).length >= 2);
  const length = ({ interval }: typeof many) => interval!.high - interval!.low;
  const mean = few.reduce((sum, law) => sum + length(law), 0) / few.length;
  assert(length(many) < 0.7 * mean, `${length(many)} and ${mean}`);
  const again = latentLaw(made({ ...options, seeds: 24 }), { tolerance: TOLERANCE })!;
  assertEquals(again, many);
});

Deno.test("flat curves have no law", () => {
  const flat = made({ exponent: 0, factor: 0.5, seeds: 3 });
  const law = latentLaw(flat, { tolerance: TOLERANCE })!;
  assertEquals(law.widths.map(({ sufficient }) => sufficient.state), WIDTHS.map(() => "flat"));
  assertEquals([law.law, law.interval, law.fitted], [undefined, undefined, 0]);
});

Deno.test("resamples without an exponent are counted", () => {
  // One seed in three has a loss that does not fall at all.
  const points = made({ exponent: 0.5, factor: 2, seeds: 3 }).map((point) =>
    point.seed === 3 ? { ...point, nats: 4 } : point
  );
  const law = latentLaw(points, { tolerance: TOLERANCE })!;
  // Of 27 resamples one is of the third seed alone.
  assertAlmostEquals(law.fitted, 26 / 27, 1e-9);
});

Deno.test("seeds that a cell lacks are left out, and one seed has no interval", () => {
  const points = made({ exponent: 0.5, factor: 2, seeds: 2 })
    .filter(({ d_model, d_latent, seed }) => !(seed === 2 && d_model === 64 && d_latent === 8));
  const law = latentLaw(points, { tolerance: TOLERANCE })!;
  assertEquals(law.seeds, [1]);
  assertAlmostEquals(law.law!.exponent, 0.5, 2e-3);
  assertEquals(law.interval, undefined);
});

Deno.test("one model width is no sweep", () => {
  const points = made({ exponent: 0.5, factor: 2, seeds: 2 }).filter((p) => p.d_model === 64);
  assertEquals(latentLaw(points, { tolerance: TOLERANCE }), undefined);
});

Deno.test("a shift of a whole seed is no part of the intervals, and no part of the law", () => {
  const points = made({ exponent: 0.5, factor: 2, seeds: 3, noise: 0.002 });
  const moved = points.map((p) => p.seed === 2 ? { ...p, nats: p.nats + 1 } : p);
  const [law, other] = [points, moved].map((p) => latentLaw(p, { tolerance: TOLERANCE })!);
  assertAlmostEquals(other!.law!.exponent, law!.law!.exponent, 1e-6);
  for (const [i, { losses }] of law!.widths.entries()) {
    for (const [j, { nats }] of losses.entries()) {
      const changed = other!.widths[i]!.losses[j]!.nats;
      assertAlmostEquals(changed.mean, nats.mean + 1 / 3, 1e-9);
      assertAlmostEquals(changed.sd!, nats.sd!, 1e-9);
      assertAlmostEquals(changed.high! - changed.low!, nats.high! - nats.low!, 1e-9);
      assert(nats.high! - nats.low! < 0.03);
    }
  }
});
