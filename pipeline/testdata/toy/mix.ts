/** A number that looks random. */
export function mix(x: number): number {
  return Math.imul(x ^ (x >>> 15), 0x2c1b3c6d) >>> 8;
}
