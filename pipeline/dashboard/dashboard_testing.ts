/**
 * Stores that tests of the dashboard look at, and what reads its streams.
 *
 * @module
 */

import { join } from "@std/path";
import type { RunEvent } from "../executors/run_events.ts";
import { markStore } from "../store/folder.ts";
import { type JsonValue, SAMPLES_FILE } from "../stage.ts";
import type { RunRecord } from "../store/records/records.ts";

/** A run of one node with a name that would be markup; its files are written by hand. */
export class MadeStore implements AsyncDisposable {
  /** The store's folder. */
  readonly dir: string;
  /** Name of the run. */
  readonly run = "20260412-101500-123";
  /** Key of the running node. */
  readonly key = "ab".repeat(32);

  readonly #node: string;

  private constructor(dir: string, node: string) {
    this.dir = dir;
    this.#node = node;
  }

  /** Makes one whose run has written its graph. */
  static async create(node: string): Promise<MadeStore> {
    const store = new MadeStore(await Deno.makeTempDir({ prefix: "dashboard_" }), node);
    for (const name of ["runs", "tmp", `state/${store.key}`]) {
      await Deno.mkdir(join(store.dir, name), { recursive: true });
    }
    await markStore(store.dir, join(store.dir, "tmp"));
    await store.record("running");
    const params = { text: node };
    await store.append(
      {
        type: "graph",
        run: store.run,
        command: node,
        config_path: "a.yaml",
        nodes: [
          { node, stage: "train", resource: "gpu", inputs: [], params, labels: {} },
        ],
      },
      { type: "node", node, state: "running", key: store.key, reason: node },
      { type: "line", text: node },
    );
    return store;
  }

  /** Writes the run's record. */
  async record(state: RunRecord["state"]): Promise<void> {
    const record: RunRecord = {
      format: 1,
      run: this.run,
      state,
      command: "reproduce",
      config_path: "a.yaml",
      configuration: {} as JsonValue,
      started_at: "2026-04-12T10:15:00.123Z",
      host: {},
      nodes: [],
    };
    await Deno.writeTextFile(join(this.dir, "runs", `${this.run}.json`), JSON.stringify(record));
  }

  /** Path of the run's events. */
  get events(): string {
    return join(this.dir, "runs", `${this.run}.jsonl`);
  }

  /** Path of the node's metrics. */
  get metrics(): string {
    return join(this.dir, "state", this.key, "metrics.csv");
  }

  /** Path of the node's samples. */
  get samples(): string {
    return join(this.dir, "state", this.key, SAMPLES_FILE);
  }

  /** Adds samples of a step, and tells of them. */
  async sample(step: number, texts: readonly { prompt: string; text: string }[]): Promise<void> {
    const lines = texts.map((text, index) =>
      `${JSON.stringify({ step, index, ...text, finish: "max_tokens" })}\n`
    );
    await Deno.writeTextFile(this.samples, lines.join(""), { append: true });
    await this.append(
      ...texts.map((text) => ({ type: "sample" as const, node: this.#node, step, ...text })),
    );
  }

  /** Adds events. */
  async append(...events: RunEvent[]): Promise<void> {
    const text = events.map((event) => `${JSON.stringify({ at: 1, ...event })}\n`).join("");
    await Deno.writeTextFile(this.events, text, { append: true });
  }

  /** Holds the store as a run's process does. */
  async hold(): Promise<Disposable> {
    const file = await Deno.open(join(this.dir, "lock"), { create: true, write: true });
    await file.lock(true);
    return { [Symbol.dispose]: () => file.close() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.dir, { recursive: true });
  }
}

/** One message of a stream. */
export interface Message {
  readonly id?: string;
  readonly event: string;
  readonly data: Record<string, unknown>;
}

/** The messages of a stream, until whoever reads them leaves. */
export async function* messagesOf(response: Response): AsyncGenerator<Message> {
  let rest = "";
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n\n");
    rest = parts.pop()!;
    for (const part of parts) {
      const fields = new Map(
        part.split("\n").map((line) => {
          const at = line.indexOf(": ");
          return [line.slice(0, at), line.slice(at + 2)];
        }),
      );
      const data = fields.get("data");
      if (data === undefined) continue;
      const id = fields.get("id");
      yield {
        event: fields.get("event") ?? "message",
        data: JSON.parse(data),
        ...id !== undefined && { id },
      };
    }
  }
}

/** Reads messages until one passes, and lets the stream go. */
export async function readUntil(
  response: Response,
  passes: (message: Message) => boolean,
): Promise<Message[]> {
  const found: Message[] = [];
  for await (const message of messagesOf(response)) {
    found.push(message);
    if (passes(message)) return found;
  }
  throw new Error(`The stream ended before what was waited for: ${JSON.stringify(found)}`);
}
