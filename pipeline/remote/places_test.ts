/** Remote stores behind a web server and in a folder. */

import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { parseRemote } from "./address.ts";
import type { Backend } from "./backend.ts";
import { RemoteError } from "./error.ts";
import { type Patience, retryAfter } from "./exchange.ts";
import { FolderBackend } from "./folder.ts";
import { Remote } from "./remote.ts";
import {
  Collected,
  FaultyProxy,
  FileServer,
  HASTY,
  noise,
  PATIENT,
  SILENT,
  STUBBORN,
  TestStore,
} from "./testing.ts";
import type { Display } from "../terminal/progress.ts";
import { WebBackend } from "./web.ts";

const signal = new AbortController().signal;

function web(
  port: number,
  { token, patience = PATIENT }: { token?: string; patience?: Patience } = {},
): WebBackend {
  const address = parseRemote(`http://127.0.0.1:${port}/store`, "--remote");
  if (address.kind !== "http") throw new Error("not http");
  return new WebBackend(address, { patience, token });
}

function folder(dir: string): FolderBackend {
  const address = parseRemote(`file://${dir}`, "--remote");
  if (address.kind !== "file") throw new Error("not a folder");
  return new FolderBackend(address);
}

/** Pulls a node into a new store, and compares one of its files. */
async function pullInto(remote: Remote, key: string, expected: Uint8Array): Promise<void> {
  await using there = await TestStore.create();
  const found = await remote.manifest(key, signal);
  const { record } = await remote.pull(found!, { store: there.store, signal, display: SILENT });
  const output = record.outputs["files"];
  if (output?.kind !== "directory") throw new Error("no files");
  assertEquals(await Deno.readFile(there.store.objects.path(output.files[0]!.sha256)), expected);
}

Deno.test("http: pushed with PUT and a token, read without, in ranges after a break", async () => {
  await using server = await FileServer.start();
  await using proxy = await FaultyProxy.start(server.port);
  await using here = await TestStore.create();
  // Larger than what is sent as a whole.
  const large = noise(9_000_000);
  const record = await here.publish("node", { "a.bin": large });
  const remote = new Remote(web(proxy.port, { token: server.token }));
  const to = { store: here.store, signal, display: SILENT };
  proxy.faults.push({ kind: "status", status: 502, method: "PUT" });
  assertNotEquals(await remote.push(record, to), undefined);
  assertStringIncludes(proxy.requests.at(-1)!, "PUT /store/nodes/");
  proxy.faults.push({ kind: "truncate", path: /objects/, after: 4_000_000 });
  await pullInto(new Remote(web(proxy.port)), record.key, large);
  assertEquals(proxy.faults, []);
});

Deno.test("http: refusals name the method, and never the token", async () => {
  await using server = await FileServer.start();
  await using here = await TestStore.create();
  const record = await here.publish("node", { "a.bin": noise(10) });
  const to = { store: here.store, signal, display: SILENT };
  const without = await assertRejects(
    () => new Remote(web(server.port)).push(record, to),
    RemoteError,
  );
  assertStringIncludes(without.message, "permission was denied for PUT objects/");
  assertStringIncludes(without.message, "ETHOS_REMOTE_TOKEN holds a bearer token, and is not set");
  server.guarded = true;
  const remote = new Remote(web(server.port, { token: "another-secret" }));
  const wrong = await assertRejects(() => remote.manifest(record.key, signal), RemoteError);
  assertEquals(wrong.fault, "denied");
  assertStringIncludes(wrong.message, "the token of ETHOS_REMOTE_TOKEN does not allow GET");
  assert(!Deno.inspect(wrong).includes("another-secret"));
});

Deno.test("http: a server whose ranges start elsewhere is asked from the start", async () => {
  const bytes = noise(5000);
  let asked = 0;
  const listen = { hostname: "127.0.0.1", port: 0, onListen() {} };
  await using server = Deno.serve(listen, () => {
    asked++;
    if (asked > 1) return new Response(bytes);
    let sent = false;
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        if (!sent) controller.enqueue(bytes.subarray(0, 2000));
        else {
          await new Promise((resolve) => setTimeout(resolve, 30));
          controller.error(new Error("broken on demand"));
        }
        sent = true;
      },
    });
    return new Response(body);
  });
  const sink = new Collected();
  assert(await web(server.addr.port).read("objects/ab/x", sink, { signal }));
  assertEquals([asked, sink.resets], [2, 1]);
  assertEquals(new Uint8Array(sink.bytes), bytes);
});

/** A server that sends `size` bytes each `milliseconds`, `times` times. */
function trickle(size: number, { milliseconds, times }: { milliseconds: number; times: number }) {
  const listen = { hostname: "127.0.0.1", port: 0, onListen() {} };
  return Deno.serve(listen, () => {
    let n = 0;
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, milliseconds));
        if (n++ < times) controller.enqueue(noise(size));
        else controller.close();
      },
    });
    return new Response(body);
  });
}

Deno.test("http: a slow server is waited for as long as it makes progress", async () => {
  const sink = new Collected();
  {
    await using slow = trickle(2000, { milliseconds: 100, times: 10 });
    const start = performance.now();
    const remote = web(slow.addr.port, { patience: STUBBORN });
    assert(await remote.read("objects/ab/x", sink, { signal }));
    assertEquals(sink.length, 20_000);
    assert(performance.now() - start > 2 * STUBBORN.stallMs);
  }
  await using drops = trickle(1, { milliseconds: 50, times: 1000 });
  const error = await assertRejects(
    () => web(drops.addr.port, { patience: HASTY }).read("objects/ab/x", sink, { signal }),
    RemoteError,
  );
  assertStringIncludes(error.message, "made no progress for 0.4 s; gave up after 2 attempts");
});

Deno.test("file: a folder takes and gives nodes; its files are written whole", async () => {
  const dir = await Deno.makeTempDir({ prefix: "shared_" });
  try {
    await using here = await TestStore.create();
    const bytes = noise(3_000_000);
    const record = await here.publish("node", { "a.bin": bytes });
    const remote = new Remote(folder(join(dir, "new")));
    const bars: string[] = [];
    const display: Display = {
      ...SILENT,
      bar: (node, total, unit) => ({
        update: (done) => void bars.push(`${node} ${done}/${total} ${unit}`),
        stop() {},
      }),
    };
    const to = { store: here.store, signal, display };
    const leftover = join(dir, "new", "tmp", `w-${crypto.randomUUID()}`);
    await Deno.mkdir(join(dir, "new", "tmp"), { recursive: true });
    await Deno.writeTextFile(leftover, "half");
    await Deno.utime(leftover, new Date(0), new Date(0));
    // Two pushers at once.
    const other = new Remote(folder(join(dir, "new")));
    await Promise.all([remote.push(record, to), other.push(record, to)]);
    assertEquals([...Deno.readDirSync(join(dir, "new", "tmp"))], []);
    assert(bars.includes(`node → 3/3 MB ${remote.name}`), bars.join("\n"));
    assertEquals(await remote.push(record, to), undefined);
    await pullInto(remote, record.key, bytes);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("file: a folder that is not there has an error, not a lack of nodes", async () => {
  const remote = new Remote(folder("/no/such/disk"));
  const error = await assertRejects(() => remote.manifest("ab".repeat(32), signal), RemoteError);
  assertEquals(error.fault, "unavailable");
  assertStringIncludes(error.message, "file:///no/such/disk: there is no such folder");
});

Deno.test("file: a store that runs write to is read, and not pushed to", async () => {
  await using here = await TestStore.create();
  const bytes = noise(100);
  const record = await here.publish("node", { "a.bin": bytes });
  const remote = new Remote(folder(here.store.dir));
  await pullInto(remote, record.key, bytes);
  const to = { store: here.store, signal, display: SILENT };
  const error = await assertRejects(() => remote.push(record, to), RemoteError);
  assertStringIncludes(error.message, "is a store that runs write to");
});

Deno.test("a manifest whose paths leave their folder is refused", async () => {
  const dir = await Deno.makeTempDir({ prefix: "shared_" });
  try {
    await using here = await TestStore.create();
    for (const path of ["../a", "/a", "a/../../b", "a\\b", "C:/a", "a//b", "./a", "a\0b"]) {
      const record = await here.publish(`node ${JSON.stringify(path)}`, { [path]: noise(10) });
      const backend: Backend = folder(dir);
      const remote = new Remote(backend);
      await remote.push(record, { store: here.store, signal, display: SILENT });
      const error = await assertRejects(() => remote.manifest(record.key, signal), RemoteError);
      assertEquals(error.fault, "damaged", path);
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("Retry-After is seconds or a date", () => {
  const of = (value: string) => retryAfter(new Headers({ "retry-after": value }), 10_000);
  assertEquals(of("3"), 3000);
  assertEquals(of(new Date(15_000).toUTCString()), 5000);
  assertEquals(of(new Date(0).toUTCString()), 0);
  assertEquals(of("soon"), undefined);
  assertEquals(retryAfter(new Headers()), undefined);
});
