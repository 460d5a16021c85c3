/**
 * An error that lists the problems of a configuration, one a line.
 *
 * @module
 */

/** One thing that is wrong, and where. */
export interface ConfigurationProblem {
  /** `configs/tiny.yaml:12` or `--set model.ffn.d_latent=x`. */
  readonly place: string;
  /** Keys from the top of the configuration, `model.ffn.d_latent`; empty for the file as a whole. */
  readonly path: string;
  /** Says what is wrong and what was expected. */
  readonly message: string;
}

/**
 * A configuration that can't be used. The message lists every problem, one a line:
 * `configs/tiny.yaml:12: model.ffn.d_latnt: unknown key; did you mean d_latent?`.
 *
 * @example
 * ```ts
 * import { ConfigurationError } from "./error.ts";
 * const error = new ConfigurationError([
 *   { place: "a.yaml:3", path: "seed", message: "expected a whole number, got \"x\"" },
 * ]);
 * console.assert(error.message === 'a.yaml:3: seed: expected a whole number, got "x"');
 * ```
 */
export class ConfigurationError extends Error {
  /** Exit code of a command that was given bad input. */
  readonly exitCode = 2;
  /** Every problem, in the order of the file. */
  readonly problems: readonly ConfigurationProblem[];

  /** An error with at least one problem. */
  constructor(problems: readonly ConfigurationProblem[], options?: ErrorOptions) {
    super(
      problems.map(({ place, path, message }) =>
        path === "" ? `${place}: ${message}` : `${place}: ${path}: ${message}`
      ).join("\n"),
      options,
    );
    this.name = "ConfigurationError";
    this.problems = problems;
  }
}
