/**
 * Asks the person at the terminal.
 *
 * @module
 */

/**
 * Asks a question that is answered by yes or no; no unless the answer begins with `y`, and where there is nobody to ask.
 */
export async function confirm(question: string): Promise<boolean> {
  if (!Deno.stdin.isTerminal() || !Deno.stderr.isTerminal()) return false;
  Deno.stderr.writeSync(new TextEncoder().encode(`${question} [y/N] `));
  const buffer = new Uint8Array(1024);
  const length = await Deno.stdin.read(buffer);
  return /^\s*y/i.test(new TextDecoder().decode(buffer.subarray(0, length ?? 0)));
}
