/**
 * Many pages at once on the dashboard, for a bounded time. As a program it prints what it found:
 *
 * ```sh
 * deno run -A --v8-flags=--expose-gc pipeline/dashboard/load_testing.ts 60
 * ```
 *
 * @module
 */

import {
  type Latencies,
  latenciesOf,
  type Memory,
  MemorySampler,
  reportLoad,
} from "../load_testing.ts";
import { MadeStore, messagesOf } from "./dashboard_testing.ts";
import { serveDashboard } from "./server.ts";

/** Milliseconds between two events of the run that is watched. */
const PAUSE = 50;

/** The outcome of a load. */
export interface LoadResult {
  readonly pages: number;
  readonly seconds: number;
  /** Events that the run wrote, each of which every page is told. */
  readonly events: number;
  /** Descriptions of what went wrong. */
  readonly wrong: readonly string[];
  /** Of events, from the file to a page, and of requests for a curve that grew. */
  readonly latencies: Readonly<Record<"event" | "curve", Latencies>>;
  /** Of this process, the server with its clients. */
  readonly memory: Memory;
}

/**
 * Lets a run write lines and a curve while pages watch it: each follows the stream, and reads the curve when it is told that there is more of it.
 *
 * @param url Of a dashboard on the store.
 */
export async function runLoad(
  store: MadeStore,
  { url, pages, seconds }: {
    readonly url: string;
    readonly pages: number;
    readonly seconds: number;
  },
): Promise<LoadResult> {
  const wrong: string[] = [];
  const written: number[] = [];
  const times: Record<"event" | "curve", number[]> = { event: [], curve: [] };
  /** Reads the curve. @returns Its last step. */
  const readCurve = async (): Promise<number> => {
    const began = performance.now();
    const response = await fetch(`${url}api/curves?key=${store.key}&name=loss`);
    if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
    const { loss } = await response.json();
    times.curve.push(performance.now() - began);
    return loss.x.at(-1) ?? 0;
  };
  const watch = async (page: number) => {
    let next = 0;
    let reading: Promise<unknown> | undefined;
    const answer = await fetch(`${url}api/events?run=${store.run}`);
    for await (const { event, data } of messagesOf(answer)) {
      if (event === "metrics") {
        reading ??= readCurve()
          .catch((error) => wrong.push(String(error)))
          .finally(() => reading = undefined);
      }
      if (data["text"] === "end") break;
      if (data["type"] !== "line" || !/^\d+$/.test(String(data["text"]))) continue;
      const number = Number(data["text"]);
      if (number !== next) wrong.push(`page ${page} was told ${number} in the place of ${next}`);
      next = number + 1;
      times.event.push(performance.now() - written[number]!);
    }
    await reading;
    if (next !== written.length) wrong.push(`page ${page} was told ${next} events`);
    const step = await readCurve();
    if (step !== written.length) wrong.push(`page ${page} saw a curve up to step ${step}`);
  };
  using sampler = new MemorySampler();
  const began = performance.now();
  const watching = Array.from({ length: pages }, (_, page) => watch(page));
  while (performance.now() - began < 1000 * seconds) {
    const number = written.length;
    await Deno.writeTextFile(store.metrics, `d,${number + 1},loss,${3 / (number + 1)}\n`, {
      append: true,
    });
    written.push(performance.now());
    await store.append({ type: "line", text: `${number}` });
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  await store.append({ type: "line", text: "end" });
  await Promise.all(watching);
  return {
    pages,
    seconds: (performance.now() - began) / 1000,
    events: written.length,
    wrong,
    latencies: { event: latenciesOf(times.event), curve: latenciesOf(times.curve) },
    memory: sampler.memory,
  };
}

if (import.meta.main) {
  await using store = await MadeStore.create("a");
  using _ = await store.hold();
  const stop = new AbortController();
  const options = { storeDir: store.dir, title: "load", signal: stop.signal, port: 0 };
  const { url, finished } = serveDashboard(options);
  const result = await runLoad(store, { url, pages: 32, seconds: Number(Deno.args[0] ?? 60) });
  stop.abort();
  await finished;
  await store[Symbol.asyncDispose]();
  await reportLoad(result);
}
