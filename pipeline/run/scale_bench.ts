/**
 * Times the coordinator: it runs a graph of 10,000 nodes on an executor of known durations, then half of it anew, and
 * finds all of it cached. Each figure is one whole process, so that memory is its own.
 *
 *     deno run -A pipeline/run/scale_bench.ts [nodes]
 *
 * @module
 */

import { Store } from "../store/store.ts";
import { experimentGraph, fakeExecutor, randomGraph, schedule } from "./scale_testing.ts";

/** Durations of nodes: up to 40 ms. Sixty-four at a time take 0.3 ms a node. */
const MILLISECONDS = 40;

const shapes = {
  experiment: (n: number) => experimentGraph(Math.floor((n - 4) / 2)),
  random: (n: number) => randomGraph(n, 1),
};

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

/** One process: opens the store, runs the graph, stops after `stop` nodes. */
async function measure(dir: string, shape: keyof typeof shapes, n: number, stop: number) {
  const begin = performance.now();
  let peak = 0;
  const timer = setInterval(() => peak = Math.max(peak, Deno.memoryUsage().rss), 100);
  const graph = shapes[shape](n);
  const built = performance.now();
  const store = await Store.open(dir, { command: "bench", create: true });
  const opened = performance.now();
  const controller = new AbortController();
  let ran = 0;
  let first = 0;
  let slept = 0;
  const work = fakeExecutor((node) => node.name.length * 7919 % MILLISECONDS);
  const executor: typeof work = async (job) => {
    if (ran === 0) first = performance.now();
    if (++ran > stop) controller.abort();
    if (ran > stop) throw new Error("Stopped");
    slept += job.node.name.length * 7919 % MILLISECONDS;
    return await work(job);
  };
  const result = await schedule(graph, store, { executor, signal: controller.signal });
  const ended = performance.now();
  await store.close();
  clearInterval(timer);
  peak = Math.max(peak, Deno.memoryUsage().rss);
  const cached = result.nodes.filter(({ state }) => state === "cached").length;
  const seconds = (a: number, b: number) => ((b - a) / 1000).toFixed(2);
  const busy = ended - (ran === 0 ? ended : first);
  const each = ran === 0 ? (ended - opened) / n : (busy - slept / 64) / Math.min(ran, stop);
  say(
    `${shape}: ${Math.min(ran, stop)} ran, ${cached} cached; graph ${
      seconds(begin, built)
    } s, store ${seconds(built, opened)} s, to first node ${
      seconds(begin, ran === 0 ? ended : first)
    } s, all ${seconds(begin, performance.now())} s; ${each.toFixed(2)} ms a node; ${
      (peak / 2 ** 20).toFixed(0)
    } MiB`,
  );
}

if (import.meta.main) {
  if (Deno.args.length > 1) {
    const [dir, shape, n, stop] = Deno.args as [string, keyof typeof shapes, string, string];
    await measure(dir, shape, Number(n), Number(stop));
  } else {
    const n = Number(Deno.args[0] ?? 10_000);
    for (const shape of Object.keys(shapes)) {
      const dir = await Deno.makeTempDir({ prefix: "scale_" });
      for (const stop of [n / 2, n, n]) {
        await new Deno.Command(Deno.execPath(), {
          args: ["run", "-A", "--no-check", import.meta.filename!, dir, shape, `${n}`, `${stop}`],
          stdout: "inherit",
          stderr: "inherit",
        }).output();
      }
      await Deno.remove(dir, { recursive: true });
    }
  }
}
