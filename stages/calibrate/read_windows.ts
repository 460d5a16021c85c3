/**
 * Reads what `calibrate` publishes.
 *
 * @module
 */

import type { NodeOutput } from "../../pipeline/stage.ts";
import { parseOutput } from "../parse_output.ts";
import { textsSchema } from "./result.ts";

/** Windows of tokens, one after another. */
export interface ReadWindows {
  readonly tokens: Uint32Array;
  /** Tokens of a window. */
  readonly length: number;
  /** How many there are. */
  readonly windows: number;
}

/** Windows that a `calibrate` node published. */
export async function readWindows(
  node: NodeOutput,
  role: "calibration" | "evaluation",
): Promise<ReadWindows> {
  const texts = parseOutput(node.json("texts"), { schema: textsSchema, what: "texts" });
  const { length, windows } = texts[role];
  const bytes = await Deno.readFile(node.file("windows", `${role}.u32`));
  return { tokens: new Uint32Array(bytes.buffer), length, windows };
}
