/**
 * Section 3 of the paper: cached experts, hit rate, effective bandwidth and speed against the size of an expert, from
 * the formulas in `stages/report/theory/cache.ts`. No measurement is involved.
 *
 * @module
 */

import {
  anyCached,
  cachedExperts,
  cachePoint,
  type ExpertCost,
  generatedExpert,
  GH200,
  hitRate,
  type Popularity,
  storedExpert,
} from "../theory/cache.ts";
import type { Chart, ChartSpec, Row } from "./figure.ts";
import { bytesText } from "./series.ts";
import { BINARY_LABELS, COLOR, SMALL_PANEL } from "./style.ts";

/** Sizes that the curves are drawn for. */
export interface CacheSizes {
  /** Experts of a layer, N. */
  readonly num_experts: number;
  /** Width of the residual stream, D. */
  readonly d_model: number;
  /** Hidden width of the hypernetwork. */
  readonly d_hidden: number;
  /** Width of a latent code. */
  readonly d_latent: number;
  /** Experts that one token keeps in one layer, H·k. */
  readonly kept: number;
}

const ZIPF: Popularity = { law: "zipf", alpha: 1 };
const EVEN: Popularity = { law: "even" };

/** Draws the four panels for bf16 experts of 64 B to 64 KiB. */
export function cacheTheory(sizes: CacheSizes): Chart {
  const experts = sizes.num_experts;
  const any = `at least one of ${sizes.kept}`;
  const rows: Row[] = [];
  const push = (panel: string, series: string, bytes: number, value: number) =>
    rows.push({ panel, series, bytes, value });
  for (let exponent = 6; exponent <= 16; exponent += 0.25) {
    const bytes = 2 ** exponent;
    const stored: ExpertCost = { bytes, flops: bytes };
    const cached = cachedExperts(GH200, experts, bytes);
    push("cached", "cached", bytes, cached);
    push("hits", "even use", bytes, 100 * hitRate(cached, experts, EVEN));
    push("hits", "Zipf use", bytes, 100 * hitRate(cached, experts, ZIPF));
    push("hits", any, bytes, 100 * anyCached(cached, experts, sizes.kept));
    for (const [series, popularity] of [["even use", EVEN], ["Zipf use", ZIPF]] as const) {
      const point = cachePoint(GH200, stored, { experts, popularity });
      push("bandwidth", series, bytes, point.bandwidth / 1e12);
    }
    push("rate", "stored", bytes, rate(stored, experts));
    push("rate", "generated", bytes, rate(generatedExpert(bytes / 2, sizes.d_hidden), experts));
  }
  const latent = 2 * sizes.d_latent;
  const peer = 4 * sizes.d_model;
  push("marks", "ETHOS", latent, rate(generatedExpert(sizes.d_latent, sizes.d_hidden), experts));
  push("marks", "PEER", peer, rate(storedExpert(sizes.d_model), experts));
  const color = {
    field: "series",
    type: "nominal",
    scale: {
      domain: ["cached", "even use", "Zipf use", any, "stored", "generated", "ETHOS", "PEER"],
      range: [
        COLOR.blue,
        COLOR.blue,
        COLOR.vermilion,
        COLOR.muted,
        COLOR.purple,
        COLOR.green,
        COLOR.green,
        COLOR.purple,
      ],
    },
    legend: null,
  };
  const log = { scale: { type: "log" }, axis: { format: "~s", tickCount: 4 } };
  return {
    kind: "chart",
    name: "cache_theory",
    title: "Theory: what the size of an expert does to caching and speed",
    alt:
      `Four curves against bytes an expert, ${
        experts.toLocaleString("en-US")
      } experts, ${GH200.name}: fewer experts fit the cache as they grow, ` +
      `hit rate and effective bandwidth fall, and fewer stored experts can be applied a second. ` +
      `An ETHOS latent code has ${bytesText(latent)}, a PEER expert ${bytesText(peer)}.`,
    rows,
    spec: {
      spacing: 26,
      vconcat: [[
        panel("cached", "Experts that fit in the cache", {
          y: log,
          extra: [
            {
              transform: [{ filter: "datum.panel === 'marks'" }],
              mark: { type: "rule", color: COLOR.muted, strokeDash: [2, 3] },
              encoding: { x: { field: "bytes", type: "quantitative" } },
            },
            {
              transform: [{ filter: "datum.panel === 'marks'" }],
              mark: { type: "text", align: "left", dx: 4, baseline: "bottom" },
              encoding: {
                x: { field: "bytes", type: "quantitative" },
                y: { value: SMALL_PANEL.height - 4 },
                text: { field: "series", type: "nominal" },
                color,
              },
            },
          ],
          color,
        }),
        panel("hits", "Hit rate, %", {
          y: { scale: { domain: [0, 100] } },
          labels: { "even use": 1024, "Zipf use": 2048, [any]: 32768 },
          below: any,
          color,
        }),
      ], [
        panel("bandwidth", "Effective bandwidth, TB/s", {
          y: {
            scale: {
              domain: [GH200.memoryBandwidth / 1e12, GH200.cacheBandwidth / 1e12],
              nice: false,
            },
            axis: { tickCount: 4 },
          },
          labels: { "even use": 512, "Zipf use": 1024 },
          color,
        }),
        panel("rate", "Experts applied a second", {
          y: log,
          labels: { "stored": 16384, "generated": 16384 },
          below: "generated",
          extra: [
            {
              transform: [{ filter: "datum.panel === 'marks'" }],
              mark: { type: "point", filled: true, size: 60, opacity: 1 },
              encoding: { ...position(log), color },
            },
            ...(["ETHOS", "PEER"] as const).map((series) => ({
              transform: [{ filter: `datum.panel === 'marks' && datum.series === '${series}'` }],
              mark: series === "ETHOS"
                ? { type: "text", align: "right", dx: -7, dy: 9, fontWeight: 600 }
                : { type: "text", align: "left", dx: 7, dy: -9, fontWeight: 600 },
              encoding: { ...position(log), color, text: { field: "series", type: "nominal" } },
            })),
          ],
          color,
        }),
      ]].map((hconcat) => ({ spacing: 64, bounds: "flush", hconcat })),
    },
  };
}

function rate(cost: ExpertCost, experts: number): number {
  return cachePoint(GH200, cost, { experts, popularity: ZIPF }).rate;
}

function position(y: ChartSpec): ChartSpec {
  return {
    x: {
      field: "bytes",
      type: "quantitative",
      title: "bytes read for an expert (bf16)",
      scale: { type: "log", base: 2, domain: [64, 65536], nice: false },
      axis: { values: [64, 256, 1024, 4096, 16384, 65536], labelExpr: BINARY_LABELS },
    },
    y: { field: "value", type: "quantitative", title: null, ...y },
  };
}

function panel(
  name: string,
  title: string,
  options: {
    y: ChartSpec;
    color: ChartSpec;
    /** Where each line's name stands, in bytes. */
    labels?: Readonly<Record<string, number>>;
    /** The series whose name stands below its line. */
    below?: string;
    extra?: readonly ChartSpec[];
  },
): ChartSpec {
  const { color, labels = {}, extra = [] } = options;
  const encoding = position(options.y);
  return {
    ...SMALL_PANEL,
    title,
    layer: [
      {
        transform: [{ filter: `datum.panel === '${name}'` }],
        mark: { type: "line" },
        encoding: { ...encoding, color },
      },
      ...Object.entries(labels).map(([series, bytes]) => ({
        transform: [{
          filter:
            `datum.panel === '${name}' && datum.series === '${series}' && datum.bytes === ${bytes}`,
        }],
        mark: series === options.below
          ? { type: "text", align: "right", dx: -4, dy: 8 }
          : { type: "text", align: "left", dx: 5, dy: -8 },
        encoding: { ...encoding, color, text: { field: "series", type: "nominal" } },
      })),
      ...extra,
    ],
  };
}
