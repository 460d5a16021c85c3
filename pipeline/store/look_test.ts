/** A look at a store: what it shows, and that nothing of the store changes, whatever state it is in. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Catalogue } from "./catalogue/catalogue.ts";
import { hashFile, listFiles } from "./files.ts";
import type { RunRecord } from "./records/records.ts";
import { outputsDigest } from "./records/records.ts";
import { Store } from "./store.ts";
import { UserError } from "../errors.ts";

const KEY = "ab".repeat(32);
const OTHER = "cd".repeat(32);
const LOOK = { command: "status", look: true };
const WRITE = { command: "reproduce", create: true };

async function withStore(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "look_" });
  try {
    const store = await Store.open(dir, WRITE);
    await publish(store, KEY);
    await note(store, "20260102-030405-678", "done");
    await store.close();
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function publish(store: Store, key: string): Promise<void> {
  const object = await store.objects.putText(key, { node: "n", key, output: "file" });
  const outputs = { file: { kind: "file", sha256: object.sha256, size: object.size } } as const;
  const time = "2026-01-02T03:04:05.678Z";
  await store.publish({
    record: {
      format: 1,
      key,
      node: "n",
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
      provenance: { run: "r", started_at: time, finished_at: time, seconds: 0 },
    },
    metrics: [],
    objects: [object],
  });
}

/** Writes a run's manifest, and its rows unless a kill came first. */
async function note(
  store: Store,
  run: string,
  state: RunRecord["state"],
  killed = false,
): Promise<void> {
  const record: RunRecord = {
    format: 1,
    run,
    state,
    command: "reproduce",
    config_path: "c.yaml",
    configuration: {},
    started_at: "2026-01-02T03:04:05.678Z",
    host: {},
    nodes: [],
  };
  await store.records.writeRun(record);
  if (!killed) await store.catalogue.putRun(record);
}

/** Names, bytes and times of all that a folder holds. */
async function snapshot(dir: string): Promise<unknown> {
  const found: unknown[] = [];
  for (const path of await listFiles(dir)) {
    const { mtime, ino } = await Deno.stat(join(dir, path));
    found.push([path, (await hashFile(join(dir, path))).sha256, mtime?.getTime(), ino]);
  }
  return [found, [...Deno.readDirSync(dir)].map(({ name }) => name).sort()];
}

/** The rows that a look shows. */
async function seen(dir: string): Promise<unknown> {
  const store = await Store.open(dir, LOOK);
  const nodes = await store.catalogue.rows("SELECT key FROM nodes ORDER BY key");
  const runs = await store.catalogue.rows("SELECT run, state FROM runs ORDER BY run");
  const found = [await store.lookUp(KEY), await store.lookUp(OTHER)].map((record) => record?.key);
  await store.close();
  return { nodes: nodes.map(({ key }) => key), runs: runs.map(({ state }) => state), found };
}

/** Opens for writing and closes again: what a look shows must not depend on it. */
async function mend(dir: string): Promise<void> {
  await (await Store.open(dir, WRITE)).close();
}

const STATES: readonly (readonly [name: string, prepare: (dir: string) => Promise<void>])[] = [
  ["is whole", () => Promise.resolve()],
  ["has no catalogue", (dir) => Deno.remove(join(dir, "catalogue.duckdb"))],
  [
    "has a broken catalogue",
    (dir) => Deno.writeTextFile(join(dir, "catalogue.duckdb"), "no database".repeat(1000)),
  ],
  ["has the catalogue of an earlier version", async (dir) => {
    using catalogue = await Catalogue.open(join(dir, "catalogue.duckdb"));
    await catalogue.run("DELETE FROM schema_version WHERE version > 1");
    await catalogue.run("CREATE TABLE tunings(a INT)");
    await catalogue.run("ALTER TABLE metric_values ALTER COLUMN value SET NOT NULL");
  }],
  ["has no lock and no folder for temporary files", async (dir) => {
    await Deno.remove(join(dir, "lock"));
    await Deno.remove(join(dir, "tmp"), { recursive: true });
  }],
  ["has what a killed process was writing", async (dir) => {
    await Deno.writeTextFile(join(dir, "tmp", `w-${crypto.randomUUID()}`), "half");
    await Deno.mkdir(join(dir, "state", KEY, "files"), { recursive: true });
  }],
  ["was killed between manifests and rows", async (dir) => {
    const store = await Store.open(dir, WRITE);
    await publish(store, OTHER);
    await store.flush();
    await store.catalogue.run(`DELETE FROM nodes WHERE key = '${OTHER}'`);
    await note(store, "20260102-030406-000", "running", true);
    await store.close();
  }],
  ["was killed before its new catalogue was filled", async (dir) => {
    await Deno.remove(join(dir, "catalogue.duckdb"));
    (await Catalogue.open(join(dir, "catalogue.duckdb")))[Symbol.dispose]();
  }],
  ["was killed in a run", async (dir) => {
    const store = await Store.open(dir, WRITE);
    await note(store, "20260102-030406-000", "running");
    await store.close();
  }],
  ["was killed while garbage was removed", async (dir) => {
    const store = await Store.open(dir, WRITE);
    await note(store, "20260102-030406-000", "done");
    await publish(store, OTHER);
    await store.flush();
    await store.records.removeNode(OTHER);
    await store.records.removeRun("20260102-030406-000");
    await store.close();
  }],
];

for (const [name, prepare] of STATES) {
  Deno.test(`a look at a store that ${name} changes nothing, and shows what a writer would`, async () => {
    await withStore(async (dir) => {
      await prepare(dir);
      const before = await snapshot(dir);
      const shown = await seen(dir);
      assertEquals(await snapshot(dir), before);
      await mend(dir);
      assertEquals(await seen(dir), shown);
      const { nodes, runs, found } = shown as Record<string, string[]>;
      assertEquals([nodes![0], found![0], runs![0]], [KEY, KEY, "done"]);
    });
  });
}

/** Functions of Deno that write. */
const WRITERS = [
  "chmod",
  "copyFile",
  "create",
  "link",
  "mkdir",
  "remove",
  "rename",
  "symlink",
  "truncate",
  "utime",
  "writeFile",
  "writeTextFile",
] as const;

/** Lets no function of Deno write, as on a file system that is mounted read-only. */
function readOnlyDisk(): Disposable {
  const deno = Deno as unknown as Record<string, unknown>;
  const kept: [string, unknown][] = [];
  const refuse = () => {
    throw Object.assign(new Error("Read-only file system (os error 30)"), { code: "EROFS" });
  };
  const replace = (name: string, value: unknown) => {
    kept.push([name, deno[name]]);
    deno[name] = value;
  };
  for (const name of WRITERS) {
    replace(name, () => Promise.reject(new Error("Read-only file system (os error 30)")));
    if (`${name}Sync` in deno) replace(`${name}Sync`, refuse);
  }
  const { open, openSync } = Deno;
  const writes = (options?: Deno.OpenOptions) =>
    options?.write || options?.append || options?.create || options?.createNew;
  replace(
    "open",
    (path: string, options?: Deno.OpenOptions) => writes(options) ? refuse() : open(path, options),
  );
  replace(
    "openSync",
    (path: string, options?: Deno.OpenOptions) =>
      writes(options) ? refuse() : openSync(path, options),
  );
  return {
    [Symbol.dispose]() {
      for (const [name, value] of kept) deno[name] = value;
    },
  };
}

Deno.test("a look needs no disk that can be written; writing is refused in one line", async () => {
  for (const [name, prepare] of STATES) {
    await withStore(async (dir) => {
      await prepare(dir);
      const expected = await seen(dir);
      using _ = readOnlyDisk();
      assertEquals(await seen(dir), expected, name);
      const error = await assertRejects(() => Store.open(dir, WRITE), UserError);
      assertStringIncludes(error.message, "The file system is read-only while opening the store");
    });
  }
});

Deno.test("a writer waits for a look, and leaves a catalogue that another program has", async () => {
  await withStore(async (dir) => {
    const look = await Store.open(dir, LOOK);
    const writer = Store.open(dir, WRITE);
    await look.close();
    await (await writer).close();

    const code = `const { DuckDBInstance } = await import("@duckdb/node-api");
      const c = await (await DuckDBInstance.create(${
      JSON.stringify(join(dir, "catalogue.duckdb"))
    })).connect();
      await Deno.stdout.write(new Uint8Array(1));
      await new Response(Deno.stdin.readable).text();
      c.closeSync();`;
    const other = new Deno.Command(Deno.execPath(), {
      args: ["eval", `--config=${join(import.meta.dirname!, "../../deno.json")}`, code],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = other.stdout.getReader();
    assert(!(await reader.read()).done);
    const before = await snapshot(dir);
    const error = await assertRejects(() => Store.open(dir, WRITE), UserError);
    assertStringIncludes(error.message, `is open in another program, process ${other.pid}.`);
    assertEquals((await seen(dir) as { nodes: string[] }).nodes, [KEY]);
    assertEquals(
      (await snapshot(dir) as [unknown, string[]])[1],
      (before as [unknown, string[]])[1],
    );
    await other.stdin.close();
    await reader.cancel();
    await other.status;
    assert(![...Deno.readDirSync(dir)].some(({ name }) => name.endsWith(".broken")));
  });
});
