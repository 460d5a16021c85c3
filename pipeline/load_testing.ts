/**
 * Figures of a load: latencies, and the memory of a process that is a server with its clients.
 *
 * @module
 */

/** Latencies in milliseconds. */
export interface Latencies {
  readonly count: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly most: number;
}

/** Sums up times in milliseconds. */
export function latenciesOf(times: readonly number[]): Latencies {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part: number) => Math.round(sorted[Math.floor(part * (sorted.length - 1))] ?? NaN);
  return { count: times.length, p50: at(0.5), p95: at(0.95), p99: at(0.99), most: at(1) };
}

/** Notes the bytes in use by this process, a second, until it is disposed of. */
export class MemorySampler implements Disposable {
  readonly bytes: number[] = [];
  readonly #timer = setInterval(() => {
    // Garbage that nobody has asked for yet is no leak; a program is started so that it can ask (`--expose-gc`).
    (globalThis as { gc?: () => void }).gc?.();
    this.bytes.push(Deno.memoryUsage().rss);
  }, 1000);

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Prints the outcome of a load, with the memory in MiB and what else the machine did, and ends with 1 if anything went wrong. */
export async function reportLoad(
  result: { readonly wrong: readonly string[]; readonly memory: readonly number[] },
): Promise<never> {
  const memory = result.memory.map((bytes) => Math.round(bytes / 2 ** 20));
  const machine = { cores: navigator.hardwareConcurrency, loadavg: Deno.loadavg() };
  const text = JSON.stringify({ ...result, memory, ...machine });
  await Deno.stdout.write(new TextEncoder().encode(`${text}\n`));
  Deno.exit(result.wrong.length > 0 ? 1 : 0);
}
