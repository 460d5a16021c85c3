/** A store that two hosts share, without the kernel's locks between them: an owner that stood still wakes. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { dirname, fromFileUrl, join } from "@std/path";
import { endedAs } from "../testing.ts";
import type { TryLock } from "./lease/folder.ts";
import { LeaseLostError } from "./lease/lease.ts";
import type { Pace } from "./lease/protocol.ts";
import { verifyStore } from "./maintenance.ts";
import { type NodeRecord, outputsDigest } from "./records/records.ts";
import { Store } from "./store.ts";

const PACE: Pace = { beat: 40, stale: 700, poll: 20 };
const NO_LOCKS: TryLock = () => Promise.reject(new Error("No locks available (os error 37)"));
const TIME = "2026-01-02T03:04:05.678Z";

async function open(dir: string, warn?: (line: string) => void): Promise<Store> {
  const options = { command: "reproduce", create: true, tryLock: NO_LOCKS, pace: PACE };
  return await Store.open(dir, { ...options, ...warn && { warn } });
}

async function publish(store: Store, key: string): Promise<void> {
  const object = await store.objects.putText(key, { node: "n", key, output: "file" });
  const { sha256, size } = object;
  const outputs: NodeRecord["outputs"] = { file: { kind: "file", sha256, size } };
  const record: NodeRecord = {
    format: 1,
    key,
    node: `n[${key.slice(0, 8)}]`,
    stage: "n",
    resource: "cpu",
    labels: {},
    components: {
      format: 1,
      stage: "n",
      params: {},
      inputs: {},
      code: { digest: "c", files: {}, packages: {} },
    },
    outputs,
    digest: outputsDigest(outputs, undefined),
    provenance: { run: "r", started_at: TIME, finished_at: TIME, seconds: 1 },
  };
  await store.publish({ record, metrics: [], objects: [object] });
  await store.flush();
}

const key = (i: number) => i.toString(16).padStart(64, "0");

/** Publishes one node after the other until something refuses, and asks then, as the scheduler does, why. */
async function work(dir: string): Promise<void> {
  const store = await open(dir);
  let line = "";
  try {
    for (let i = 0;; i++) await publish(store, key(i));
  } catch (error) {
    line = String(error);
  }
  try {
    await store.assertOwned();
  } catch (error) {
    line = String(error);
  }
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
  await store.close().catch(() => {});
}

if (import.meta.main) await work(Deno.args[0]!);

Deno.test("an owner that was stopped writes nothing into a store that another has taken over", async () => {
  const module = fromFileUrl(import.meta.url);
  const config = join(dirname(module), "..", "..", "deno.json");
  for (const pause of [0, 3, 11]) {
    const dir = await Deno.makeTempDir({ prefix: "shared_" });
    try {
      await using child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--no-check", "-A", `--config=${config}`, module, dir],
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const records = async () => {
        const probe = await Store.open(dir, { command: "look", look: true, tryLock: NO_LOCKS });
        const keys = await probe.records.nodeKeys();
        await probe.close();
        return keys;
      };
      for (const end = performance.now() + 60_000; (await records()).length < 5;) {
        assert(performance.now() < end, "the child published nothing in a minute");
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
      child.kill("SIGSTOP");
      const warnings: string[] = [];
      const store = await open(dir, (line) => warnings.push(line));
      assertMatch(
        warnings.join("\n"),
        new RegExp(`^Took the store over from process ${child.pid} on host `, "m"),
      );
      const before = await store.records.nodeKeys();
      child.kill("SIGCONT");
      const { stdout, stderr } = endedAs(await child.output());
      assertMatch(
        stdout,
        /^LeaseLostError: The lease \S+ was taken over by process .*no more\.\n$/,
      );
      assertEquals(stderr, "");
      assertEquals(await store.records.nodeKeys(), before);
      await publish(store, "f".repeat(64));
      const kept = await store.catalogue.rows<{ key: string }>(
        "SELECT key FROM nodes ORDER BY key",
      );
      assertEquals(kept.map((row) => row.key), [...before, "f".repeat(64)]);
      assertEquals((await verifyStore(store)).damaged, []);
      await store.close();
      const after = await open(dir);
      assertEquals((await after.records.nodeKeys()).length, before.length + 1);
      await after.close();
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  }
});

Deno.test("an owner whose lease is gone removes nothing and enters nothing", async () => {
  const dir = await Deno.makeTempDir({ prefix: "shared_" });
  try {
    const first = await open(dir);
    await publish(first, key(1));
    for await (const { name } of Deno.readDir(join(dir, "lease"))) {
      if (!name.endsWith(".json")) await Deno.remove(join(dir, "lease", name));
    }
    const second = await open(dir);
    const [object] = await first.objects.list();
    await assertRejects(() => first.objects.remove(object!.sha256));
    await assertRejects(() => first.records.removeNode(key(1)));
    await assertRejects(() => publish(first, key(2)));
    await assertRejects(() => first.assertOwned(), LeaseLostError);
    await first.close().catch(() => {});
    assertEquals(await second.records.nodeKeys(), [key(1)]);
    assertEquals((await verifyStore(second)).damaged, []);
    await second.close();
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
