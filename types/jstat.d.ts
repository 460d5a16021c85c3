/** Declarations for the parts of `jstat` that the project uses. */
export interface StudentT {
  /** Probability that a variable with `dof` degrees of freedom is at most `x`. */
  cdf(x: number, dof: number): number;
  /** Quantile: the `x` at which `cdf` is `p`. */
  inv(p: number, dof: number): number;
}
declare const jstat: { readonly studentt: StudentT };
export default jstat;
