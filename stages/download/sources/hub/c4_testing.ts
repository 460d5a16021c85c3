/**
 * Downloads of C4 from a stand-in for the hub, for tests.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import type { JsonValue } from "../../../../pipeline/stage.ts";
import { runStage, type StageRun } from "../../../testing.ts";
import { download, runDownload } from "../../download.ts";
import type { Clock, HubOptions } from "./hub.ts";
import { c4Shard, type Fault, type HubContent, HubStandin } from "./hub_standin.ts";

const FOX = "The quick brown fox jumps over the lazy dog. ";
/** Text that does not pack well, so that shards have bytes to break off at. */
export const texts = (seed: number, count = 40) =>
  Array.from({ length: count }, (_, i) => {
    const digest = createHash("sha512").update(`${seed}/${i}`).digest("base64");
    return `Document ${i} of shard ${seed}. ${FOX}${digest}`;
  });
/** Four shards by their paths. */
export const FILES = Object.fromEntries(
  Array.from({ length: 4 }, (_, i) => [
    `en/c4-train.0000${i}-of-00004.json.gz`,
    c4Shard(texts(i)),
  ]),
);
/** The first of them. */
export const FIRST = FILES["en/c4-train.00000-of-00004.json.gz"]!;

/** The result of a trial. */
export interface Trial {
  readonly run: StageRun;
  readonly hub: HubStandin;
}

/** Downloads from a stand-in in a folder of its own, or in `dir`. */
export async function trial(
  content: Partial<HubContent>,
  params: Record<string, JsonValue> = { c4: { shards: [0] } },
  options: HubOptions & { dir?: string } = {},
  check: (trial: Trial) => void | Promise<void> = () => {},
): Promise<StageRun> {
  const dir = options.dir ?? await Deno.makeTempDir();
  await using hub = new HubStandin({ files: FILES, ...content });
  try {
    const run = await runStage(
      download,
      { params: { source: "c4", ...params }, dir },
      (context) =>
        runDownload(context, {
          endpoint: hub.endpoint,
          offline: false,
          attempts: 3,
          backoff_ms: 2,
          stall_ms: 2000,
          ...options,
        }),
    );
    await check({ run, hub });
    return run;
  } finally {
    if (options.dir === undefined) await Deno.remove(dir, { recursive: true });
  }
}

/** Downloads shard 0 in spite of `faults` and checks it byte by byte. */
export function recovers(faults: Fault[], options: HubOptions = {}): Promise<StageRun> {
  return trial({ faults }, undefined, options, async ({ run, hub }) => {
    assertEquals(hub.unused, []);
    const [name] = run.output.files("documents");
    assertEquals(name, "c4-train.00000-of-00004.jsonl.gz");
    assertEquals(await Deno.readFile(run.output.file("documents", name)), FIRST);
  });
}

/** A clock whose time passes only by waiting. */
export class TestClock implements Clock {
  /** Milliseconds of every wait so far. */
  readonly waits: number[] = [];
  #now: number;

  /** Starts at `now` milliseconds since 1970. */
  constructor(now = Date.UTC(2030, 0, 1)) {
    this.#now = now;
  }

  /** Milliseconds since 1970. */
  now(): number {
    return this.#now;
  }

  /** Lets `ms` pass at once. */
  sleep(ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.waits.push(ms);
    this.#now += ms;
    return Promise.resolve();
  }
}
