/**
 * Section 3: the effect of an expert's size on caching, bandwidth and speed.
 *
 * A model of one level of cache (L2) over device memory. Experts of `s` bytes, `N` of them, are read whole. It is
 * **ours**: the paper draws these four curves, and its lead author's earlier manuscript ("Novel Scaling Laws for MoE
 * Architectures") gives a related model, of which {@linkcode anyCached} is one formula. Ours counts the
 * chance that *the* expert that is needed is cached, not that at least one of those needed is. It averages bandwidth
 * by time (harmonically), not by fraction.
 *
 * | quantity | formula |
 * | --- | --- |
 * | cached experts | `n = min(N, ⌊C / s⌋)` |
 * | hit rate, even use | `h = n / N` |
 * | hit rate, Zipf use, the most used ones cached | `h = Σ_{i≤n} i^−α / Σ_{i≤N} i^−α` |
 * | effective bandwidth | `B = 1 / (h / B_cache + (1 − h) / B_memory)` |
 * | experts a second | `min(B / s, F / f)` with peak `F` FLOP/s and `f` FLOPs an expert |
 *
 * @module
 */

/** A processor with one cache over its memory. */
export interface CacheDevice {
  readonly name: string;
  /** Capacity of the cache, bytes. */
  readonly cacheBytes: number;
  /** Read bandwidth of the cache, bytes a second. */
  readonly cacheBandwidth: number;
  /** Read bandwidth of device memory, bytes a second. */
  readonly memoryBandwidth: number;
  /** Peak arithmetic, FLOP/s. */
  readonly peakFlops: number;
}

/**
 * GH200 with HBM3, the paper's machine. Capacity, memory bandwidth and dense bf16 peak are the vendor's; the cache's
 * bandwidth is not published, and 5.5 TB/s is an assumption in the range of public micro-benchmarks of H100.
 */
export const GH200: CacheDevice = {
  name: "GH200",
  cacheBytes: 50 * 2 ** 20,
  cacheBandwidth: 5.5e12,
  memoryBandwidth: 4.0e12,
  peakFlops: 989e12,
};

/** How tokens choose experts: evenly, or by Zipf's law with exponent `alpha`. */
export type Popularity = { readonly law: "even" } | {
  readonly law: "zipf";
  readonly alpha: number;
};

/** Experts that fit into the cache, at most all of them. */
export function cachedExperts(device: CacheDevice, experts: number, bytes: number): number {
  if (!(bytes > 0)) throw new RangeError(`An expert of ${bytes} bytes; expected more than 0`);
  return Math.min(experts, Math.floor(device.cacheBytes / bytes));
}

/**
 * Chance that the expert that is needed is among the `cached` of `experts`, the most used ones being kept.
 *
 * @example
 * ```ts
 * import { hitRate } from "./cache.ts";
 * console.assert(hitRate(50, 100, { law: "even" }) === 0.5);
 * console.assert(hitRate(50, 100, { law: "zipf", alpha: 1 }) > 0.8);
 * ```
 */
export function hitRate(cached: number, experts: number, popularity: Popularity): number {
  if (cached >= experts) return 1;
  if (popularity.law === "even") return cached / experts;
  const sums = zipfSums(experts, popularity.alpha);
  return cached === 0 ? 0 : sums[cached - 1]! / sums[experts - 1]!;
}

/** Partial sums of `i^−α`; computed once a law, since curves ask for many points. */
const zipfCache = new Map<string, Float64Array>();

function zipfSums(experts: number, alpha: number): Float64Array {
  const key = `${experts}:${alpha}`;
  let sums = zipfCache.get(key);
  if (sums === undefined) {
    sums = new Float64Array(experts);
    let total = 0;
    for (let i = 0; i < experts; i++) sums[i] = total += (i + 1) ** -alpha;
    zipfCache.set(key, sums);
  }
  return sums;
}

/**
 * Chance that at least one of `needed` experts is cached, `1 − (1 − n/N)^needed`: the earlier manuscript's hit rate.
 * It approaches 1 long before most reads are hits, and bounds nothing that a kernel waits for.
 */
export function anyCached(cached: number, experts: number, needed: number): number {
  return 1 - (1 - cached / experts) ** needed;
}

/** Bytes a second when a fraction `hits` of them comes from the cache: times add, bandwidths don't. */
export function effectiveBandwidth(device: CacheDevice, hits: number): number {
  return 1 / (hits / device.cacheBandwidth + (1 - hits) / device.memoryBandwidth);
}

/** The cost of applying one expert to one token. */
export interface ExpertCost {
  /** Bytes read. */
  readonly bytes: number;
  /** Floating-point operations. */
  readonly flops: number;
}

/** A stored single-neuron expert, `u` and `v` of `width` numbers each: a product and a sum with each number read. */
export function storedExpert(width: number, bytesPerNumber = 2): ExpertCost {
  return { bytes: 2 * width * bytesPerNumber, flops: 4 * width };
}

/** A generated expert: its latent code is read, `d_latent × d_hidden` products make it, two passes over `d_hidden` use it. */
export function generatedExpert(dLatent: number, dHidden: number, bytesPerNumber = 2): ExpertCost {
  return { bytes: dLatent * bytesPerNumber, flops: 2 * dLatent * dHidden + 4 * dHidden };
}

/** One point of section 3's curves. */
export interface CachePoint {
  /** Experts that fit the cache. */
  readonly cached: number;
  /** Share of reads that hit. */
  readonly hits: number;
  /** Bytes a second. */
  readonly bandwidth: number;
  /** Experts applied a second. */
  readonly rate: number;
  /** The limit of the rate. */
  readonly bound: "bandwidth" | "arithmetic";
}

/** All of section 3's quantities for one kind of expert. */
export function cachePoint(
  device: CacheDevice,
  cost: ExpertCost,
  options: { experts: number; popularity: Popularity },
): CachePoint {
  const cached = cachedExperts(device, options.experts, cost.bytes);
  const hits = hitRate(cached, options.experts, options.popularity);
  const bandwidth = effectiveBandwidth(device, hits);
  const byBandwidth = bandwidth / cost.bytes;
  const byArithmetic = device.peakFlops / cost.flops;
  return {
    cached,
    hits,
    bandwidth,
    rate: Math.min(byBandwidth, byArithmetic),
    bound: byBandwidth < byArithmetic ? "bandwidth" : "arithmetic",
  };
}
