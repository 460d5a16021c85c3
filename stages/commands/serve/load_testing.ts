/**
 * Many clients at once on a server, for a bounded time. As a program it serves a small model and prints what it found:
 *
 * ```sh
 * deno run -A --v8-flags=--expose-gc stages/commands/serve/load_testing.ts 60
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
} from "../../../pipeline/load_testing.ts";
import { events, type Served, startServer, writeByteModel } from "./serve_testing.ts";

/** The outcome of a load. */
export interface LoadResult {
  readonly clients: number;
  readonly seconds: number;
  /** Requests that were answered, wholly and rightly. */
  readonly answered: number;
  /** Requests that a client gave up on purpose. */
  readonly given_up: number;
  /** Descriptions of what went wrong. */
  readonly wrong: readonly string[];
  /** By kind of request. */
  readonly latencies: Readonly<Record<string, Latencies>>;
  /** Of this process, the server with its clients. */
  readonly memory: Memory;
}

/** The kinds of request, one after another for each client. */
const KINDS = ["score", "generate", "stream", "leave"] as const;

/** Lets `clients` clients ask without a pause. Every answer is compared with the first one of the same request. */
export async function runLoad(
  server: Pick<Served, "url" | "post">,
  { clients, seconds }: { readonly clients: number; readonly seconds: number },
): Promise<LoadResult> {
  const end = performance.now() + 1000 * seconds;
  const wrong: string[] = [];
  const taken: Record<string, number[]> = {};
  const expected = new Map<string, string>();
  let [answered, given_up] = [0, 0];
  using sampler = new MemorySampler();
  const ask = async (client: number, turn: number) => {
    const kind = KINDS[(client + turn) % KINDS.length]!;
    const prompt = `client ${client % 8}`;
    const seed = client % 8;
    const body = kind === "score"
      ? { prompt, echo: true, logprobs: 1, max_tokens: 1, temperature: 0 }
      : { prompt, max_tokens: 3, seed, stream: kind !== "generate" };
    const controller = new AbortController();
    const began = performance.now();
    const response = await server.post(body, { signal: controller.signal });
    if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
    let text = "";
    if (kind === "leave") {
      controller.abort();
      await response.body?.cancel().catch(() => {});
      given_up++;
      return;
    }
    if (kind === "stream") {
      let done = false;
      for await (const event of events(response)) {
        done ||= event === "[DONE]";
        if (!done) text += JSON.parse(event).choices[0].text;
      }
      if (!done) throw new Error("A stream ended without [DONE]");
    } else {
      const { choices: [choice] } = await response.json();
      text = kind === "score" ? JSON.stringify(choice) : choice.text;
    }
    (taken[kind] ??= []).push(performance.now() - began);
    // A stream tells the text that an answer without one has.
    const key = `${kind === "score" ? kind : "text"} ${prompt}`;
    if ((expected.get(key) ?? text) !== text) wrong.push(`${key} has two answers`);
    expected.set(key, text);
    answered++;
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: clients }, async (_, client) => {
    for (let turn = 0; performance.now() < end; turn++) {
      try {
        await ask(client, turn);
      } catch (error) {
        wrong.push(String(error));
      }
    }
  }));
  const latencies = Object.fromEntries(
    Object.entries(taken).map(([kind, times]) => [kind, latenciesOf(times)]),
  );
  const took = (performance.now() - began) / 1000;
  return { clients, seconds: took, answered, given_up, wrong, latencies, memory: sampler.memory };
}

if (import.meta.main) {
  const seconds = Number(Deno.args[0] ?? 60);
  const folder = await Deno.makeTempDir();
  await writeByteModel(folder);
  const server = await startServer(folder, { queue: 256, sequences: 16 });
  const result = await runLoad(server, { clients: 64, seconds });
  await server.stop();
  await Deno.remove(folder, { recursive: true });
  await reportLoad({ ...result, wrong: [...result.wrong, ...server.warnings] });
}
