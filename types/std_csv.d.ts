/** Declarations for the parts of `@std/csv` that the project uses. */
export function stringify(
  data: readonly Readonly<Record<string, unknown>>[],
  options: { columns: readonly string[] },
): string;
export function parse(
  text: string,
  options: { skipFirstRow: true },
): Record<string, string | undefined>[];
