/**
 * The parts of a golden file that every case has.
 *
 * @module
 */

/** A tensor of a golden file. */
export interface GoldenTensor {
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** Row-major values. */
  readonly data: Float64Array;
  /** Whether the file holds whole numbers: indices, which must be equal. */
  readonly whole: boolean;
}

/** The properties of every case. */
export interface CaseBase {
  /** Name of the file. */
  readonly file: string;
  /** Inputs and weights under the file's own names. */
  readonly inputs: ReadonlyMap<string, GoldenTensor>;
  /** Results under the file's own names. */
  readonly expected: ReadonlyMap<string, GoldenTensor>;
}
