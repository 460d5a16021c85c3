/** Declarations for the parts of `@std/text` that the project uses. */
export function closestString(
  givenWord: string,
  possibleWords: ReadonlyArray<string>,
  options?: { caseSensitive?: boolean; compareFn?: (a: string, b: string) => number },
): string;
export function levenshteinDistance(str1: string, str2: string): number;
