/** A small store whose manifests are damaged in any way: a message, no trace, and what is whole stays. */

import fc from "fast-check";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { UserError } from "../errors.ts";
import { listFiles } from "./files.ts";
import { collectGarbage, verifyStore } from "./maintenance.ts";
import { type NodeRecord, objectsOf, outputsDigest, type RunRecord } from "./records/records.ts";
import { Store } from "./store.ts";

const KEYS = ["ab", "cd", "ef"].map((pair) => pair.repeat(32));
const TIME = "2026-01-02T03:04:05.678Z";

/** Opening a catalogue waits for the disk, so `fault-check` alone tries all. */
const RUNS = Deno.env.get("ETHOS_TEST_FAULTS") === "all" ? 300 : 40;

/** Publishes a node with a file, a value and a metric. */
async function publish(store: Store, key: string): Promise<void> {
  const origin = { node: "n", key, output: "file" };
  const object = await store.objects.putText(`text of ${key}`, origin);
  const csv = await store.objects.putText(`step,name,value\n3,loss,0.5\n4,${key},1\n`, origin);
  const outputs: NodeRecord["outputs"] = {
    file: { kind: "file", sha256: object.sha256, size: object.size },
    about: { kind: "json", value: { key } },
  };
  const metrics = { sha256: csv.sha256, size: csv.size, rows: 2 };
  const code = { digest: "c", files: { "n.ts": "d" }, packages: { p: "i" } };
  const components = {
    format: 1 as const,
    stage: "n",
    params: { x: [1] },
    inputs: { a: [{ node: "m", digest: "e" }] },
    code,
  };
  const provenance = { run: "r1", started_at: TIME, finished_at: TIME, seconds: 1 };
  const record: NodeRecord = {
    format: 1,
    key,
    node: `n[${key.slice(0, 2)}]`,
    stage: "n",
    resource: "cpu",
    labels: { x: 1 },
    components,
    outputs,
    metrics,
    digest: outputsDigest(outputs, metrics),
    provenance,
  };
  await store.publish({ record, metrics: [], objects: [object, csv] });
}

async function makeStore(dir: string): Promise<void> {
  const store = await Store.open(dir, { command: "test", create: true });
  for (const key of KEYS) await publish(store, key);
  for (const run of ["r1", "r2"]) {
    const nodes = KEYS.map((key) => ({ node: "n", stage: "n", key, state: "done" as const }));
    const record: RunRecord = {
      format: 1,
      run,
      state: run === "r1" ? "done" : "running",
      command: "reproduce",
      config_path: "a.yaml",
      configuration: {},
      started_at: TIME,
      host: {},
      nodes: run === "r1" ? nodes : [],
    };
    await store.records.writeRun(record);
    await store.catalogue.putRun(record);
  }
  await store.flush();
  await store.close();
}

/** Paths of a JSON value's parts. */
function paths(value: unknown, before: readonly string[] = []): string[][] {
  const inner = typeof value === "object" && value !== null ? Object.entries(value) : [];
  return [[...before], ...inner.flatMap(([key, item]) => paths(item, [...before, key]))];
}

type Damage =
  | { kind: "bytes"; at: number; bytes: Uint8Array }
  | { kind: "cut"; at: number }
  | { kind: "json"; value: unknown }
  | { kind: "part"; at: number; value: unknown }
  | { kind: "folder" }
  | { kind: "gone" };

/** Does to a file what a disk, a program or a person might. */
async function damage(path: string, change: Damage): Promise<void> {
  const bytes = await Deno.readFile(path);
  if (change.kind === "bytes") {
    const start = change.at % bytes.length;
    bytes.set(change.bytes.subarray(0, bytes.length - start), start);
  }
  await Deno.remove(path);
  switch (change.kind) {
    case "gone":
      return;
    case "folder":
      return await Deno.mkdir(path);
    case "cut":
      return await Deno.writeFile(path, bytes.subarray(0, change.at % bytes.length));
    case "json":
      return await Deno.writeTextFile(path, JSON.stringify(change.value) ?? "");
    case "bytes":
      return await Deno.writeFile(path, bytes);
    case "part": {
      const json = JSON.parse(new TextDecoder().decode(bytes));
      const all = paths(json).slice(1);
      const steps = all[change.at % all.length]!;
      const holder = steps.slice(0, -1).reduce((here, step) => here[step], json);
      holder[steps.at(-1)!] = change.value;
      return await Deno.writeTextFile(path, JSON.stringify(json));
    }
  }
}

const at = fc.nat(5000);
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(null, "", -1, 1e300, [], {}, "../../../x", KEYS[0]!, "0".repeat(64), undefined),
);
const change: fc.Arbitrary<Damage> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("part" as const), at, value }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("bytes" as const),
      at,
      bytes: fc.uint8Array({ minLength: 1, maxLength: 20 }),
    }),
  },
  fc.record({ kind: fc.constant("cut" as const), at }),
  fc.record({ kind: fc.constant("json" as const), value }),
  fc.constant<Damage>({ kind: "folder" }),
  fc.constant<Damage>({ kind: "gone" }),
);

/** Files by path below a folder, with their bytes as text. */
async function contents(dir: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const path of await listFiles(dir)) {
    files.set(path, await Deno.readTextFile(join(dir, path)));
  }
  return files;
}

async function copy(from: string, to: string): Promise<void> {
  for (const path of await listFiles(from)) {
    await Deno.mkdir(dirname(join(to, path)), { recursive: true });
    await Deno.copyFile(join(from, path), join(to, path));
  }
}

Deno.test("a store with damaged manifests opens, says so, and keeps what is whole", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const whole = join(folder, "whole");
    await makeStore(whole);
    const manifests = (await listFiles(whole)).filter((path) => /^(nodes|runs)\//.test(path));
    assertEquals(manifests.length, 5);
    let count = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(4), change), { minLength: 1, maxLength: 3 }),
        fc.boolean(),
        async (changes, lost) => {
          const dir = join(folder, `${count++}`);
          await copy(whole, dir);
          if (lost) await Deno.remove(join(dir, "catalogue.duckdb"));
          const touched = new Map(changes.map(([index, change]) => [manifests[index]!, change]));
          for (const [path, change] of touched) await damage(join(dir, path), change);
          const objects = await contents(join(dir, "objects"));
          await checkStore(dir, [...touched.keys()]);
          const after = await contents(join(dir, "objects"));
          for (const [path, text] of objects) assertEquals(after.get(path), text, path);
          await Deno.remove(dir, { recursive: true });
        },
      ),
      { numRuns: RUNS, seed: 22 },
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** Opens a store, looks at everything and collects garbage; nodes whose manifest is whole must be found. */
async function checkStore(dir: string, touched: readonly string[]): Promise<void> {
  const store = await Store.open(dir, { command: "test", create: true });
  try {
    for (const key of KEYS) {
      const record = await store.lookUp(key);
      const isWhole = !touched.some((path) => path.includes(key));
      assert(!isWhole || record !== undefined, `lost ${key}`);
      if (record === undefined) continue;
      // A store can be used after a change that no digest covers.
      await store.metrics(record);
      for (const { sha256 } of objectsOf(record)) {
        assert(store.objects.path(sha256).startsWith(dir));
      }
    }
    await store.flush();
    try {
      await collectGarbage(store, { keep: 1, remove: false });
    } catch (error) {
      assert(error instanceof UserError, error instanceof Error ? error.stack : String(error));
      assert(touched.some((path) => path.startsWith("runs/")), error.message);
    }
    const verified = await verifyStore(store);
    // A record that points at other objects is damaged itself; none of the others may be.
    for (const { key } of verified.damaged) assert(touched.some((path) => path.includes(key)), key);
    await store.rebuild();
  } finally {
    await store.close();
  }
}

Deno.test("gc collects nothing while a run's manifest can't be read", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await makeStore(dir);
    await Deno.writeTextFile(join(dir, "runs", "r1.json"), '{"format":1,"run":"r1"}');
    const store = await Store.open(dir, { command: "gc" });
    const before = await contents(join(dir, "nodes"));
    const error = await assertRejects(
      () => collectGarbage(store, { keep: 1, remove: true }),
      UserError,
    );
    assertStringIncludes(error.message, `${join(dir, "runs", "r1.json")} can't be read`);
    assertEquals(await contents(join(dir, "nodes")), before);
    await store.close();
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
