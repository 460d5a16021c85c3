/**
 * The typefaces of the PDF, all from packages, and the characters that they can draw.
 *
 * @module
 */

import opentype from "opentype.js";
import type { Font } from "../../../types/opentype.d.ts";
import { fontData, packageFile } from "../figures/fonts.ts";

/** Of code, and of what the figures' typeface lacks: DejaVu has arrows, mathematics, Greek, Cyrillic, Arabic, Hebrew. */
const DEJAVU = ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf"];

/** Italic of the figures' typeface, for emphasis. */
const ITALIC =
  "@expo-google-fonts/ibm-plex-sans/400Regular_Italic/IBMPlexSans_400Regular_Italic.ttf";

let data: readonly Uint8Array<ArrayBuffer>[] | undefined;
let fonts: readonly Font[] | undefined;

/** The TrueType files that the PDF is set with and embeds parts of. */
export function typefaces(): readonly Uint8Array<ArrayBuffer>[] {
  return data ??= [
    ...fontData(),
    ...[ITALIC, ...DEJAVU.map((file) => `dejavu-fonts-ttf/ttf/${file}`)].map((name) =>
      Deno.readFileSync(packageFile(name))
    ),
  ];
}

/** Characters that every typeface here has, and of which texts mostly consist: no font is asked for them. */
const PLAIN = /^[\n\t\x20-\x7e\xa0-\xff]*$/;

/**
 * The text with each character that no typeface has as its code point. A box would say nothing, and a reader can look
 * a code point up.
 *
 * @example
 * ```ts
 * import { drawable } from "./glyphs.ts";
 * console.assert(drawable("5 ≤ √30 漢") === "5 ≤ √30 U+6F22");
 * ```
 */
export function drawable(text: string): string {
  if (PLAIN.test(text)) return text;
  // Of each family the regular face; what its other faces lack is drawn with DejaVu Sans.
  fonts ??= [typefaces()[0]!, typefaces()[3]!].map((file) => opentype.parse(file.buffer));
  return [...text].map((char) =>
    PLAIN.test(char) || fonts!.some((font) => font.charToGlyphIndex(char) !== 0)
      ? char
      : `U+${char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`
  ).join("");
}
