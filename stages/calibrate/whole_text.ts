/**
 * Text of files as one, for a published model: cut into documents it would have other tokens.
 *
 * @module
 */

import { readBytes } from "../download/sources/document.ts";
import { utf8Bytes } from "../download/sources/encoding.ts";
import { readFiles } from "../download/sources/files.ts";

/** Between texts of several files, or several records of JSON. */
const BETWEEN = "\n\n";

/** How to read files. */
export interface WholeTextOptions {
  /** Key of the text in JSON. */
  readonly text_field?: string | undefined;
  /** Encoding of files without a byte-order mark; UTF-8 unless given. */
  readonly encoding?: string | undefined;
  /** Name of the setting that holds the encoding, for messages; `--encoding` unless given. */
  readonly setting?: string | undefined;
}

/**
 * Plain text as it is, and the records of JSON, each without its trailing line ends, joined by two line ends. All of it is in memory.
 *
 * @throws {Error} Naming the file that can't be read.
 */
export async function readWhole(
  files: readonly string[],
  { text_field, encoding, setting = "--encoding" }: WholeTextOptions,
): Promise<string> {
  const settings = { encoding: setting, separator: "--separator" };
  const texts: string[] = [];
  const add = (text: string) => {
    const trimmed = text.replace(/[\r\n]+$/, "");
    if (trimmed !== "") texts.push(trimmed);
  };
  for (const path of files) {
    if (/\.txt(?:\.gz)?$/.test(path)) {
      const decoder = new TextDecoder();
      let text = "";
      for await (
        const chunk of utf8Bytes(readBytes(path, {}), {
          name: path,
          encoding,
          setting: settings.encoding,
        })
      ) {
        text += decoder.decode(chunk, { stream: true });
      }
      add(text + decoder.decode());
    } else {
      for await (const { text } of readFiles([path], { text_field, encoding, settings })) add(text);
    }
  }
  return texts.join(BETWEEN);
}
