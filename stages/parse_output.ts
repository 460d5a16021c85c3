/**
 * Reads what another stage published, as its schema types it.
 *
 * @module
 */

import type { z } from "zod";
import type { JsonValue } from "../pipeline/stage.ts";

/**
 * The typed value of an output.
 *
 * @throws {Error} When it has another shape, naming the output and the path.
 *
 * @example
 * ```ts
 * import { z } from "zod";
 * import { parseOutput } from "./parse_output.ts";
 * const about = parseOutput({ count: 3 }, { schema: z.object({ count: z.int() }), what: "about" });
 * console.assert(about.count === 3);
 * ```
 */
export function parseOutput<Value>(
  value: JsonValue,
  options: { schema: z.ZodType<Value>; what: string },
): Value {
  const parsed = options.schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue?.path.join(".") || "its top";
  throw new Error(`The output ${options.what} is malformed at ${path}: ${issue?.message}`);
}
