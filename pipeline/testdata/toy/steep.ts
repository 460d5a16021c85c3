/** The rate that a steep training works with. */
export function steep(rate: number): number {
  return rate / 2;
}
