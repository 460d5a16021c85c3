/**
 * Requests whose bodies are parts of files.
 *
 * `@huggingface/hub` reads files lazily by a `Blob` of its own, which Deno's `fetch` sends as an empty one. A stream has no length there, and storage asks for
 * one; a part in memory may be gigabytes. Node's client sends a stream with its length.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import * as http from "node:http";
import * as https from "node:https";
import { pipeline } from "node:stream/promises";

/** `fetch`, with bodies that are of class `Blob` sent as streams of their length. */
export const fetchWithFiles: typeof fetch = async (input, init) => {
  const { body, ...rest } = init ?? {};
  if (!(body instanceof Blob)) return await fetch(input, init);
  const url = new URL(input instanceof Request ? input.url : input);
  const headers = Object.fromEntries(new Headers(rest.headers));
  return await send(url, body, {
    method: rest.method ?? "POST",
    headers: { ...headers, "content-length": String(body.size) },
    ...(rest.signal && { signal: rest.signal }),
  });
};

async function send(
  url: URL,
  body: Blob,
  options: { method: string; headers: Record<string, string>; signal?: AbortSignal },
): Promise<Response> {
  const client = url.protocol === "https:" ? https : http;
  const request = client.request(url, options);
  const answered = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.on("response", resolve);
    request.on("error", reject);
  });
  // A server may answer before it has all; the answer counts then.
  const sent = pipeline(body.stream() as unknown as AsyncIterable<Uint8Array>, request);
  sent.catch(() => {});
  const answer = await answered;
  const parts: Uint8Array[] = [];
  for await (const part of answer) parts.push(part);
  const headers = new Headers();
  for (const [name, value] of Object.entries(answer.headers)) {
    if (value !== undefined) headers.set(name, String(value));
  }
  const status = answer.statusCode ?? 500;
  const text = Buffer.concat(parts).toString("utf8");
  return new Response(status === 204 ? null : text, { status, headers });
}
