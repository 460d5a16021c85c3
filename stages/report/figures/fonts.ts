/**
 * The figures' typeface, from a package, so that no system font is needed and text has the same width everywhere.
 *
 * Vega asks how wide a text is to place labels; without a canvas it guesses. {@linkcode useFontMetrics} answers from the
 * advances and kerning in the font's own tables, which are the ones that the rasteriser uses.
 *
 * @module
 */

import { createRequire } from "node:module";
import opentype from "opentype.js";
import type { Font } from "../../../types/opentype.d.ts";
import * as vega from "vega";

/** Family name of the typeface, as figures and the page name it. */
export const FONT_FAMILY = "IBM Plex Sans";

const require = createRequire(import.meta.url);

/** Path of a file in one of the packages. */
export function packageFile(name: string): string {
  return require.resolve(name);
}

const TTF = "@expo-google-fonts/ibm-plex-sans";

/** Regular, then semi-bold. */
const FONT_FILES: readonly string[] = [
  require.resolve(`${TTF}/400Regular/IBMPlexSans_400Regular.ttf`),
  require.resolve(`${TTF}/600SemiBold/IBMPlexSans_600SemiBold.ttf`),
];

/** WOFF2 files of the same faces, Latin and Greek, that the page embeds. */
const WEB_FACES = [400, 600].flatMap((weight) =>
  ["latin", "greek"].map((subset) => ({
    weight,
    range: subset === "greek"
      ? "U+0370-03FF"
      : "U+0000-00FF, U+2000-206F, U+20AC, U+2122, U+2191, U+2193, U+2212, U+2215",
    path: require.resolve(
      `@fontsource/ibm-plex-sans/files/ibm-plex-sans-${subset}-${weight}-normal.woff2`,
    ),
  }))
);

let fonts: readonly [regular: Font, semiBold: Font] | undefined;
let data: Uint8Array<ArrayBuffer>[] | undefined;

/** The TrueType files that the rasteriser draws with: regular, then semi-bold. */
export function fontData(): Uint8Array<ArrayBuffer>[] {
  return data ??= FONT_FILES.map((path) => Deno.readFileSync(path));
}

function load(): readonly [Font, Font] {
  if (fonts === undefined) {
    const [regular, semiBold] = fontData();
    fonts = [opentype.parse(regular!.buffer), opentype.parse(semiBold!.buffer)];
  }
  return fonts;
}

/**
 * Width of a line of text in pixels.
 *
 * @example
 * ```ts
 * import { textWidth } from "./fonts.ts";
 * console.assert(textWidth("wide", 12) > textWidth("ill", 12));
 * ```
 */
export function textWidth(text: string, size: number, options: { bold?: boolean } = {}): number {
  const [regular, semiBold] = load();
  return (options.bold ? semiBold : regular).getAdvanceWidth(text, size, { kerning: true });
}

/** The text that Vega asks to measure. */
interface TextItem {
  readonly fontSize?: number;
  readonly fontWeight?: string | number;
  readonly limit?: number;
}

/** Makes Vega measure text with the typeface's own advances; calling it again changes nothing. */
export function useFontMetrics(): void {
  const isBold = (weight: string | number | undefined) =>
    weight === "bold" || (typeof weight === "number" ? weight : Number(weight ?? 400)) >= 600;
  const width = (item: TextItem, text: unknown): number => {
    const lines = Array.isArray(text) ? text.map(String) : [String(text ?? "")];
    const size = item.fontSize ?? 11;
    return Math.max(0, ...lines.map((l) => textWidth(l, size, { bold: isBold(item.fontWeight) })));
  };
  // Vega exports its text metrics; its declarations leave them out.
  const { textMetrics } = vega as unknown as { textMetrics: object };
  Object.assign(textMetrics, { width, measureWidth: width, estimateWidth: width });
}

/** `@font-face` rules with the faces embedded, for a page that must work without network. */
export function fontFaceRules(): string {
  return WEB_FACES.map(({ weight, range, path }) => {
    const data = Deno.readFileSync(path).toBase64();
    return `@font-face{font-family:"${FONT_FAMILY}";font-style:normal;font-weight:${weight};` +
      `font-display:swap;unicode-range:${range};src:url(data:font/woff2;base64,${data}) format("woff2")}`;
  }).join("\n");
}
