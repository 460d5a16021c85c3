/**
 * Section 8.5: how wide a latent code has to be as the model's width grows.
 *
 * For each model width the held-out loss over the latent width is fitted by `L = L∞ + c · d_latent^−α`. The width that
 * suffices is where the curve is `tolerance` nats above its limit, `(c / tolerance)^(1/α)`. The exponent is the slope of its
 * logarithm against that of the model's width. Its interval comes from a bootstrap over seeds: a seed is drawn with all
 * of its models, since a seed shifts them together.
 *
 * @module
 */

import { uniformInt } from "pure-rand/distribution/uniformInt";
import { mersenne } from "pure-rand/generator/mersenne";
import { CONFIDENCE, summarize, type Summary } from "../../ablate/statistics.ts";
import { fitPower, type Interval, type PowerLaw } from "./power_law.ts";

/** One trained model of the sweep. */
export interface LatentPoint {
  /** Width of the residual stream. */
  readonly d_model: number;
  /** Width of a latent code. */
  readonly d_latent: number;
  readonly seed: number;
  /** Held-out loss, nats a token. */
  readonly nats: number;
}

/** The curve `limit + scale · x^−exponent`. */
export interface LimitFit {
  /** Loss of an infinitely wide code, nats. */
  readonly limit: number;
  /** Nats above the limit at width 1; 0 where the loss does not fall. */
  readonly scale: number;
  readonly exponent: number;
  /** Whether the exponent is the smallest that a fit takes: the points fall like a logarithm, and show no limit. */
  readonly unlimited: boolean;
  /** Root mean square of the residuals, nats. */
  readonly rmse: number;
}

/**
 * The width that suffices; `flat` where the curve falls by no more than the tolerance over the measured widths, and
 * `above` where it is further from its limit than that at the widest.
 */
export type Sufficient =
  | { readonly state: "measured"; readonly width: number }
  | { readonly state: "flat" | "above" };

/** One model width. */
export interface WidthResult {
  readonly d_model: number;
  /**
   * Losses over the seeds, by latent width. A seed's mean over the latent widths is taken off before the interval is
   * formed (Cousineau, 2005, with Morey's correction), since it shifts the whole curve and not its form.
   */
  readonly losses: readonly { readonly d_latent: number; readonly nats: Summary }[];
  readonly fit: LimitFit;
  readonly sufficient: Sufficient;
  /** Bootstrap interval of the width; absent when it reaches beyond the measured widths. */
  readonly interval: Interval | undefined;
}

/** The sweep's result. */
export interface LatentLaw {
  /** Nats above the limit that count as enough. */
  readonly tolerance: number;
  /** Seeds that every model of the sweep has. */
  readonly seeds: readonly number[];
  /** In ascending order of width. */
  readonly widths: readonly WidthResult[];
  /** Absent unless a width suffices at two model widths at least. */
  readonly law: PowerLaw | undefined;
  /** Bootstrap interval of the exponent; absent when more than one resample in twenty has none. */
  readonly interval: Interval | undefined;
  /** Fraction of the resamples that have an exponent. */
  readonly fitted: number;
}

/** Exponents that a fit looks at, from a curve like a logarithm to one that is at its limit after one doubling. */
const EXPONENTS = { from: 0.1, to: 4, count: 96 } as const;

/** Resamples are all that there are of at most five seeds, and so many draws of more. */
const DRAWS = 2000;

/**
 * Least squares of `y = limit + scale · x^−exponent` with a scale of at least 0.
 *
 * @throws {RangeError} When fewer than three different widths are given, or one is not positive.
 *
 * @example
 * ```ts
 * import { fitLimit } from "./latent_law.ts";
 * const fit = fitLimit([4, 8, 16, 32].map((x) => ({ x, y: 3 + 0.5 / x })));
 * console.assert(Math.abs(fit.limit - 3) < 1e-6 && Math.abs(fit.exponent - 1) < 1e-4);
 * ```
 */
export function fitLimit(points: readonly { readonly x: number; readonly y: number }[]): LimitFit {
  const widths = new Set(points.map(({ x }) => x));
  if (widths.size < 3 || !points.every(({ x, y }) => x > 0 && Number.isFinite(y))) {
    throw new RangeError(
      `Cannot fit a limit to the widths ${
        [...widths].join(", ")
      }; expected three at least, positive, with finite losses`,
    );
  }
  const ratio = Math.log(EXPONENTS.to / EXPONENTS.from) / (EXPONENTS.count - 1);
  const at = (position: number) => fitAt(points, EXPONENTS.from * Math.exp(ratio * position));
  let best = 0;
  for (let i = 1; i < EXPONENTS.count; i++) if (at(i).rmse < at(best).rmse) best = i;
  // The best of the grid's neighbourhood, by golden sections.
  const golden = (Math.sqrt(5) - 1) / 2;
  let [low, high] = [Math.max(0, best - 1), Math.min(EXPONENTS.count - 1, best + 1)];
  for (let i = 0; i < 40; i++) {
    const step = golden * (high - low);
    if (at(high - step).rmse <= at(low + step).rmse) high = low + step;
    else low = high - step;
  }
  return at((low + high) / 2);
}

function fitAt(
  points: readonly { readonly x: number; readonly y: number }[],
  exponent: number,
): LimitFit {
  const n = points.length;
  const powers = points.map(({ x }) => x ** -exponent);
  const meanPower = powers.reduce((sum, p) => sum + p, 0) / n;
  const mean = points.reduce((sum, { y }) => sum + y, 0) / n;
  let squares = 0;
  let products = 0;
  for (const [i, { y }] of points.entries()) {
    squares += (powers[i]! - meanPower) ** 2;
    products += (powers[i]! - meanPower) * (y - mean);
  }
  const scale = Math.max(0, products / squares);
  const limit = mean - scale * meanPower;
  const residual = points.reduce((sum, { y }, i) => sum + (y - limit - scale * powers[i]!) ** 2, 0);
  return {
    limit,
    scale,
    exponent,
    unlimited: exponent < 1.01 * EXPONENTS.from,
    rmse: Math.sqrt(residual / n),
  };
}

/** The curve's value. */
export function evaluateLimit(fit: LimitFit, width: number): number {
  return fit.limit + fit.scale * width ** -fit.exponent;
}

/** The width at which a curve is `tolerance` above its limit, if it is one of those between the ends of the range. */
export function sufficientWidth(
  { scale, exponent }: Pick<LimitFit, "scale" | "exponent">,
  options: { tolerance: number; from: number; to: number },
): Sufficient {
  const { tolerance, from, to } = options;
  if (scale * (from ** -exponent - to ** -exponent) <= tolerance) return { state: "flat" };
  const width = (scale / tolerance) ** (1 / exponent);
  return width > to ? { state: "above" } : { state: "measured", width };
}

/**
 * The law of a sweep.
 *
 * @returns Nothing when fewer than two model widths have three latent widths with a seed that all of them share.
 */
export function latentLaw(
  points: readonly LatentPoint[],
  options: { tolerance: number },
): LatentLaw | undefined {
  const { tolerance } = options;
  const byWidth = Map.groupBy(points, ({ d_model }) => d_model);
  const tables = [...byWidth].sort(([a], [b]) => a - b).map(([d_model, own]) => ({
    d_model,
    cells: [...Map.groupBy(own, ({ d_latent }) => d_latent)].sort(([a], [b]) => a - b)
      .map(([d_latent, runs]) => ({
        d_latent,
        bySeed: new Map(runs.map(({ seed, nats }) => [seed, nats])),
      })),
  })).filter(({ cells }) => cells.length >= 3);
  const seeds = [...new Set(points.map(({ seed }) => seed))].sort((a, b) => a - b)
    .filter((seed) => tables.every(({ cells }) => cells.every(({ bySeed }) => bySeed.has(seed))));
  if (tables.length < 2 || seeds.length === 0) return undefined;

  const resolve = (drawn: readonly number[]) =>
    tables.map(({ cells }) => {
      const fit = fitLimit(cells.map(({ d_latent, bySeed }) => ({
        x: d_latent,
        y: drawn.reduce((sum, seed) => sum + bySeed.get(seed)!, 0) / drawn.length,
      })));
      const [from, to] = [cells[0]!.d_latent, cells.at(-1)!.d_latent];
      return { fit, sufficient: sufficientWidth(fit, { tolerance, from, to }) };
    });
  const whole = resolve(seeds);
  const resamples = seeds.length > 1 ? resamplesOf(seeds).map(resolve) : [];
  const widths = tables.map(({ d_model, cells }, i): WidthResult => ({
    d_model,
    losses: withinSeeds(cells, seeds),
    ...whole[i]!,
    interval: percentiles(resamples.map((sample) => widthOf(sample[i]!.sufficient))),
  }));
  const lawOf = (sample: readonly { readonly sufficient: Sufficient }[]) =>
    fitPower(
      sample.flatMap(({ sufficient }, i) =>
        sufficient.state === "measured" ? [{ x: tables[i]!.d_model, y: sufficient.width }] : []
      ),
    );
  const used = (sample: readonly { readonly sufficient: Sufficient }[]) =>
    // An exponent of other model widths would be another quantity.
    sample.every(({ sufficient }, i) =>
      (sufficient.state === "measured") === (whole[i]!.sufficient.state === "measured")
    );
  const exponents = resamples.map((sample) => used(sample) ? lawOf(sample)?.exponent : undefined);
  return {
    tolerance,
    seeds,
    widths,
    law: lawOf(whole),
    interval: percentiles(exponents),
    fitted: exponents.length === 0
      ? 0
      : exponents.filter((e) => e !== undefined).length / exponents.length,
  };
}

/** Losses of one model width by latent width and seed. */
interface Cell {
  readonly d_latent: number;
  readonly bySeed: ReadonlyMap<number, number>;
}

function withinSeeds(cells: readonly Cell[], seeds: readonly number[]): WidthResult["losses"] {
  const n = cells.length;
  const means = new Map(seeds.map((seed) => [
    seed,
    cells.reduce((sum, { bySeed }) => sum + bySeed.get(seed)!, 0) / n,
  ]));
  const grand = [...means.values()].reduce((sum, mean) => sum + mean, 0) / seeds.length;
  const correction = Math.sqrt(n / (n - 1));
  return cells.map(({ d_latent, bySeed }) => {
    const nats = summarize(seeds.map((seed) => bySeed.get(seed)! - means.get(seed)! + grand));
    const wider = (end: number | null) =>
      end === null ? null : nats.mean + correction * (end - nats.mean);
    const sd = nats.sd === null ? null : correction * nats.sd;
    return { d_latent, nats: { ...nats, sd, low: wider(nats.low), high: wider(nats.high) } };
  });
}

function widthOf(sufficient: Sufficient): number | undefined {
  return sufficient.state === "measured" ? sufficient.width : undefined;
}

/** Model widths for which the widest code does not suffice. A law through the others leaves out what would raise it. */
export function widthsAbove({ widths }: LatentLaw): readonly WidthResult[] {
  return widths.filter(({ sufficient }) => sufficient.state === "above");
}

/** The central interval; nothing when more values are missing than it leaves out. */
function percentiles(values: readonly (number | undefined)[]): Interval | undefined {
  const known = values.filter((value) => value !== undefined).sort((a, b) => a - b);
  if (known.length === 0 || known.length < CONFIDENCE * values.length) return undefined;
  const at = (share: number) => {
    const position = share * (known.length - 1);
    const below = Math.floor(position);
    const next = known[Math.min(below + 1, known.length - 1)]!;
    return known[below]! + (position - below) * (next - known[below]!);
  };
  return { low: at((1 - CONFIDENCE) / 2), high: at((1 + CONFIDENCE) / 2) };
}

/** Draws with replacement: every one of few seeds, so that nothing is left to chance, and a fixed stream of more. */
function resamplesOf(seeds: readonly number[]): number[][] {
  const n = seeds.length;
  if (n <= 5) {
    return Array.from(
      { length: n ** n },
      (_, index) =>
        Array.from({ length: n }, (_, place) => seeds[Math.floor(index / n ** place) % n]!),
    );
  }
  const generator = mersenne(1);
  return Array.from(
    { length: DRAWS },
    () => Array.from({ length: n }, () => seeds[uniformInt(generator, 0, n - 1)]!),
  );
}
