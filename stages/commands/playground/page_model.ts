/**
 * The parts of a model as its page gets them: scripts, since a page that was opened as a file may load scripts and nothing else.
 *
 * `model.js` calls `playground.model(…)` once, then each file of weights calls `playground.part(…)` for pieces of tensors.
 *
 * @module
 */

import type { ModelConfig } from "../../../model/section.ts";
import type { EncodingName, Vocabulary } from "../../../model/text/vocabulary.ts";

/** Everything of a model but its weights. */
export interface PageModel {
  /** Name that the page shows. */
  readonly name: string;
  readonly config: ModelConfig;
  readonly vocabulary: Vocabulary;
  /** The encoding by which text is cut, and its ranks as `tiktoken` ships them. */
  readonly encoding: EncodingName;
  readonly ranks: string;
  /** Bytes of each tensor, f32. */
  readonly tensors: Readonly<Record<string, number>>;
}

/** The functions that the scripts of a model call. */
export interface PageScripts {
  /** Takes the model. */
  model(model: PageModel): void;
  /** Takes bytes of a tensor, base64 of little-endian f32, from byte `offset` on. */
  part(tensor: string, offset: number, base64: string): void;
}

/** The global name of {@linkcode PageScripts}. */
export const PAGE_GLOBAL = "playground";

/** The text of `model.js`. */
export function modelScript(model: PageModel): string {
  return `${PAGE_GLOBAL}.model(${JSON.stringify(model)});\n`;
}

/** One line of a file of weights. */
export function partScript(tensor: string, offset: number, bytes: Uint8Array): string {
  const { toBase64 } = bytes as Uint8Array & { toBase64(): string };
  return `${PAGE_GLOBAL}.part(${JSON.stringify(tensor)}, ${offset}, "${toBase64.call(bytes)}");\n`;
}
