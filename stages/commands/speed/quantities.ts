/**
 * Measured quantities as people read them.
 *
 * @module
 */

/** Seconds in the unit that fits: `12.3 µs`, `4.56 ms`, `1.23 s`. */
export function showSeconds(seconds: number): string {
  if (seconds >= 1) return `${threeDigits(seconds)} s`;
  return seconds >= 1e-3 ? `${threeDigits(seconds * 1e3)} ms` : `${threeDigits(seconds * 1e6)} µs`;
}

/** Bytes in the unit that fits: `512 B`, `1.50 MiB`, `16.2 GiB`. */
export function showBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length, Math.floor(Math.log2(bytes) / 10));
  return `${threeDigits(bytes / 1024 ** power)} ${units[power - 1]}`;
}

/** A fraction of 0 to 1 in per cent. */
export function showShare(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** Three significant digits, and all digits before the point. */
export function threeDigits(value: number): string {
  if (value === 0) return "0";
  const digits = 2 - Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.max(0, Math.min(6, digits)));
}

/** A whole number with its thousands apart. */
export function showCount(value: number): string {
  return Math.round(value).toLocaleString("en-GB");
}
