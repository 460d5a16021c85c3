/** Declarations for the parts of `opentype.js` that the project uses. */
export interface Font {
  /** Width of a line of text in pixels at a size in pixels. */
  getAdvanceWidth(text: string, size: number, options?: { kerning?: boolean }): number;
  /** Number of a character's glyph; 0 where the font has none. */
  charToGlyphIndex(char: string): number;
}
declare const opentype: {
  /** Reads a font file's tables. */
  parse(data: ArrayBuffer): Font;
};
export default opentype;
