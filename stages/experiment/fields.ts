/**
 * Fields that the configurations of all kinds of experiments have.
 *
 * @module
 */

import { z } from "zod";

/** A folder inside the project. */
export const folder = z.string().min(1).max(200).refine(
  (path) => !path.startsWith("/") && !path.split(/[\\/]/).includes("..") && !/[\0:]/.test(path),
  { error: (issue) => `${JSON.stringify(issue.input)} is not a folder inside the project` },
);
