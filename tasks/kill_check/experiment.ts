/**
 * Runs of the real experiment that checks disturb, and the comparison with one that nobody disturbed.
 *
 * @module
 */

import {
  contents,
  differences,
  type Ended,
  type Running,
  Sandbox,
} from "../../stages/reproduce_testing.ts";

/** How long any run may take before the check gives up on it. */
const PATIENCE_SECONDS = 300;

/** One kill, as it is told. */
export interface Kill {
  readonly experiment: number;
  readonly aim: string;
  readonly seconds: number;
  readonly during: string;
  readonly orphans: number;
}

/** The result of an undisturbed run. */
export interface Expected {
  readonly from: Sandbox;
  readonly contents: ReadonlyMap<string, string>;
  /** Entries that two undisturbed runs do not share: files of the report that show the clock. */
  readonly ignored: ReadonlySet<string>;
  readonly seconds: number;
  /** Changes on disk. */
  readonly changes: number;
}

/** Numbers from 0 to 1, the same ones for a seed (xorshift32). */
export function random(seed: number): () => number {
  let x = (Math.imul(seed + 1, 0x9e3779b9) >>> 0) || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 2 ** 32;
  };
}

/** Counts changes below a folder until it is disposed. */
export class Changes implements Disposable {
  readonly #watcher: Deno.FsWatcher;
  /** How many so far. */
  count = 0;

  /** Starts to count. */
  constructor(folder: string, onChange: (count: number) => void = () => {}) {
    const watcher = Deno.watchFs(folder, { recursive: true });
    this.#watcher = watcher;
    (async () => {
      for await (const { kind } of watcher) {
        if (kind !== "access") onChange(++this.count);
      }
    })();
  }

  [Symbol.dispose](): void {
    this.#watcher.close();
  }
}

/**
 * Runs an experiment twice to its end without disturbance; `calm` is an empty sandbox and keeps the first.
 *
 * @throws Error when the two differ in more than the clock.
 */
export async function expect(calm: Sandbox, config: string): Promise<Expected> {
  const { seconds, changes } = await calmRun(calm);
  const found = await contents(calm);
  await using second = await Sandbox.create(config);
  await calmRun(second);
  const unsteady = differences(found, await contents(second));
  const ignored = new Set(unsteady.filter((name) => name.startsWith("report report/")));
  const wrong = unsteady.filter((name) => !ignored.has(name));
  if (wrong.length > 0) {
    throw new Error(`Two undisturbed runs differ already:\n  ${wrong.join("\n  ")}`);
  }
  return { from: calm, contents: found, ignored, seconds, changes };
}

/** Runs to the end without disturbance. */
async function calmRun(sandbox: Sandbox): Promise<{ seconds: number; changes: number }> {
  using changes = new Changes(sandbox.dir);
  const start = performance.now();
  await finish(sandbox.start("reproduce"));
  return { seconds: (performance.now() - start) / 1000, changes: changes.count };
}

/** Waits for a run that has to succeed. */
export async function finish(running: Running): Promise<void> {
  const { code, stderr } = await patiently(running);
  if (code !== 0) throw new Error(`reproduce ended with exit code ${code}:\n${stderr}`);
}

/** Waits for a run, and kills it when it takes too long. */
export async function patiently(running: Running): Promise<Ended> {
  const timer = setTimeout(() => running.kill("SIGKILL"), PATIENCE_SECONDS * 1000);
  try {
    return await running.ended;
  } finally {
    clearTimeout(timer);
  }
}

/** Lists the problems of an experiment that was disturbed and has ended. */
export async function examine(
  sandbox: Sandbox,
  expected: Expected,
): Promise<string[]> {
  const found = await contents(sandbox);
  const wrong = differences(expected.contents, found).filter((name) => !expected.ignored.has(name));
  // Digests could be of something else than what lies there: the bytes themselves.
  const reference = new Map((await expected.from.records()).map((record) => [record.node, record]));
  for (const { node, outputs } of await sandbox.records()) {
    const other = reference.get(node)?.outputs["checkpoint"];
    const checkpoint = outputs["checkpoint"];
    if (checkpoint?.kind !== "directory" || other?.kind !== "directory") continue;
    for (const [i, file] of checkpoint.files.entries()) {
      const [a, b] = await Promise.all([
        Deno.readFile(sandbox.object(file.sha256)),
        Deno.readFile(expected.from.object(other.files[i]!.sha256)),
      ]);
      if (a.length !== b.length || a.some((byte, at) => byte !== b[at])) {
        wrong.push(`${node} checkpoint/${file.path}, byte for byte`);
      }
    }
  }
  const verified = await sandbox.run("verify");
  if (verified.code !== 0) wrong.push(`verify: ${verified.stdout}`);
  const running = await sandbox.json<unknown[]>(
    "sql",
    "SELECT run FROM runs WHERE state = 'running'",
  );
  if (running.length > 0) wrong.push("a killed run is said to be running");
  await sandbox.run("gc", "--yes");
  if ((await sandbox.orphans()).length > 0) wrong.push("gc left objects that belong to no node");
  const again = await sandbox.json<{ nodes: { node: string; state: string }[] }>("reproduce");
  wrong.push(
    ...again.nodes.filter(({ state }) => state !== "cached")
      .map(({ node, state }) => `${node} is ${state} when everything was done`),
  );
  return wrong;
}
