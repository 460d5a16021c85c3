/**
 * `serve`: a model behind an HTTP interface like OpenAI's, on the loopback interface unless asked otherwise.
 *
 * @module
 */

import type { Gpu } from "../../../model/gpu/device.ts";
import { CapacityError } from "../../../model/inference/generator.ts";
import type { InferenceModel } from "../../../model/inference/model.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { type ModelChoice, openModel } from "../model/models.ts";
import { Engine } from "./engine.ts";
import { completionHandler, type ServedModel } from "./server.ts";

/** Names of the loopback interface. */
const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

/** Options of {@linkcode serve}. */
export interface ServeOptions extends ModelChoice {
  /** Interface to listen on. */
  readonly host: string;
  /** Port to listen on; 0 for any that is free. */
  readonly port: number;
  /** Further names that a `Host` header may have. */
  readonly allowed_hosts: readonly string[];
  /** Name that clients give; the model's own unless given. */
  readonly name?: string;
  /** Tokens of prompt and completion together. */
  readonly context: number;
  /** Completions that are generated at the same time. */
  readonly sequences: number;
  /** Tokens of prompts that are scored at once. */
  readonly batch_tokens: number;
  /** Bytes of a request's body at most. */
  readonly body_bytes: number;
  /** Tokens of a request at most, prompts and completions together. */
  readonly request_tokens: number;
  /** Completions that are waited for at most. */
  readonly queue: number;
  readonly precision: "f32" | "mixed";
  /** Ends the serving: what was taken is still answered. */
  readonly signal: AbortSignal;
  /** Opens the device, once the rest is known to be right. */
  gpu(): Promise<Gpu>;
  /** Told where the model is served, once it answers. */
  ready(served: { readonly url: string; readonly model: string; readonly context: number }): void;
  warn(line: string): void;
}

/**
 * Serves a model until the signal.
 *
 * @throws {UserError} If the model, an option or the port is wrong.
 */
export async function serve(options: ServeOptions): Promise<void> {
  using chosen = await openModel(options);
  const { tokenizer, longest } = chosen;
  const context = Math.min(options.context, longest);
  let served: ServedModel | undefined;
  const handler = completionHandler({
    model: () => served,
    hosts: new Set([...LOOPBACK, options.host, ...options.allowed_hosts].map(hostName)),
    body_bytes: options.body_bytes,
    request_tokens: options.request_tokens,
    queue: options.queue,
    warn: options.warn,
  });
  const server = listen(handler, options);
  // A signal while weights load ends it, too; what has begun to load is loaded first.
  try {
    const gpu = await options.gpu();
    using loaded = await chosen.load(gpu, options.precision);
    await using engine = await createEngine(loaded.model, { ...options, context });
    const name = options.name ?? chosen.name;
    served = { name, engine, tokenizer, vocab_size: loaded.model.config.vocab_size, context };
    const { port } = server.addr;
    const host = options.host.includes(":") ? `[${options.host}]` : options.host;
    if (!options.signal.aborted) {
      options.ready({ url: `http://${host}:${port}/v1`, model: name, context });
      await aborted(options.signal);
    }
    await server.shutdown();
  } catch (error) {
    await server.shutdown();
    throw error;
  }
}

function listen(
  handler: (request: Request) => Promise<Response>,
  { host: hostname, port }: ServeOptions,
): Deno.HttpServer<Deno.NetAddr> {
  try {
    return Deno.serve({ hostname, port, onListen() {} }, handler);
  } catch (error) {
    const place = `--port ${port} of --host ${hostname}`;
    if (error instanceof Deno.errors.AddrInUse) {
      throw new UserError(`${place} is in use; expected a free port.`, { cause: error });
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new UserError(`${place} may not be opened; expected a port from 1024 on.`, {
        cause: error,
      });
    }
    throw new UserError(
      `${place} can't be listened on: ${error instanceof Error ? error.message : error}.`,
      { cause: error },
    );
  }
}

/** A host as a `Host` header has it, without a port. */
function hostName(host: string): string {
  const name = host.toLowerCase();
  return name.includes(":") && !name.startsWith("[") ? `[${name}]` : name;
}

async function createEngine(
  model: InferenceModel,
  options: Pick<ServeOptions, "context" | "sequences" | "batch_tokens">,
): Promise<Engine> {
  try {
    return await Engine.create(model, options);
  } catch (error) {
    // A cache that no binding can hold.
    if (!(error instanceof RangeError) || error instanceof CapacityError) throw error;
    throw new UserError(
      `--context ${options.context} does not fit the device: ${error.message}.`,
      { cause: error },
    );
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
