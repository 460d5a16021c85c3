import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { UserError } from "../errors.ts";
import { COMMANDS } from "../commands/mod.ts";
import { hashFile, listFiles } from "./files.ts";
import { inspectStore, MARKER } from "./folder.ts";
import { Store } from "./store.ts";
import { ToyProject } from "../testing.ts";

const DIGEST = "ab".repeat(32);
const HOLDER = '{"pid":1,"command":"reproduce","since":"2026-01-02T03:04:05.678Z"}';
const CATALOGUE = `12345678DUCK${"\0".repeat(100)}`;

async function withDir(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "folder_" });
  try {
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function fill(dir: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(dirname(join(dir, path)), { recursive: true });
    // A path that ends in `/` is an empty folder.
    if (!path.endsWith("/")) await Deno.writeTextFile(join(dir, path), text);
    else await Deno.mkdir(join(dir, path), { recursive: true });
  }
}

/** All that a folder holds: names, bytes, times. */
async function snapshot(dir: string): Promise<unknown> {
  const found: unknown[] = [];
  for (const path of await listFiles(dir)) {
    const { mtime } = await Deno.stat(join(dir, path));
    found.push([path, (await hashFile(join(dir, path))).sha256, mtime?.getTime()]);
  }
  const folders = await Array.fromAsync(Deno.readDir(dir), ({ name }) => name);
  return [found, folders.sort(), (await Deno.stat(dir)).mtime?.getTime()];
}

const THEIRS: readonly Readonly<Record<string, string>>[] = [
  { "tmp/thesis.txt": "mine", "state/notes.txt": "mine", "objects/chair.stl": "mine" },
  { "thesis.txt": "mine" },
  { "tmp/": "" },
  { "objects/": "", "state/": "" },
  // A command of an earlier version was pointed at the folder, and left its own files.
  { "lock": HOLDER, "catalogue.duckdb": CATALOGUE, "tmp/": "", "objects/chair.stl": "mine" },
  { "lock": HOLDER, "catalogue.duckdb": CATALOGUE, "state/notes/a.txt": "mine" },
  { "lock": HOLDER, "runs/marathon.json": "{}" },
  // A repository's objects look like a store's.
  { "HEAD": "ref", "objects/ab/cdef": "mine" },
  { "lock": "my own lock", "tmp/": "" },
  { "store.json": '{"shop":"books"}', "runs/": "" },
  { "nodes": "a file", "lock": "" },
  { "checks/january.pdf": "mine" },
];

Deno.test("a folder that no run made is no store, and stays as it is", async () => {
  for (const files of THEIRS) {
    await withDir(async (dir) => {
      await fill(dir, files);
      const before = await snapshot(dir);
      const about = JSON.stringify(files);
      const error = await assertRejects(
        () => inspectStore(dir),
        UserError,
        "is not a store",
        about,
      );
      assertEquals(error.exitCode, 2);
      assertEquals(error.message.split("\n").length, 1);
      for (const options of [{ create: true }, { look: true }, {}]) {
        await assertRejects(
          () => Store.open(dir, { command: "test", ...options }),
          UserError,
          "is not a store",
          about,
        );
      }
      assertEquals(await snapshot(dir), before, about);
    });
  }
});

Deno.test("stores of earlier versions are known by what they hold, and marked by who writes", async () => {
  const stores: readonly Readonly<Record<string, string>>[] = [
    { "lock": HOLDER },
    // Killed between the lock and its text.
    { "lock": "", "tmp/": "" },
    { "catalogue.duckdb": CATALOGUE, "catalogue.duckdb.wal": "" },
    { [`nodes/ab/${DIGEST}.json`]: `{"format":1,"key":"${DIGEST}"}` },
    {
      "lock": HOLDER,
      "results.json": "{}",
      "lost+found/": "",
      [`nodes/ab/${DIGEST}.json`]: "{}",
      [`objects/ab/${DIGEST}`]: "",
      [`objects/ab/${DIGEST}.json`]: "{}",
      "runs/20260412-101500-123.json": "{}",
      "runs/20260412-101500.json": "{}",
      [`state/${DIGEST}/files/part`]: "",
      [`tmp/w-${crypto.randomUUID()}`]: "",
      [`tmp/${crypto.randomUUID()}/half`]: "",
    },
  ];
  for (const files of stores) {
    await withDir(async (dir) => {
      await fill(dir, files);
      assertEquals(await inspectStore(dir), "unmarked", JSON.stringify(files));
    });
  }
  await withDir(async (dir) => {
    await fill(dir, { lock: HOLDER });
    await (await Store.open(dir, { command: "test", create: true })).close();
    assertEquals(await inspectStore(dir), "marked");
    // From here on other files are nobody's reason to doubt.
    await fill(dir, { "notes.txt": "mine" });
    assertEquals(await inspectStore(dir), "marked");
    await fill(dir, { [MARKER]: '{"pipeline_store":2}' });
    const error = await assertRejects(() => inspectStore(dir), UserError);
    assertStringIncludes(error.message, "has layout 2; this program knows layouts up to 1");
  });
});

Deno.test("an absent folder, an empty one and a new disk's may become stores; a file may not", async () => {
  await withDir(async (dir) => {
    assertEquals(await inspectStore(join(dir, "none")), "absent");
    assertEquals(await inspectStore(dir), "empty");
    await fill(dir, { "lost+found/": "" });
    assertEquals(await inspectStore(dir), "empty");
    await fill(dir, { "checks/b43987162b3bb18a/store/lock": "" });
    assertEquals(await inspectStore(dir), "empty");
    await fill(dir, { "notes.txt": "mine" });
    await assertRejects(() => inspectStore(join(dir, "notes.txt")), UserError, "is a file");
  });
});

/** Arguments of each command that touches a store, beside `--store`. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  why: ["report"],
  diff: ["previous", "latest"],
  sql: ["SELECT 1"],
  export: ["--out", "tables"],
  tensorboard: ["--out", "tables"],
  gc: ["--yes"],
  clean: ["--all", "--yes"],
  sweep: ["--config", "toy.yaml"],
  "run-node": ["0123", "--run", "20260412-101500-123"],
};

Deno.test("every command refuses somebody else's folder; none that reads makes one", async (t) => {
  await using toy = await ToyProject.create();
  const theirs = toy.path("theirs");
  await fill(theirs, THEIRS[0]!);
  const before = await snapshot(theirs);
  const cases = COMMANDS.map(({ name }) => {
    const word = name.split(" ")[0]!;
    return [word, ...ARGUMENTS[word] ?? []];
  });
  cases.push(["reproduce", "--dry-run"], ["clean"], ["gc"]);

  await t.step("named by --store, or by ETHOS_STORE", async () => {
    toy.env["ETHOS_STORE"] = theirs;
    for (const [i, args] of cases.entries()) {
      const named = i % 2 === 0 ? ["--store", theirs] : [];
      const { code, stderr } = await toy.run(...args, ...named);
      assertEquals(code, 2, `${args}: ${stderr}`);
      assertStringIncludes(
        stderr,
        `The folder ${theirs} is not a store: it holds objects/chair.stl`,
      );
      assertEquals(stderr.trim().split("\n").length, 1, stderr);
      assertEquals(await snapshot(theirs), before, args.join(" "));
    }
    delete toy.env["ETHOS_STORE"];
  });

  await t.step("a store that is not there stays away", async () => {
    const none = toy.path("none");
    for (const args of cases) {
      if (args[0] === "sweep" || (args[0] === "reproduce" && args.length === 1)) continue;
      const { code, stderr } = await toy.run(...args, "--store", none);
      assert(code === 0 || code === 2, `${args}: ${stderr}`);
      const left = [...Deno.readDirSync(toy.dir)].map(({ name }) => name);
      assert(!left.some((name) => ["none", "tables", ".ethos"].includes(name)), args.join(" "));
    }
  });
});
