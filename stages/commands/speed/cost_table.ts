/**
 * How a training step's time a token grows along each axis of the suite `cost`: exponents of the step and of its parts, and where they bend.
 *
 * @module
 */

import { PHASES } from "../../../model/bench/measure/step_profile.ts";
import { PARTS } from "../../../model/bench/measure/step_report.ts";
import { COST_AXES, type CostAxis } from "../../../model/bench/suites/cost_suite.ts";
import type { BenchEntry } from "../../../model/bench/suites/suite.ts";
import { formatTable } from "../../../pipeline/terminal/table.ts";
import {
  exponentInterval,
  fitPower,
  type Interval,
  type PowerPoint,
} from "../../report/theory/power_law.ts";
import { showBytes, showCount, showSeconds, showShare, threeDigits } from "./quantities.ts";

/** A quantity a token along an axis: seconds of the step, of a phase or of a part of the model, or operations. */
export interface CostSeries {
  readonly of: "step" | "phase" | "part" | "operations";
  /** `backward`, `attention`; of a step `step` (its median) and `fastest`. */
  readonly name: string;
  /** Quantity a token by value of the axis, ascending; a point where it is 0 is in no fit. */
  readonly points: readonly PowerPoint[];
  /** Slope of its logarithm over that of the axis; absent with fewer than two points. */
  readonly exponent?: number;
  /** 95 % interval of the slope by the residuals, from three points on. */
  readonly interval?: Interval;
  /** Slopes between neighbours. */
  readonly local: readonly {
    readonly from: number;
    readonly to: number;
    readonly exponent: number;
  }[];
  /** Of phases and parts: share of the change of all of them from the first point to the last; below 0 where it goes the other way. */
  readonly of_change?: number;
}

/** An axis as it was measured. */
export interface CostGrowth {
  readonly axis: CostAxis;
  readonly series: readonly CostSeries[];
  /**
   * The point at which the exponent of both the median and the fastest step changes most, with the median's exponents before and behind it. Absent where they do not
   * agree at any point, as beside work that comes and goes, and with fewer than three points.
   */
  readonly bend?: { readonly at: number; readonly before: number; readonly after: number };
}

const valueOf = ({ params }: BenchEntry) => Number(params["value"]);
const tokensOf = ({ tokens_per_second, median }: BenchEntry) => tokens_per_second! * median;

function entriesOf(entries: readonly BenchEntry[], axis: CostAxis): BenchEntry[] {
  return entries.filter(({ suite, params }) => suite === "cost" && params["axis"] === axis)
    .sort((a, b) => valueOf(a) - valueOf(b));
}

/** Fits every axis that has entries. */
export function costGrowths(entries: readonly BenchEntry[]): CostGrowth[] {
  return COST_AXES.flatMap((axis): CostGrowth[] => {
    const own = entriesOf(entries, axis);
    if (own.length === 0) return [];
    const series = (
      of: CostSeries["of"],
      name: string,
      value: (entry: BenchEntry) => number | undefined,
    ) => {
      const points = own.map((entry) => ({
        x: valueOf(entry),
        y: (value(entry) ?? 0) / tokensOf(entry),
      }));
      return fitSeries({ of, name, points });
    };
    const step = series("step", "step", ({ median }) => median);
    const divided = { phase: PHASES, part: PARTS };
    const parts = (["phase", "part"] as const).flatMap((of) =>
      withChanges(divided[of].map((name) => series(of, name, ({ parts }) => parts?.[of][name])))
    );
    const operations = series("operations", "operations", ({ flops }) => flops);
    const fastest = series("step", "fastest", ({ min }) => min);
    const bend = bendOf(step.local, fastest.local);
    return [{ axis, series: [step, fastest, ...parts, operations], ...bend && { bend } }];
  });
}

/** Fits a series; zeros have no logarithm and are left out. */
export function fitSeries(
  { of, name, points }: Pick<CostSeries, "of" | "name" | "points">,
): CostSeries {
  const fitted = points.filter(({ y }) => y > 0);
  const law = fitPower(fitted);
  const interval = exponentInterval(fitted);
  const local = fitted.slice(1).flatMap((point, i) => {
    const before = fitted[i]!;
    const slope = fitPower([before, point]);
    return slope ? [{ from: before.x, to: point.x, exponent: slope.exponent }] : [];
  });
  return {
    ...{ of, name, points, local },
    ...law && { exponent: law.exponent },
    ...interval && { interval },
  };
}

/** Drops series that are zero everywhere, and gives the others their shares of the change. */
function withChanges(all: readonly CostSeries[]): CostSeries[] {
  const change = ({ points }: CostSeries) => points.at(-1)!.y - points[0]!.y;
  const whole = all.reduce((sum, series) => sum + change(series), 0);
  return all.filter(({ points }) => points.some(({ y }) => y > 0))
    .map((series) => whole === 0 ? series : { ...series, of_change: change(series) / whole });
}

function bendOf(step: CostSeries["local"], fastest: CostSeries["local"]): CostGrowth["bend"] {
  const bends = step.slice(1).map(({ from, exponent }, i) => {
    const before = step[i]!.exponent;
    const changes = [exponent - before, fastest[i + 1]!.exponent - fastest[i]!.exponent];
    const agreed = changes[0]! * changes[1]! > 0 ? Math.min(...changes.map(Math.abs)) : 0;
    return { agreed, bend: { at: from, before, after: exponent } };
  }).filter(({ agreed }) => agreed > 0);
  return bends.toSorted((a, b) => b.agreed - a.agreed)[0]?.bend;
}

/** A number that may be below 0, as a table shows it. */
const signed = (text: string) => /^-0\.?0*$/.test(text) ? text.slice(1) : text.replace("-", "−");
const two = (exponent: number) => signed(exponent.toFixed(2));
const share = (fraction: number) => signed(showShare(fraction));

/** The tables of all axes as text: the points, then step and parts a token with their exponents, then what bends. */
export function renderCosts(
  growths: readonly CostGrowth[],
  entries: readonly BenchEntry[],
): string[] {
  return growths.flatMap(({ axis, series, bend }) => {
    const own = entriesOf(entries, axis);
    const [step] = series;
    const points = formatTable(
      ["cost", "tokens/s", "step", "min", "max", "a token", "exponent", "memory"],
      own.map((entry) => {
        const slope = step!.local.find(({ to }) => to === valueOf(entry));
        return [
          `${axis} ${showCount(valueOf(entry))}`,
          showCount(entry.tokens_per_second!),
          ...[entry.median, entry.min, entry.max].map(showSeconds),
          showSeconds(1 / entry.tokens_per_second!),
          slope ? two(slope.exponent) : "–",
          showBytes(entry.peak_bytes ?? 0),
        ];
      }),
    );
    const parts = formatTable(
      [
        `${axis}: a token`,
        ...own.map((entry) => showCount(valueOf(entry))),
        ...["exponent", "95 %", "of change"],
      ],
      series.map(({ of, name, points, exponent, interval, of_change }) => [
        of === "part" ? `· ${name}` : name,
        ...points.map(({ y }) =>
          y === 0 ? "–" : of === "operations" ? `${threeDigits(y / 1e6)} MFLOP` : showSeconds(y)
        ),
        exponent === undefined ? "–" : two(exponent),
        interval ? `${two(interval.low)} to ${two(interval.high)}` : "–",
        of_change === undefined ? "–" : share(of_change),
      ]),
    );
    const parted = series.filter(({ of, of_change }) => of === "part" && of_change !== undefined)
      .toSorted((a, b) => b.of_change! - a.of_change!)[0];
    const told = bend &&
      `${axis} bends most at ${showCount(bend.at)}, from an exponent of ${two(bend.before)} to ${
        two(bend.after)
      }.${
        parted
          ? ` Of the change of a token's time ${share(parted.of_change!)} is ${parted.name}.`
          : ""
      }`;
    return [points, parts, ...told ? [told] : []];
  });
}
