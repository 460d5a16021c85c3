/**
 * A small model behind the server, for tests.
 *
 * @module
 */

import { fromFileUrl, join } from "@std/path";
import { openTestGpu } from "../../../model/gpu/testing.ts";
import { BYTE_VOCABULARY } from "../model/checkpoint_testing.ts";
import {
  noisyTensors,
  smallModel,
  writeModelFile,
} from "../../../model/inference/inference_testing.ts";
import { formatVocabulary } from "../../../model/text/tokenizer.ts";
import { VOCABULARY_FILE } from "../../dataset.ts";
import { serve, type ServeOptions } from "./serve.ts";

/** Writes a model of bytes whose numbers are no model's. */
export async function writeByteModel(folder: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const architecture = smallModel(BYTE_VOCABULARY.vocab_size);
  const tensors = noisyTensors(architecture, 5);
  await writeModelFile(join(folder, "model.safetensors"), architecture, tensors);
  await Deno.writeTextFile(join(folder, VOCABULARY_FILE), formatVocabulary(BYTE_VOCABULARY));
}

/** A server that answers. */
export interface Served {
  /** `http://127.0.0.1:PORT/v1`. */
  readonly url: string;
  /** Lines that it warned with. */
  readonly warnings: readonly string[];
  /** Sends a completion request, with any body. */
  post(body: unknown, init?: RequestInit): Promise<Response>;
  /** Ends the server, and waits for its end. */
  stop(): Promise<void>;
}

/** Serves the model of a folder, as `small`. */
export async function startServer(
  folder: string,
  changes: Partial<ServeOptions> = {},
): Promise<Served> {
  const controller = new AbortController();
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const warnings: string[] = [];
  const ended = serve({
    ...(changes.model === undefined ? { checkpoint: folder } : {}),
    storeDir: join(folder, "none"),
    host: "127.0.0.1",
    port: 0,
    allowed_hosts: [],
    name: "small",
    context: 96,
    sequences: 3,
    batch_tokens: 512,
    queue: 64,
    body_bytes: 20_000,
    request_tokens: 4000,
    precision: "f32",
    signal: controller.signal,
    gpu: () => openTestGpu(),
    ready: ({ url }) => resolve(url),
    warn: (line) => void warnings.push(line),
    ...changes,
  });
  ended.catch(reject);
  const url = await promise;
  return {
    url,
    warnings,
    post: (body, init) =>
      fetch(`${url}/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: typeof body === "string" ? body : JSON.stringify(body),
        ...init,
      }),
    async stop() {
      controller.abort();
      await ended;
    },
  };
}

/** Arguments of Deno for a task that is one `deno run`, which a signal reaches without a shell in between. */
export async function taskArguments(name: string): Promise<string[]> {
  const root = fromFileUrl(new URL("../../../", import.meta.url));
  const { tasks } = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  const words: string[] = tasks[name].command.split(" ").slice(1);
  return words.map((word) => word === "stages/main.ts" ? join(root, word) : word);
}

/** The data of server-sent events. */
export async function* events(response: Response): AsyncGenerator<string> {
  let waiting = "";
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
    const whole = (waiting + part).split("\n\n");
    waiting = whole.pop()!;
    for (const event of whole) yield event.replace(/^data: /, "");
  }
}
