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

/** Memory of a process over time, in bytes. */
export interface Memory {
  /** Of the operating system, a second. It grows with the room that the garbage collector takes for a busy process. */
  readonly resident: readonly number[];
  /** Objects and buffers that are alive, a second. Without `--expose-gc` garbage is among them. */
  readonly used: readonly number[];
}

/** Notes the memory of this process a second, until it is disposed of. */
export class MemorySampler implements Disposable {
  readonly memory: { readonly resident: number[]; readonly used: number[] } = {
    resident: [],
    used: [],
  };
  readonly #timer = setInterval(() => {
    (globalThis as { gc?: () => void }).gc?.();
    const { rss, heapUsed, external } = Deno.memoryUsage();
    this.memory.resident.push(rss);
    this.memory.used.push(heapUsed + external);
  }, 1000);

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Prints the outcome of a load, with the memory in MiB and what else the machine did, and ends with 1 if anything went wrong. */
export async function reportLoad(
  result: { readonly wrong: readonly string[]; readonly memory: Memory },
): Promise<never> {
  const mebibytes = (bytes: readonly number[]) => bytes.map((n) => Math.round(n / 2 ** 20));
  const { resident, used } = result.memory;
  const memory = { resident: mebibytes(resident), used: mebibytes(used) };
  const machine = { cores: navigator.hardwareConcurrency, loadavg: Deno.loadavg() };
  const text = JSON.stringify({ ...result, memory, ...machine });
  await Deno.stdout.write(new TextEncoder().encode(`${text}\n`));
  Deno.exit(result.wrong.length > 0 ? 1 : 0);
}
