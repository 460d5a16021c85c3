/**
 * How wide the columns of a table are. A typesetter gives columns that do not fit equal shares, so that a column of
 * single words gets as much as one of sentences.
 *
 * @module
 */

import { textWidth } from "../figures/fonts.ts";

/** Size of the text in tables and the space between two columns, in points, as in `paper.typ`. */
const SIZE = 8.5;
const GAP = 10;

/** Words longer than this many points may break, as hashes do. */
const LONGEST_WORD = 110;

/**
 * Weights of the columns that share the room which the others leave; `null` for a column that is as wide as its longest
 * text.
 *
 * @param rows Texts, the header among them.
 * @param options.width Room for the table in points.
 */
export function columnWeights(
  rows: readonly (readonly string[])[],
  options: { width: number },
): (number | null)[] {
  const columns = rows[0]!.map((_, i) => rows.map((row) => row[i] ?? ""));
  const widths = columns.map((texts) => texts.map((text) => textWidth(text, SIZE)));
  const natural = widths.map((column) => Math.max(...column));
  let room = options.width - GAP * (columns.length - 1);
  let sharing = new Set(columns.keys());
  if (sum(natural) <= room) return columns.map(() => null);
  // Columns below an equal share keep their width, which leaves more for the others.
  for (let narrow = [0]; narrow.length > 0;) {
    const share = room / sharing.size;
    narrow = [...sharing].filter((i) => natural[i]! <= share);
    room -= sum(narrow.map((i) => natural[i]!));
    sharing = sharing.difference(new Set(narrow));
  }
  // Rows are as high as their highest cell: between equal shares and shares by the amount of text, cells that hold none left out.
  const amounts = widths.map((column) =>
    Math.sqrt(sum(column) / column.filter((width) => width > 0).length)
  );
  const all = sum([...sharing].map((i) => amounts[i]!));
  return columns.map((texts, i) => {
    if (!sharing.has(i)) return null;
    const words = texts.flatMap((text) => text.split(/\s+/)).map((word) => textWidth(word, SIZE));
    return Math.max(Math.min(LONGEST_WORD, Math.max(...words)), room * amounts[i]! / all);
  });
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
