/** Answers that lack no byte but their end, from S3 and web servers. */

import { assert, assertEquals } from "@std/assert";
import { parseRemote } from "./address.ts";
import type { Backend } from "./backend.ts";
import { S3Backend } from "./s3.ts";
import { Collected, noise, S3_KEY, STUBBORN, within } from "./testing.ts";
import { WebBackend } from "./web.ts";

const BYTES = noise(1000);
const signal = new AbortController().signal;

function s3(port: number): Backend {
  const address = parseRemote("s3://models/store", "--remote");
  if (address.kind !== "s3") throw new Error("not S3");
  const settings = {
    accessKeyId: S3_KEY,
    secretAccessKey: S3_KEY,
    region: "us-east-1",
    endpoint: `http://127.0.0.1:${port}`,
  };
  return new S3Backend(address, {
    patience: STUBBORN,
    settings: () => Promise.resolve(settings),
  });
}

function web(port: number): Backend {
  const address = parseRemote(`http://127.0.0.1:${port}/store`, "--remote");
  if (address.kind !== "http") throw new Error("not http");
  return new WebBackend(address, { patience: STUBBORN });
}

/** Reads from a server whose first answer never ends and which refuses every range. */
async function read(open: (port: number) => Backend, refusal: () => Response): Promise<Collected> {
  const stop = new AbortController();
  const listen = { hostname: "127.0.0.1", port: 0, signal: stop.signal, onListen() {} };
  let refused = false;
  const server = Deno.serve(listen, ({ headers }) => {
    if (headers.has("range")) {
      refused = true;
      return refusal();
    }
    if (refused) return new Response(BYTES);
    return new Response(
      new ReadableStream({ start: (controller) => controller.enqueue(BYTES) }),
    );
  });
  const sink = new Collected();
  try {
    assert(await open(server.addr.port).read("objects/ab/x", sink, { signal }));
  } finally {
    stop.abort();
    await within(server.finished, { milliseconds: 10_000, doing: "The stop of the web server" });
  }
  assert(refused, "the end was not missed");
  assertEquals(new Uint8Array(sink.bytes), BYTES);
  return sink;
}

const size = (bytes: number) =>
  `<Error><Code>InvalidRange</Code><ActualObjectSize>${bytes}</ActualObjectSize></Error>`;

Deno.test("a refused range means that nothing is missing, where the size is the same", async () => {
  const inBody = await read(s3, () => new Response(size(1000), { status: 416 }));
  const headers = { "content-range": "bytes */1000" };
  const inHeader = await read(web, () => new Response(null, { status: 416, headers }));
  assertEquals([inBody.resets, inHeader.resets], [0, 0]);
});

Deno.test("a refused range starts the file anew where the size differs or is not told", async () => {
  const differs = await read(s3, () => new Response(size(999), { status: 416 }));
  const nothing = await read(web, () => new Response(null, { status: 416 }));
  assertEquals([differs.resets, nothing.resets], [1, 1]);
});
