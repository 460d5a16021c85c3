/**
 * The log of a job: all that its processes said, with times.
 *
 * @module
 */

import { dirname } from "@std/path";

/** Appends lines to a log; a full disk loses lines, but no job. */
export class JobLog implements Disposable {
  #file: Deno.FsFile | undefined;

  /** Opens the log, which earlier attempts may have begun. */
  constructor(path: string) {
    try {
      Deno.mkdirSync(dirname(path), { recursive: true });
      this.#file = Deno.openSync(path, { append: true, create: true });
    } catch {
      // Told by whoever writes something that matters.
    }
  }

  /** Begins the lines of one process. */
  head(node: string, pid: number, worker: string): void {
    this.line(`${node}: process ${pid}${worker === "" ? "" : ` on ${worker}`}`);
  }

  /** Writes a line. */
  line(text: string): void {
    const bytes = new TextEncoder().encode(`${new Date().toISOString()} ${text}\n`);
    try {
      if (this.#file === undefined) return;
      for (let at = 0; at < bytes.length;) at += this.#file.writeSync(bytes.subarray(at));
    } catch {
      // As above.
    }
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file?.close();
  }
}
