/**
 * Cuts long texts into documents of a few kilobytes, at chapters, paragraphs or sentences.
 *
 * The split into train and validation goes by document: a book in one piece would be all of one or all of the other.
 *
 * @module
 */

/** Characters from which on a document ends at the next paragraph. */
const TARGET = 3000;
/** Characters that no document has more of, unless it has no space. */
const MAXIMUM = 8000;
/** Characters that a document has before a heading begins the next. */
const MINIMUM = 1000;

const HEADING =
  /^(?:CHAPTER|Chapter|VOLUME|BOOK|Book|ACT|SCENE|PART|ETYMOLOGY|EXTRACTS)\b|^[IVXLC]+\.?$/;

/**
 * Cuts a text whose paragraphs are separated by blank lines.
 *
 * @example
 * ```ts
 * import { cutText } from "./cut.ts";
 * console.assert(cutText("One.\n\nTwo.").length === 1);
 * ```
 *
 * @returns Documents in the text's order; together they have all its words.
 */
export function cutText(text: string): string[] {
  const documents: string[] = [];
  let parts: string[] = [];
  let length = 0;
  const end = () => {
    if (length > 0) documents.push(parts.join("\n\n"));
    parts = [];
    length = 0;
  };
  for (const whole of splitParagraphs(text)) {
    // An expression for the white space at the end takes quadratic time for a long run in the middle.
    const paragraph = whole.replace(/^\n+/, "").trimEnd();
    if (paragraph.trim() === "") continue;
    if (length >= MINIMUM && HEADING.test(paragraph)) end();
    for (const piece of cutParagraph(paragraph)) {
      if (length + piece.length > MAXIMUM) end();
      parts.push(piece);
      length += piece.length + 2;
      if (length >= TARGET) end();
    }
  }
  end();
  return documents;
}

/**
 * The parts of a text between blank lines, without the indent after them.
 *
 * `text.split(/\n[ \t]*(?:\n[ \t]*)+/)` does the same, but keeps a way back for every blank line: millions of them end
 * in a stack overflow.
 */
export function* splitParagraphs(text: string): Generator<string> {
  let start = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at)) {
    let last = at;
    let end = at + 1;
    for (; end < text.length; end++) {
      const character = text[end];
      if (character === "\n") last = end;
      else if (character !== " " && character !== "\t") break;
    }
    if (last > at) {
      yield text.slice(start, at);
      start = end;
    }
    at = end;
  }
  yield text.slice(start);
}

/** Cuts a paragraph that is too long for a document after a sentence, or where that is not possible after a word. */
function* cutParagraph(paragraph: string): Generator<string> {
  let rest = paragraph;
  while (rest.length > MAXIMUM) {
    const window = rest.slice(0, MAXIMUM);
    let end = -1;
    for (const match of window.matchAll(/[.!?]["')]*\s+(?=["'(]*[A-Z])/g)) {
      end = match.index + match[0].length;
      if (end >= TARGET) break;
    }
    if (end < MINIMUM) end = window.search(/\s\S*$/) + 1;
    if (end <= 0) {
      // One word of thousands of characters: cut it, but not within a surrogate pair.
      end = /[\uD800-\uDBFF]$/.test(window) ? MAXIMUM - 1 : MAXIMUM;
    }
    const piece = rest.slice(0, end).trimEnd();
    if (piece !== "") yield piece;
    rest = rest.slice(end);
  }
  if (rest !== "") yield rest;
}
