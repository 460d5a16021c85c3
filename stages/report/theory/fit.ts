/**
 * Least squares for the paper's scaling curve, `L = a − b ln x` (figure 4).
 *
 * @module
 */

/** A point of a training curve. */
export interface CurvePoint {
  /** Optimiser step, at least 1. */
  readonly x: number;
  /** Loss in nats. */
  readonly y: number;
}

/** A fitted curve. */
export interface LogFit {
  /** Loss at x = 1, nats. */
  readonly a: number;
  /** Nats lost for each e-fold of x. */
  readonly b: number;
  /** Coefficient of determination, 1 − SS_res / SS_tot. */
  readonly r2: number;
  /** Root mean square of the residuals, nats. */
  readonly rmse: number;
  /** Points used. */
  readonly n: number;
  /** Smallest x used. */
  readonly from: number;
  /** Largest x used. */
  readonly to: number;
}

/**
 * Fits `y = a − b ln x` by ordinary least squares on `ln x`.
 *
 * @returns Nothing when fewer than three points, or a single x, are left.
 * @throws {RangeError} When a point has x < 1 or is not finite.
 *
 * @example
 * ```ts
 * import { fitLog } from "./fit.ts";
 * const points = [1, 2, 4, 8].map((x) => ({ x, y: 9 - 0.5 * Math.log(x) }));
 * console.assert(Math.abs(fitLog(points)!.b - 0.5) < 1e-12);
 * ```
 */
export function fitLog(points: readonly CurvePoint[]): LogFit | undefined {
  for (const { x, y } of points) {
    if (!(x >= 1) || !Number.isFinite(x) || !Number.isFinite(y)) {
      throw new RangeError(
        `Cannot fit the point (${x}, ${y}); expected x of at least 1 and finite values`,
      );
    }
  }
  const n = points.length;
  if (n < 3) return undefined;
  const mean = (values: readonly number[]) => values.reduce((s, v) => s + v, 0) / n;
  const logs = points.map(({ x }) => Math.log(x));
  const mx = mean(logs);
  const my = mean(points.map(({ y }) => y));
  let sxx = 0;
  let sxy = 0;
  let syy = 0;
  for (const [i, { y }] of points.entries()) {
    const dx = logs[i]! - mx;
    sxx += dx * dx;
    sxy += dx * (y - my);
    syy += (y - my) ** 2;
  }
  if (sxx === 0) return undefined;
  const b = -sxy / sxx;
  const a = my + b * mx;
  const residual = points.reduce((s, { y }, i) => s + (y - (a - b * logs[i]!)) ** 2, 0);
  const xs = points.map(({ x }) => x);
  return {
    a,
    b,
    r2: syy === 0 ? 1 : 1 - residual / syy,
    rmse: Math.sqrt(residual / n),
    n,
    from: xs.reduce((m, x) => Math.min(m, x)),
    to: xs.reduce((m, x) => Math.max(m, x)),
  };
}

/** Value of the curve `a − b ln x`. */
export function evaluateFit(fit: Pick<LogFit, "a" | "b">, x: number): number {
  return fit.a - fit.b * Math.log(x);
}
