/**
 * From tokens to text that clients get: whole characters, cut before a stop sequence, with the place of each token.
 *
 * @module
 */

import type { Tokenizer } from "../../../model/text/tokenizer.ts";

/** A token and where its text begins. */
export interface PlacedToken<Info> {
  readonly info: Info;
  /** Characters (Unicode code points) before it. */
  readonly offset: number;
}

/** A piece of text, and the tokens that begin in it. */
export interface TextPiece<Info> {
  readonly text: string;
  readonly tokens: readonly PlacedToken<Info>[];
}

/** Options of {@linkcode TokenText}. */
export interface TokenTextOptions {
  /** Texts that end the text before them. */
  readonly stop: readonly string[];
  /** Whether the first token has a space before it that the text has not. */
  readonly trim: boolean;
  /** Characters before the text. */
  readonly offset: number;
}

/** A token, its place and the units of UTF-16 before it. */
interface Pending<Info> extends PlacedToken<Info> {
  readonly start: number;
}

/** Joins tokens to text. A character that is not whole waits, and so does what a stop sequence may begin with. */
export class TokenText<Info> {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  readonly #tokenizer: Tokenizer;
  readonly #stop: readonly string[];
  #trim: boolean;
  /** Units and characters of the text so far, and the part of it that waits. */
  #units = 0;
  #characters: number;
  #waiting = "";
  #tokens: Pending<Info>[] = [];

  constructor(tokenizer: Tokenizer, { stop, trim, offset }: TokenTextOptions) {
    this.#tokenizer = tokenizer;
    this.#stop = stop;
    this.#trim = trim;
    this.#characters = offset;
  }

  /** Adds a token. @returns What may be told now, and whether a stop sequence ended the text. */
  add(token: number, info: Info): TextPiece<Info> & { readonly stopped: boolean } {
    this.#place(info);
    let text = this.#decoder.decode(this.#tokenizer.decodeBytes([token]), { stream: true });
    if (this.#trim && text !== "") {
      text = text.replace(/^ /, "");
      this.#trim = false;
    }
    this.#append(text);
    const at = this.#stop.map((stop) => this.#waiting.indexOf(stop)).filter((at) => at >= 0);
    if (at.length > 0) return { ...this.#release(Math.min(...at)), stopped: true };
    return { ...this.#release(this.#waiting.length - this.#heldBack()), stopped: false };
  }

  /** Ends the text. `info` is of a last token that has no text. @returns What waited. */
  end(info?: Info): TextPiece<Info> {
    this.#append(this.#decoder.decode());
    if (info !== undefined) this.#place(info);
    const { text, tokens } = this.#release(this.#waiting.length);
    return { text, tokens: [...tokens, ...this.#tokens.splice(0)] };
  }

  #place(info: Info): void {
    this.#tokens.push({ info, offset: this.#characters, start: this.#units });
  }

  #append(text: string): void {
    this.#waiting += text;
    this.#units += text.length;
    this.#characters += characters(text);
  }

  /** Units at the end that a stop sequence may begin with. */
  #heldBack(): number {
    let most = 0;
    for (const stop of this.#stop) {
      for (let length = Math.min(stop.length - 1, this.#waiting.length); length > most; length--) {
        if (this.#waiting.endsWith(stop.slice(0, length))) most = length;
      }
    }
    return most;
  }

  /** Takes the first `length` units of what waits, and the tokens that begin in them. */
  #release(length: number): TextPiece<Info> {
    const text = this.#waiting.slice(0, length);
    const end = this.#units - this.#waiting.length + length;
    this.#waiting = this.#waiting.slice(length);
    const count = this.#tokens.findIndex(({ start }) => start >= end);
    return { text, tokens: this.#tokens.splice(0, count < 0 ? this.#tokens.length : count) };
  }
}

/** Unicode code points of a text. */
export function characters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/**
 * The text of one token for a table of probabilities: its characters, `bytes:\xe2\x80` where they are not whole, or `token_id:7` where
 * it has none.
 */
export function tokenName(tokenizer: Tokenizer, token: number): string {
  const bytes = tokenizer.decodeBytes([token]);
  if (bytes.length === 0) return `token_id:${token}`;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const hex = Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`);
    return `bytes:${hex.join("")}`;
  }
}
