/**
 * Text tables for a terminal.
 *
 * @module
 */

import { wrapText } from "./wrap.ts";

/** The least that a last column is broken to. */
const NARROWEST = 20;

/**
 * Formats rows under a header, columns as wide as their widest cell. If a row is wider than `columns`, its last cell is
 * broken at spaces.
 */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  options: { columns?: number | undefined } = {},
): string {
  const widths = header.map((name, i) =>
    Math.max(name.length, ...rows.map((row) => (row[i] ?? "").length))
  );
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => i === cells.length - 1 ? cell : cell.padEnd(widths[i]!)).join("  ")
      .trimEnd();
  const hang = widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 0);
  const { columns = Infinity } = options;
  const fits = columns - hang >= NARROWEST;
  if (fits) widths.push(Math.min(widths.pop() ?? 0, columns - hang));
  return [header, widths.map((width) => "─".repeat(width)), ...rows].map(line)
    .map((text) => fits ? wrapText(text, { columns, hang }) : text).join("\n");
}
