/**
 * Pages of a program's own in the dashboard, beside those of the engine.
 *
 * @module
 */

import type { Arguments, OptionSpec } from "yargs";

/** One page. It answers requests that have passed the dashboard's checks: GET, from loopback's names. */
export interface DashboardPage {
  /** Its place: `/experts`. It answers this and all below it. */
  readonly path: string;
  /** Its name in the list of pages. */
  readonly title: string;
  /** The answer to a path at or below its place; a `RequestError` refuses in a sentence. */
  answer(url: URL): Promise<Response>;
}

/** Pages of a program, and the options of `dashboard` that they take. */
export interface ProgramPages {
  /** Options, without `--`. */
  readonly options: Readonly<Record<string, OptionSpec>>;
  /** Makes the pages; a `UserError` refuses the command. `root` is the program's folder. */
  open(
    args: Arguments,
    context: { readonly root: string; readonly title: string },
  ): Promise<readonly DashboardPage[]>;
}
