/** A remote store in a bucket of a real S3 server, behind a proxy that injects faults. */

import {
  assert,
  assertEquals,
  assertLess,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { parseRemote } from "./address.ts";
import { RemoteError } from "./error.ts";
import type { Patience } from "./exchange.ts";
import { Remote } from "./remote.ts";
import { S3Backend } from "./s3.ts";
import {
  BUCKET,
  FaultyProxy,
  HASTY,
  noise,
  PATIENT,
  S3_KEY,
  S3Server,
  SILENT,
  STUBBORN,
  TestStore,
} from "./testing.ts";
import { sha256 } from "../graph/key.ts";
import type { NodeRecord } from "../store/records/records.ts";

const SECRET = "hunter2-is-no-key";
const signal = new AbortController().signal;

/** A remote store of a bucket's prefix. */
function open(
  port: number,
  prefix: string,
  more: { bucket?: string; key?: string; secret?: string; patience?: Patience } = {},
): Remote {
  const address = parseRemote(`s3://${more.bucket ?? BUCKET}/${prefix}`, "--remote");
  if (address.kind !== "s3") throw new Error("not S3");
  return new Remote(
    new S3Backend(address, {
      patience: more.patience ?? PATIENT,
      partBytes: 50_000,
      settings: () =>
        Promise.resolve({
          accessKeyId: more.key ?? S3_KEY,
          secretAccessKey: more.secret ?? S3_KEY,
          region: "us-east-1",
          endpoint: `http://127.0.0.1:${port}`,
        }),
    }),
  );
}

/** The objects that a store has of a record, as bytes. */
async function contents({ store }: TestStore, record: NodeRecord): Promise<Uint8Array[]> {
  const output = record.outputs["files"];
  if (output?.kind !== "directory") throw new Error("no files");
  return await Promise.all(
    output.files.map(({ sha256 }) => Deno.readFile(store.objects.path(sha256))),
  );
}

Deno.test("S3: push, pull, and every fault", async (t) => {
  await using server = await S3Server.start();
  await using proxy = await FaultyProxy.start(server.port);
  await using here = await TestStore.create();
  const files = { "a.bin": noise(1000), "deep/b.bin": noise(175_000, 2), "empty": noise(0) };
  const record = await here.publish("node", files);
  const to = { store: here.store, signal, display: SILENT };
  /** The address of the largest object. */
  const large = new RegExp(`objects/../${sha256(files["deep/b.bin"])}`);

  /** Sends the node below a prefix of its own, and gives another store to pull it into. */
  const prepared = async (prefix: string, patience = PATIENT) => {
    const remote = open(proxy.port, prefix);
    assertNotEquals(await remote.push(record, to), undefined);
    proxy.requests.length = 0;
    const there = await TestStore.create();
    /** Only objects are waited for with the patience that was given. */
    const pull = async () => {
      const found = await remote.manifest(record.key, signal);
      const to = { store: there.store, signal, display: SILENT };
      return await open(proxy.port, prefix, { patience }).pull(found!, to, "r2");
    };
    return { remote, there, pull };
  };
  /** Pulls, which has to succeed with the same bytes. */
  const succeeds = async (prefix: string, inject: () => void, patience?: Patience) => {
    const { there, pull } = await prepared(prefix, patience);
    await using _ = there;
    inject();
    await pull();
    assertEquals(proxy.faults, [], "a fault was not met");
    assertEquals(await contents(there, record), Object.values(files));
    assertEquals((await there.store.lookUp(record.key))?.digest, record.digest);
    assertEquals([...Deno.readDirSync(there.store.temporary)], []);
  };
  /** Pulls, which has to fail with a line; then nothing is published. */
  const fails = async (
    prefix: string,
    inject: () => void,
    fault: string,
    line: string,
    patience?: Patience,
  ) => {
    const { there, pull } = await prepared(prefix, patience);
    await using _ = there;
    inject();
    const error = await assertRejects(pull, RemoteError);
    proxy.faults.length = 0;
    assertEquals(error.fault, fault, error.message);
    assertStringIncludes(error.message, `s3://${BUCKET}/${prefix}: `);
    assertStringIncludes(error.message, line);
    assert(!error.message.includes("\n"));
    assertEquals(await there.store.lookUp(record.key), undefined);
    assertEquals([...Deno.readDirSync(there.store.temporary)], []);
  };

  await t.step("the node arrives whole, and says where from", async () => {
    const { there, pull, remote } = await prepared("whole");
    await using _ = there;
    assert(proxy.requests.length === 0);
    const { record: pulled } = await pull();
    assertEquals(await contents(there, record), Object.values(files));
    const { pulled: origin, ...provenance } = pulled.provenance;
    assertEquals(provenance, record.provenance);
    assertEquals([origin?.from, origin?.run], [`s3://${BUCKET}/whole`, "r2"]);
    assertEquals(await there.store.metrics(pulled), await here.store.metrics(record));
    assertEquals(await remote.push(record, to), undefined, "it was there");
    assertEquals(await remote.manifest("ab".repeat(32), signal), undefined);
  });

  await t.step("a large object is sent in parts, a small one at once", async () => {
    proxy.requests.length = 0;
    await open(proxy.port, "parts").push(record, to);
    const parts = proxy.requests.filter((line) => /^PUT .*partNumber=/.test(line));
    assertEquals(parts.length, 4);
    assertEquals(proxy.requests.filter((line) => /^PUT [^?]*$/.test(line)).length, 4);
    assertStringIncludes(
      proxy.requests.at(-1)!,
      "PUT /models/parts/nodes/",
      "the manifest is last",
    );
  });

  await t.step("a truncated answer goes on where it broke off", async () => {
    await succeeds("truncated", () => {
      proxy.faults.push({ kind: "truncate", path: large, after: 70_000, times: 2 });
    });
    assertEquals(proxy.requests.filter((line) => large.test(line)).length, 3);
  });

  await t.step(
    "status 500 and 503 are tried again, after the time that the server asks",
    async () => {
      const start = performance.now();
      await succeeds("errors", () => {
        proxy.faults.push({ kind: "status", status: 500, path: /nodes/ });
        const headers = { "retry-after": "1" };
        proxy.faults.push({ kind: "status", status: 503, path: /objects/, headers });
      });
      assertLess(1000, performance.now() - start);
    },
  );

  await t.step("status 500 again and again ends in one line", () =>
    fails(
      "failing",
      () => {
        proxy.faults.push({ kind: "status", status: 500, path: /objects/, times: 100 });
      },
      "unavailable",
      "answered with status 500; gave up after 3 attempts",
    ));

  await t.step("an answer that stops coming is asked for again", async () => {
    await succeeds("stalled", () => {
      proxy.faults.push({ kind: "stall", path: large, after: 100 });
    }, STUBBORN);
    assertLess(1, proxy.requests.filter((line) => large.test(line)).length);
  });

  await t.step("a server that never answers ends in one line", () =>
    fails(
      "slow",
      () => {
        proxy.faults.push({ kind: "stall", path: /objects/, after: 0, times: 100 });
      },
      "unavailable",
      "made no progress for 0.4 s; gave up after 2 attempts",
      HASTY,
    ));

  await t.step("other bytes are refused, and the object named", () =>
    fails(
      "corrupt",
      () => {
        proxy.faults.push({ kind: "corrupt", path: /objects/, times: 100 });
      },
      "damaged",
      "holds other bytes than its name says",
    ));

  await t.step(
    "bytes that were put together wrong get a second chance",
    () =>
      succeeds("stitched", () => {
        const path = large;
        proxy.faults.push({ kind: "truncate", path, after: 700 }, {
          kind: "corrupt",
          path,
          range: true,
        });
      }),
  );

  await t.step("a short object is refused", () =>
    fails(
      "short",
      () => {
        proxy.faults.push({ kind: "shorten", path: /objects/, by: 1, times: 100 });
      },
      "damaged",
      "its manifest says",
    ));

  await t.step("a manifest with a changed byte is refused", () =>
    fails(
      "manifest",
      () => {
        proxy.faults.push({ kind: "corrupt", path: /nodes/, times: 100 });
      },
      "damaged",
      `${record.key}.json is no manifest of that key`,
    ));

  await t.step("an object that is gone is named", () =>
    fails(
      "gone",
      () => {
        const body = "<Error><Code>NoSuchKey</Code></Error>";
        proxy.faults.push({ kind: "status", status: 404, path: /objects/, body, times: 100 });
      },
      "damaged",
      "is missing, though a manifest names it",
    ));

  await t.step("no permission: the line names the key and the permission", async () => {
    const body = "<Error><Code>AccessDenied</Code></Error>";
    const denied = { kind: "status", status: 403, body, times: 100 } as const;
    await fails(
      "denied",
      () => void proxy.faults.push({ ...denied, path: /nodes/ }),
      "denied",
      `permission was denied for GET nodes/${record.key.slice(0, 2)}/${record.key}.json in ` +
        `bucket ${BUCKET}; it needs s3:GetObject`,
    );
    proxy.faults.push({ ...denied, method: "PUT" });
    const push = () => open(proxy.port, "denied-too").push(record, to);
    const error = await assertRejects(push, RemoteError);
    proxy.faults.length = 0;
    assertStringIncludes(error.message, "permission was denied for PUT objects/");
    assertStringIncludes(error.message, "it needs s3:PutObject");
  });

  await t.step("credentials that the server refuses are never repeated", async () => {
    for (
      const [more, line] of [
        [{ secret: SECRET }, "the secret key does not belong to the access key"],
        [{ key: SECRET }, "the server does not know the access key"],
      ] as const
    ) {
      const remote = open(server.port, "x", more);
      const error = await assertRejects(() => remote.manifest(record.key, signal), RemoteError);
      assertStringIncludes(error.message, line);
      assertEquals(error.fault, "denied");
      assert(!Deno.inspect(error).includes(SECRET));
    }
  });

  await t.step("no bucket of that name", async () => {
    const remote = open(server.port, "x", { bucket: "nobody" });
    for (const work of [() => remote.manifest(record.key, signal), () => remote.push(record, to)]) {
      const error = await assertRejects(work, RemoteError);
      assertStringIncludes(error.message, "there is no bucket nobody");
    }
  });

  await t.step(
    "a push that fails half-way publishes nothing; the next one sends the rest",
    async () => {
      const remote = open(proxy.port, "half");
      const largest = /partNumber=3/;
      proxy.faults.push({ kind: "status", status: 500, path: largest, times: 3 });
      const error = await assertRejects(() => remote.push(record, to), RemoteError);
      assertStringIncludes(error.message, "answered with status 500; gave up after 3 attempts");
      assertEquals(await remote.manifest(record.key, signal), undefined);
      assert(
        proxy.requests.some((line) => /^DELETE .*uploadId=/.test(line)),
        "the upload was ended",
      );
      assertNotEquals(await remote.push(record, to), undefined);
      assertNotEquals(await remote.manifest(record.key, signal), undefined);
    },
  );

  await t.step("an upload whose last answer is lost is done if the object is there", async () => {
    const last = { method: "POST", path: /uploadId=/ } as const;
    const body = "<Error><Code>NoSuchUpload</Code></Error>";
    const unknown = () => ({ ...last, kind: "status", status: 404, body }) as const;
    // This server answers the second attempt with 500, others with 404.
    for (const [prefix, ...second] of [["lost"], ["lost-too", unknown()]] as const) {
      const remote = open(proxy.port, prefix);
      proxy.faults.push({ ...last, kind: "truncate", after: 0 }, ...second);
      assertNotEquals(await remote.push(record, to), undefined);
      assertEquals(proxy.faults, []);
      assertNotEquals(await remote.manifest(record.key, signal), undefined);
    }
    const path = `lost/objects/${sha256(files["deep/b.bin"]).slice(0, 2)}`;
    const object = `${sha256(files["deep/b.bin"])}._S3rver_object`;
    const stored = join(server.folder, BUCKET, path, object);
    assertEquals(await Deno.readFile(stored), files["deep/b.bin"]);
    await Deno.writeFile(stored, noise(175_000, 3));
    proxy.faults.push(unknown());
    const push = () => open(proxy.port, "lost").push(record, { ...to, force: true });
    const error = await assertRejects(push, RemoteError);
    assertStringIncludes(error.message, "is no longer known (NoSuchUpload, status 404)");
  });

  await t.step("two pushers at once leave one whole node", async () => {
    const remotes = [open(proxy.port, "both"), open(proxy.port, "both")];
    await Promise.all(remotes.map((remote) => remote.push(record, to)));
    await using there = await TestStore.create();
    const found = await remotes[0]!.manifest(record.key, signal);
    await remotes[0]!.pull(found!, { store: there.store, signal, display: SILENT });
    assertEquals(await contents(there, record), Object.values(files));
  });

  await t.step("a damaged object of the store is not sent", async () => {
    await using broken = await TestStore.create();
    const made = await broken.publish("broken", { "a.bin": noise(300, 7) });
    const output = made.outputs["files"] as { readonly files: readonly { sha256: string }[] };
    const path = broken.store.objects.path(output.files[0]!.sha256);
    await Deno.chmod(path, 0o644);
    await Deno.writeFile(path, noise(300, 8));
    const remote = open(proxy.port, "broken");
    const push = () => remote.push(made, { ...to, store: broken.store });
    assertStringIncludes((await assertRejects(push, RemoteError)).message, "is damaged or missing");
    assertEquals(await remote.manifest(made.key, signal), undefined);
  });

  await t.step("an abort ends a transfer at once", async () => {
    const { there, remote } = await prepared("abort");
    await using _ = there;
    const found = await remote.manifest(record.key, signal);
    proxy.faults.push({ kind: "stall", path: /objects/, after: 0, times: 100 });
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("enough")), 50);
    const transfer = { store: there.store, signal: controller.signal, display: SILENT };
    await assertRejects(() => remote.pull(found!, transfer), Error, "enough");
    proxy.faults.length = 0;
    assertEquals([...Deno.readDirSync(there.store.temporary)], []);
  });

  await t.step("a bucket that vanishes, and a server that does", async () => {
    const remote = open(proxy.port, "x");
    await Deno.remove(join(server.folder, BUCKET), { recursive: true });
    const gone = await assertRejects(() => remote.manifest(record.key, signal), RemoteError);
    assertStringIncludes(gone.message, `there is no bucket ${BUCKET}`);
    const closed = await FaultyProxy.start(server.port);
    await closed[Symbol.asyncDispose]();
    const nobody = open(closed.port, "x");
    const refused = await assertRejects(() => nobody.manifest(record.key, signal), RemoteError);
    assertStringIncludes(refused.message, "the connection was refused; gave up after 3 attempts");
    assertEquals(refused.fault, "unavailable");
  });
});
