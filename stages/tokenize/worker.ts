/**
 * Worker of the tokenise stage: lines of JSON in; tokens, sizes and hashes out.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { openEncoding, type Tokenizer } from "../../model/text/tokenizer.ts";
import { message, parseLines } from "../download/sources/document.ts";
import { HASH_BYTES, type TokenizeJob, type TokenizeResult } from "./pool.ts";

/** The part of a worker's global scope that is used; the compiler knows a window's. */
const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<TokenizeJob>) => Promise<void>;
  postMessage(reply: unknown, transfer?: readonly Transferable[]): void;
};

scope.onmessage = async ({ data }) => {
  try {
    const result = await tokenizeBatch(data);
    scope.postMessage(result, [
      result.hashes.buffer,
      result.bytes.buffer,
      result.lengths.buffer,
      result.tokens.buffer,
    ]);
  } catch (error) {
    scope.postMessage({ error: message(error) });
  }
};

async function tokenizeBatch(job: TokenizeJob): Promise<TokenizeResult> {
  const tokenizer = await openEncoding(job.encoding);
  const documents = Array.from(parseLines(job, { name: job.name }));
  const hashes = new Uint8Array(documents.length * HASH_BYTES);
  const bytes = new Uint32Array(documents.length);
  const lengths = new Uint32Array(documents.length);
  const parts: Uint32Array[] = [];
  let total = 0;
  const encoder = new TextEncoder();
  documents.forEach(({ text, line }, index) => {
    const utf8 = encoder.encode(text);
    const digest = createHash("sha256").update(utf8).digest();
    hashes.set(digest.subarray(0, HASH_BYTES), index * HASH_BYTES);
    bytes[index] = utf8.length;
    const ids = encode(text, { tokenizer, where: `${job.name}: line ${line}` });
    lengths[index] = ids.length;
    total += ids.length;
    parts.push(ids);
  });
  const tokens = new Uint32Array(total);
  let at = 0;
  for (const part of parts) {
    tokens.set(part, at);
    at += part.length;
  }
  return { hashes, bytes, lengths, tokens };
}

/** Ids of a text; an error says where it stands. */
function encode(text: string, options: { tokenizer: Tokenizer; where: string }): Uint32Array {
  try {
    return options.tokenizer.encode(text);
  } catch (error) {
    throw new Error(
      `${options.where} can't be tokenised, ${text.length} characters: ${message(error)}`,
    );
  }
}
