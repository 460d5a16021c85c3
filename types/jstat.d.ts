/** Declarations for the parts of `jstat` that the project uses. */
export interface StudentT {
  /** Probability that a variable with `dof` degrees of freedom is at most `x`. */
  cdf(x: number, dof: number): number;
  /** Quantile: the `x` at which `cdf` is `p`. */
  inv(p: number, dof: number): number;
}
/** The normal distribution. */
export interface Normal {
  /** Probability that a variable is at most `x`. */
  cdf(x: number, mean: number, standardDeviation: number): number;
  /** Density at `x`. */
  pdf(x: number, mean: number, standardDeviation: number): number;
  /** Quantile: the `x` at which `cdf` is `p`. */
  inv(p: number, mean: number, standardDeviation: number): number;
}
declare const jstat: { readonly studentt: StudentT; readonly normal: Normal };
export default jstat;
