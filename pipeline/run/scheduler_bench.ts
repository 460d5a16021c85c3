/**
 * Times the engine itself: it runs a project of 1,000 trivial nodes, then finds them cached. Each figure is one whole
 * process, from start to exit.
 *
 *     deno run -A pipeline/run/scheduler_bench.ts
 *
 * @module
 */

import { ToyProject } from "../testing.ts";

async function timed(toy: ToyProject, what: string, ...args: string[]): Promise<void> {
  const start = performance.now();
  const { code, stderr } = await toy.run(...args);
  const seconds = (performance.now() - start) / 1000;
  if (code !== 0) throw new Error(stderr);
  const line = `${what.padEnd(44)} ${seconds.toFixed(2)} s\n`;
  Deno.stdout.writeSync(new TextEncoder().encode(line));
}

if (import.meta.main) {
  await using toy = await ToyProject.create();
  await timed(toy, "--help", "--help");
  await timed(toy, "5 nodes, run", "reproduce");
  await timed(toy, "5 nodes, nothing to do", "reproduce");
  for (const n of [1000, 3000]) {
    const set = ["--set", `trivial=${n}`];
    await timed(toy, `${n} trivial nodes, run`, "reproduce", ...set);
    await timed(toy, `${n} trivial nodes, nothing to do`, "reproduce", ...set);
    await timed(toy, `${n} trivial nodes, status`, "status", ...set);
  }
  await timed(toy, "verify", "verify");
}
