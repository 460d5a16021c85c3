/**
 * Fields that the sections `data.files` and `data.hub` share.
 *
 * @module
 */

import { z } from "zod";
import { encodingName } from "./encoding.ts";

/** Encoding of text without a byte-order mark. */
export const encoding: z.ZodString = z.string().refine(
  (label) => encodingName(label) !== undefined,
  {
    error: (issue) =>
      `${
        JSON.stringify(issue.input)
      } is not an encoding; expected one that TextDecoder knows, such as utf-8, latin1 or utf-16le`,
  },
).describe("encoding of files without a byte-order mark; utf-8 unless given");

/** Text between the documents of plain text. */
export const separator: z.ZodString = z.string().min(1, "separator must not be empty")
  .describe(
    "what stands between the documents of .txt, such as <|endoftext|>; cut by length unless given",
  );
