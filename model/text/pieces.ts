/**
 * Cuts text into the pieces within which byte pairs merge, in time linear in the text.
 *
 * A tokenizer's regular expression does the same. Regular expressions keep a way back for every character of a run,
 * so a run of a million characters ends `tiktoken`. This scanner looks at each character a bounded number of times and
 * keeps none.
 *
 * @module
 */

/** How the regular expression of one tokenizer differs from that of another. */
export interface PieceRules {
  /** Whether `'S` and `'LL` are pieces as `'s` and `'ll` are. */
  readonly folds_case: boolean;
  /** The character that letters take before them: a space, or any but a letter, a digit and a line break. */
  readonly letters_take: "space" | "any";
  /** Digits of a piece, at most. */
  readonly max_digits: number;
  /** Whether digits take a space before them. */
  readonly digits_take_space: boolean;
  /** Whether punctuation takes the line breaks after it, and white space with a line break ends after the last. */
  readonly cuts_lines: boolean;
}

/** Code units from which on a run is long: `tiktoken` merges the pairs of a piece in quadratic time. */
export const LONG_RUN = 256;

const LETTER = 1;
const DIGIT = 2;
const SPACE = 3;
const OTHER = 4;

const LETTERS = /^\p{L}$/u;
const DIGITS = /^\p{N}$/u;
// JavaScript's \s has U+FEFF and lacks U+0085; that of the tokenizers is Unicode's.
const SPACES = /^\p{White_Space}$/u;

/** Class by code point, filled when a code point is first seen; 0 is not known. */
const classes = new Uint8Array(0x110000);

function classOf(code: number): number {
  const known = classes[code]!;
  if (known !== 0) return known;
  const character = String.fromCodePoint(code);
  const found = LETTERS.test(character)
    ? LETTER
    : DIGITS.test(character)
    ? DIGIT
    : SPACES.test(character)
    ? SPACE
    : OTHER;
  return classes[code] = found;
}

/** Class of the character that begins at `at`; 0 at the end of the text. */
function classAt(text: string, at: number): number {
  const code = text.codePointAt(at);
  return code === undefined ? 0 : classOf(code);
}

/** Code units of the character that begins at `at`. */
function width(text: string, at: number): number {
  return text.codePointAt(at)! > 0xffff ? 2 : 1;
}

/** Whether the code units at `low − 1` and `low` are one character. */
function isPair(text: string, low: number): boolean {
  return low > 0 && text.codePointAt(low - 1)! > 0xffff;
}

function isLineBreak(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code === 10 || code === 13;
}

/** End of the run of `kind` that begins at `at`, of `limit` characters at most. */
function runEnd(text: string, at: number, options: { kind: number; limit?: number }): number {
  const limit = options.limit ?? Infinity;
  let end = at;
  for (let n = 0; n < limit && classAt(text, end) === options.kind; n++) end += width(text, end);
  return end;
}

/** Start of the run of `kind` that ends at `at`, not much before `at − limit`. */
function runStart(text: string, at: number, options: { kind: number; limit: number }): number {
  let start = at;
  while (start > 0 && at - start < options.limit) {
    const before = isPair(text, start - 1) ? start - 2 : start - 1;
    if (classAt(text, before) !== options.kind) break;
    start = before;
  }
  return start;
}

/**
 * Whether a text has a run of {@linkcode LONG_RUN} characters of one class, so that a piece may be long.
 *
 * Such a run covers a multiple of its length, so few characters of ordinary text are looked at.
 */
export function hasLongRun(text: string): boolean {
  for (let next = 0; next < text.length; next += LONG_RUN) {
    // The first half of a pair of surrogates stands for the character.
    const at = isPair(text, next) ? next - 1 : next;
    const kind = classAt(text, at);
    const limit = LONG_RUN;
    const start = runStart(text, at, { kind, limit });
    if (runEnd(text, at, { kind, limit }) - start >= LONG_RUN) return true;
  }
  return false;
}

/**
 * Ends of the pieces of a text, in order; the first piece begins at 0.
 *
 * The rules are those of the regular expression, alternative by alternative, in its order.
 *
 * @param text Without lone surrogates.
 */
export function* pieceEnds(text: string, rules: PieceRules): Generator<number> {
  for (let at = 0; at < text.length;) yield at = pieceEnd(text, at, rules);
}

function pieceEnd(text: string, at: number, rules: PieceRules): number {
  const contraction = contractionEnd(text, at, rules.folds_case);
  if (contraction > at) return contraction;
  const kind = classAt(text, at);
  if (kind === LETTER) return runEnd(text, at, { kind });
  const after = at + width(text, at);
  const next = classAt(text, after);
  const space = text.charCodeAt(at) === 32;
  if (next === LETTER) {
    const taken = rules.letters_take === "space" ? space : kind !== DIGIT && !isLineBreak(text, at);
    if (taken) return runEnd(text, after, { kind: LETTER });
  }
  if (kind === DIGIT) return runEnd(text, at, { kind, limit: rules.max_digits });
  if (space && next === DIGIT && rules.digits_take_space) {
    return runEnd(text, after, { kind: DIGIT, limit: rules.max_digits });
  }
  if (kind === OTHER || (space && next === OTHER)) {
    let end = runEnd(text, kind === OTHER ? at : after, { kind: OTHER });
    if (rules.cuts_lines) { while (isLineBreak(text, end)) end++; }
    return end;
  }
  return spaceEnd(text, at, rules);
}

/** End of a piece of white space: the last character before a word belongs to the next piece. */
function spaceEnd(text: string, at: number, rules: PieceRules): number {
  // Every character of white space is one code unit.
  const end = runEnd(text, at, { kind: SPACE });
  if (rules.cuts_lines) {
    for (let last = end; last > at; last--) if (isLineBreak(text, last - 1)) return last;
  }
  return end === text.length || end - at === 1 ? end : end - 1;
}

const CONTRACTION = /'(?:[stmd]|re|ve|ll)/y;
// With `u`, folding takes the long s (U+017F) for an s, as the tokenizers do.
const FOLDED_CONTRACTION = /'(?:[stmd]|re|ve|ll)/iuy;

/** End of a contraction as `'s` or `'ll` at `at`; `at` if there is none. */
function contractionEnd(text: string, at: number, folds: boolean): number {
  if (text.charCodeAt(at) !== 39) return at;
  const pattern = folds ? FOLDED_CONTRACTION : CONTRACTION;
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : at;
}
