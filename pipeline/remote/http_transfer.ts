/**
 * Parts that transfers from and to S3 and web servers have in common.
 *
 * @module
 */

import type { Sink } from "./backend.ts";
import { LocalError, TransientError } from "./error.ts";
import { drop, readHead, type Watch } from "./exchange.ts";

/** The header that asks for the bytes after those that a sink has. */
export function rangeOf(sink: Sink): Record<string, string> {
  return sink.length > 0 ? { range: `bytes=${sink.length}-` } : {};
}

/**
 * Gives the body of a successful answer to a sink. An answer that starts at another byte than was asked for starts the
 * sink anew, and so does the refusal of a range (status 416), unless the sink has the whole file: the end of an answer
 * may be missed after its last byte.
 */
export async function receive(response: Response, sink: Sink, watch: Watch): Promise<void> {
  const { status, headers } = response;
  if (status === 416) {
    // Web servers tell the size in a header (RFC 9110, 15.5.17), S3 in the body.
    const size = /^bytes \*\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1] ??
      /<ActualObjectSize>(\d+)</.exec(await readHead(response))?.[1];
    await drop(response);
    if (size !== undefined && Number(size) === sink.length) return;
    await local(() => sink.reset());
    throw new TransientError("refused to go on with a file (status 416)");
  }
  const from = status === 206
    ? Number(/^bytes (\d+)-/.exec(headers.get("content-range") ?? "")?.[1] ?? NaN)
    : 0;
  if (from !== sink.length) {
    await local(() => sink.reset());
    if (from !== 0) {
      await drop(response);
      throw new TransientError("answered with other bytes than were asked for");
    }
  } else if (from > 0) sink.resume();
  for await (const chunk of response.body ?? []) {
    watch.progress(chunk.length);
    await local(() => sink.write(chunk));
  }
}

/** Tells a failure of this machine from one of the network. */
export async function local<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new LocalError(error);
  }
}

/** Reads a part of a file. */
export async function readPart(
  path: string,
  { from, size }: { from: number; size: number },
): Promise<Uint8Array<ArrayBuffer>> {
  using file = await Deno.open(path);
  await file.seek(from, Deno.SeekMode.Start);
  const bytes = new Uint8Array(size);
  let at = 0;
  while (at < size) {
    const n = await file.read(bytes.subarray(at));
    if (n === null) throw new Error(`${path} ends after ${from + at} bytes.`);
    at += n;
  }
  return bytes;
}
