/**
 * Text whose documents stand apart by a separator, such as `<|endoftext|>` between stories.
 *
 * @module
 */

/** Characters that no document has more of: a separator that does not occur is found out before memory is full. */
const MAX_DOCUMENT = 2 ** 24;

/** How to split a text. */
export interface SeparatorOptions {
  /** Name of the file, for messages. */
  readonly name: string;
  /** Text between two documents. */
  readonly separator: string;
  /** Name of the setting that holds the separator, for messages; `data.files.separator` unless given. */
  readonly setting?: string | undefined;
}

/**
 * Documents of a text, as a stream: what stands before, between and after the separators, without white space around it.
 * One that has nothing else is left out. A line ends in `\n`, whatever it ended in.
 *
 * @param chunks UTF-8; a character may be in two of them.
 * @throws {Error} Naming the file, if a document has more than 16 Mi characters.
 */
export async function* splitText(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: SeparatorOptions,
): AsyncGenerator<string> {
  const { name, setting = "data.files.separator" } = options;
  const separator = options.separator.replaceAll("\r\n", "\n");
  const decoder = new TextDecoder();
  let text = "";
  let documents = 0;
  // Characters of `text` in which no separator begins.
  let searched = 0;
  // The line end that a chunk's last character begins may be two characters.
  let held = "";
  function* cut(): Generator<string> {
    let start = 0;
    for (let at; (at = text.indexOf(separator, Math.max(start, searched))) >= 0;) {
      documents++;
      const document = text.slice(start, at).trim();
      if (document !== "") yield document;
      start = at + separator.length;
    }
    text = text.slice(start);
    searched = Math.max(0, text.length - separator.length + 1);
    if (text.length > MAX_DOCUMENT) {
      throw new Error(
        `${name}: document ${documents + 1} has more than ${
          MAX_DOCUMENT / 2 ** 20
        } Mi characters; expected ${setting} ${JSON.stringify(separator)} between documents`,
      );
    }
  }
  for await (const chunk of chunks) {
    const more = held + decoder.decode(chunk, { stream: true });
    held = more.endsWith("\r") ? "\r" : "";
    text += more.slice(0, more.length - held.length).replaceAll("\r\n", "\n");
    yield* cut();
  }
  text += held + decoder.decode();
  yield* cut();
  const last = text.trim();
  if (last !== "") yield last;
}
