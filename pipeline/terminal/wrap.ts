/**
 * Breaks lines to fit the terminal, but never those that go to a file or a pipe.
 *
 * @module
 */

/** Columns of a stream's terminal, or `undefined` if it is not a terminal. */
export function columnsOf(stream: { isTerminal(): boolean }): number | undefined {
  if (!stream.isTerminal()) return undefined;
  try {
    const { columns } = Deno.consoleSize();
    return columns > 0 ? columns : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Breaks lines at spaces so that none is longer than `columns`. The rest of a line goes below it, indented by `hang`
 * more. A word that is too long stays whole.
 *
 * ```ts
 * import { wrapText } from "./wrap.ts";
 * console.assert(wrapText("cached  one two", { columns: 12, hang: 8 }) === "cached  one\n        two");
 * ```
 */
export function wrapText(
  text: string,
  options: { columns: number | undefined; hang: number },
): string {
  const { columns, hang } = options;
  if (columns === undefined) return text;
  return text.split("\n").map((line) => wrapLine(line, columns, hang)).join("\n");
}

function wrapLine(line: string, columns: number, hang: number): string {
  if (line.length <= columns) return line;
  const indent = /^ */.exec(line)![0].length + hang;
  const lines: string[] = [];
  let rest = line;
  while (rest.length > columns) {
    const from = lines.length === 0 ? /^ */.exec(rest)![0].length : indent;
    let at = rest.lastIndexOf(" ", columns);
    if (at <= from) at = rest.indexOf(" ", Math.max(columns, from));
    if (at < 0) break;
    lines.push(rest.slice(0, at).trimEnd());
    rest = " ".repeat(indent) + rest.slice(at + 1).trimStart();
  }
  return [...lines, rest].join("\n");
}
