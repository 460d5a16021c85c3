import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Catalogue } from "./catalogue/catalogue.ts";
import { UserError } from "../errors.ts";
import { verifyStore } from "./maintenance.ts";
import {
  measuredDigest,
  measuredOutput,
  type NodeRecord,
  outputsDigest,
  type PublishedOutput,
} from "./records/records.ts";
import { MIGRATIONS, SCHEMA_VERSION } from "./catalogue/schema.ts";
import { Store } from "./store.ts";

const OPTIONS = { command: "test", create: true };

async function withDir(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "store_" });
  try {
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Publishes a node with one file, one JSON value and one metric. */
async function publish(store: Store, key: string, text: string): Promise<NodeRecord> {
  const origin = { node: "n", key, output: "file" };
  const object = await store.objects.putText(text, origin);
  const csv = await store.objects.putText("step,name,value\n3,loss,0.5\n", origin);
  const outputs: Record<string, PublishedOutput> = {
    file: { kind: "file", sha256: object.sha256, size: object.size },
    about: { kind: "json", value: { length: text.length } },
  };
  const metrics = { sha256: csv.sha256, size: csv.size, rows: 1 };
  const record: NodeRecord = {
    format: 1,
    key,
    node: "n[x=1]",
    stage: "n",
    resource: "cpu",
    labels: { x: 1 },
    components: {
      format: 1,
      stage: "n",
      params: { deep: { x: 1 } },
      inputs: {},
      code: { digest: "c", files: { "n.ts": "d" }, packages: {} },
    },
    outputs,
    metrics,
    digest: outputsDigest(outputs, metrics),
    provenance: {
      run: "r1",
      started_at: "2026-01-02T03:04:05.678Z",
      finished_at: "2026-01-02T03:04:06.678Z",
      seconds: 1,
    },
  };
  const rows = [{ step: 3, name: "loss", value: 0.5, measured: false }];
  await store.publish({ record, metrics: rows, objects: [object, csv] });
  return record;
}

const KEY = "ab".repeat(32);
const OTHER = "cd".repeat(32);

Deno.test("a store finds what was published, before and after it was closed", async () => {
  await withDir(async (dir) => {
    let store = await Store.open(dir, OPTIONS);
    const record = await publish(store, KEY, "hello");
    assertEquals(await store.lookUp(KEY), record);
    assertEquals(await store.lookUp(OTHER), undefined);
    await store.close();
    store = await Store.open(dir, OPTIONS);
    assertEquals(await store.lookUp(KEY), record);
    const { sha256 } = record.outputs["file"] as { sha256: string };
    const path = store.objects.path(sha256);
    assertEquals(await Deno.readTextFile(path), "hello");
    assertEquals((await Deno.stat(path)).mode! & 0o777, 0o444);
    const manifest = JSON.parse(await Deno.readTextFile(store.objects.manifestPath(sha256)));
    assertEquals(manifest.key, KEY);
    await store.close();
  });
});

Deno.test("a catalogue that is deleted or broken is rebuilt, row for row", async () => {
  await withDir(async (dir) => {
    const tables = ["nodes", "artifacts", "key_components", "metric_values"];
    const dump = async (store: Store) => {
      const rows = [];
      for (const table of tables) {
        rows.push(await store.catalogue.rows(`SELECT * FROM ${table} ORDER BY ALL`));
      }
      return rows;
    };
    let store = await Store.open(dir, OPTIONS);
    await publish(store, KEY, "hello");
    await publish(store, OTHER, "world");
    await store.flush();
    const before = await dump(store);
    assertEquals(before[0]!.length, 2);
    await store.close();

    const said: string[] = [];
    const warn = (line: string) => void said.push(line);
    await Deno.remove(join(dir, "catalogue.duckdb"));
    store = await Store.open(dir, { ...OPTIONS, warn });
    assertEquals(await dump(store), before);
    await store.close();
    assertStringIncludes(said[0]!, "2 nodes");

    await Deno.writeTextFile(join(dir, "catalogue.duckdb"), "this is no database".repeat(1000));
    store = await Store.open(dir, { ...OPTIONS, warn });
    assertEquals(await dump(store), before);
    await store.close();
    assertStringIncludes(said[1]!, "put it aside");
  });
});

Deno.test("a manifest without its row is used only after every byte was read", async () => {
  await withDir(async (dir) => {
    let store = await Store.open(dir, OPTIONS);
    const record = await publish(store, KEY, "hello");
    await store.flush();
    await store.catalogue.remove({ keys: [KEY] }); // as a kill between manifest and row leaves it
    await store.close();
    const { sha256 } = record.outputs["file"] as { sha256: string };
    const path = store.objects.path(sha256);
    const { mtime } = await Deno.stat(path);

    store = await Store.open(dir, OPTIONS);
    assertEquals((await store.lookUp(KEY))?.digest, record.digest);
    await store.flush();
    assertEquals((await store.catalogue.rows("SELECT * FROM nodes")).length, 1);
    await store.catalogue.remove({ keys: [KEY] });
    await store.close();

    await Deno.chmod(path, 0o644);
    await Deno.writeTextFile(path, "jello");
    await Deno.utime(path, mtime!, mtime!); // nothing but the bytes tells
    store = await Store.open(dir, OPTIONS);
    assertEquals(await store.lookUp(KEY), undefined);
    await store.close();
  });
});

Deno.test("verifyStore() finds a changed byte, a missing object and a torn manifest", async () => {
  await withDir(async (dir) => {
    const store = await Store.open(dir, OPTIONS);
    const third = "ef".repeat(32);
    const one = await publish(store, KEY, "hello");
    const two = await publish(store, OTHER, "world");
    await publish(store, third, "again");
    assertEquals((await verifyStore(store)).damaged, []);
    const path = (record: NodeRecord) =>
      store.objects.path((record.outputs["file"] as { sha256: string }).sha256);
    await Deno.chmod(path(one), 0o644);
    await Deno.writeTextFile(path(one), "jello");
    await Deno.remove(path(two));
    const manifest = join(dir, "nodes", third.slice(0, 2), `${third}.json`);
    await Deno.writeTextFile(manifest, (await Deno.readTextFile(manifest)).slice(0, 100));
    const found = await verifyStore(store);
    assertEquals(found.damaged.map(({ problem }) => problem), ["changed", "missing"]);
    assertEquals(found.unreadable, [third]);
    for (const key of [KEY, OTHER, third]) assertEquals(await store.lookUp(key), undefined);
    // Publishing again heals.
    await publish(store, KEY, "hello");
    assert(await store.lookUp(KEY));
    assertEquals((await verifyStore(store)).damaged, []);
    await store.close();
  });
});

Deno.test("what was measured is part of no digest but its own", async () => {
  await withDir(async (dir) => {
    const store = await Store.open(dir, OPTIONS);
    const bare = await publish(store, KEY, "hello");
    assertEquals(measuredDigest(bare), "");
    const times = (seconds: number): NodeRecord => ({
      ...bare,
      outputs: { ...bare.outputs, times: measuredOutput([{ seconds }]) },
    });
    const [one, two] = [times(1), times(2)];
    for (const { outputs } of [one, two]) {
      assertEquals(outputsDigest(outputs, bare.metrics), bare.digest);
    }
    const csv = { sha256: "0".repeat(64), size: 1, rows: 1 };
    const digests = [one, two, { ...one, measured: csv }, { ...bare, measured: csv }].map(
      measuredDigest,
    );
    assertEquals(new Set(digests).size, 4);
    assertEquals(digests.at(-1), csv.sha256);

    await store.records.writeNode(one);
    assertEquals(await store.records.readNode(KEY), one);
    const manifest = join(dir, "nodes", KEY.slice(0, 2), `${KEY}.json`);
    const text = await Deno.readTextFile(manifest);
    await Deno.writeTextFile(manifest, text.replace('"seconds":1}]', '"seconds":7}]'));
    assertEquals(await store.records.readNode(KEY), undefined);
    await store.close();
  });
});

Deno.test("a store that is not there is empty, and stays away", async () => {
  await withDir(async (dir) => {
    const store = await Store.open(join(dir, "none"), { command: "status" });
    assertEquals(await store.lookUp(KEY), undefined);
    await store.close();
    assertEquals(await Array.fromAsync(Deno.readDir(dir)), []);
  });
});

Deno.test("a catalogue of a newer program is refused", async () => {
  await withDir(async (dir) => {
    const path = join(dir, "c.duckdb");
    {
      using catalogue = await Catalogue.open(path);
      assert(catalogue.fresh);
      await catalogue.run(`INSERT INTO schema_version VALUES (${SCHEMA_VERSION + 1}, now())`);
    }
    const error = await assertRejects(() => Catalogue.open(path), UserError);
    assertStringIncludes(error.message, `schema version ${SCHEMA_VERSION + 1}`);
    assertStringIncludes(error.message, `up to ${SCHEMA_VERSION}`);
  });
});

Deno.test("a catalogue of an older program is brought up to date, and keeps its rows", async () => {
  await withDir(async (dir) => {
    const path = join(dir, "c.duckdb");
    {
      using catalogue = await Catalogue.open(path);
      // As it was with the table of a command that is no more, and with numbers that JSON can't hold.
      await catalogue.run("DELETE FROM schema_version WHERE version > 2");
      await catalogue.run(MIGRATIONS[1]!);
      await catalogue.run("INSERT INTO metric_values VALUES ('k', 0, 'x', 'Infinity', false)");
      await catalogue.run("INSERT INTO metric_values VALUES ('k', 1, 'x', 1, false)");
      await catalogue.run("ALTER TABLE metric_values ALTER COLUMN value SET NOT NULL");
      await catalogue.run("INSERT INTO objects VALUES ('a', 1, 2, now())");
    }
    using catalogue = await Catalogue.open(path);
    assert(!catalogue.fresh);
    assertEquals(await catalogue.rows("SELECT sha256 FROM objects"), [{ sha256: "a" }]);
    const values = await catalogue.rows("SELECT value FROM metric_values ORDER BY step");
    assertEquals(values, [{ value: null }, { value: 1 }]);
    const tables = await catalogue.rows(
      "FROM information_schema.tables WHERE table_name = 'tunings'",
    );
    assertEquals(tables, []);
    const versions = await catalogue.rows("SELECT max(version) AS v FROM schema_version");
    assertEquals(versions, [{ v: SCHEMA_VERSION }]);
  });
});

Deno.test("ask() can't write, neither to the catalogue nor to a file, on disk and in memory", async () => {
  await withDir(async (dir) => {
    const path = join(dir, "c.duckdb");
    (await Catalogue.open(path))[Symbol.dispose]();
    for (const open of [() => Catalogue.openReadOnly(path), () => Catalogue.open(":memory:")]) {
      using catalogue = (await open())!;
      const version = await catalogue.ask("SELECT max(version) AS v FROM schema_version");
      assertEquals(version, { columns: ["v"], rows: [[SCHEMA_VERSION]] });
      for (
        const sql of ["DELETE FROM runs", `COPY runs TO '${dir}/x.csv'`, "CREATE TABLE x(a INT)"]
      ) {
        await assertRejects(() => catalogue.ask(sql), UserError);
      }
      // A query after a failed one is answered.
      assertEquals((await catalogue.ask("SELECT 1 AS one")).rows, [[1]]);
    }
    assertEquals([...Deno.readDirSync(dir)].map((entry) => entry.name), ["c.duckdb"]);
  });
});

Deno.test("ask() answers one statement, and refuses several or none", async () => {
  using catalogue = await Catalogue.open(":memory:");
  const one: readonly (readonly [sql: string, rows: unknown])[] = [
    ["SELECT 1;", [[1]]],
    ["SELECT 1; -- SELECT 2", [[1]]],
    ["SELECT ';' AS a -- ; b", [[";"]]],
    ["PIVOT (SELECT 1 AS a, 'x;y' AS b) ON b USING sum(a)", [["1"]]],
  ];
  for (const [sql, rows] of one) assertEquals((await catalogue.ask(sql)).rows, rows, sql);
  for (const sql of ["SELECT 1; SELECT 2", "SELECT ';'; SELECT 2;", "SHOW TABLES;\nCOMMIT"]) {
    const error = await assertRejects(() => catalogue.ask(sql), UserError, "goes on after", sql);
    assertEquals(error.exitCode, 2);
  }
  for (const sql of ["", "  ", "-- nothing", ";"]) {
    await assertRejects(() => catalogue.ask(sql), UserError, "expected one SQL statement", sql);
  }
});

Deno.test("transactions that overlap take turns, and one that fails leaves nothing", async () => {
  using catalogue = await Catalogue.open(":memory:");
  const insert = (n: number) => catalogue.run(`INSERT INTO schema_version VALUES (${n}, now())`);
  const results = await Promise.allSettled([
    catalogue.transaction(() => insert(100)),
    catalogue.transaction(async () => {
      await insert(200);
      throw new Error("no");
    }),
    catalogue.transaction(() => insert(300)),
  ]);
  assertEquals(results.map((result) => result.status), ["fulfilled", "rejected", "fulfilled"]);
  const rows = await catalogue.rows("SELECT version FROM schema_version WHERE version >= 100");
  assertEquals(rows, [{ version: 100 }, { version: 300 }]);
});
