import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { UserError } from "../../pipeline/errors.ts";
import { listFolder, writeArchive } from "./archive.ts";
import { type BundleOptions, hasXz, parseOptions } from "./options.ts";
import { prunePackages, runsInBundle } from "./packages.ts";
import { read, run } from "./process.ts";
import { runScript } from "./run_script.ts";
import { findTarget } from "./targets.ts";
import { findFiles } from "../../stages/download/sources/files.ts";
import { copyFiles, copyTree, findData, findIncluded, readRevision } from "./tree.ts";

/** Runs `test` in a folder of its own. */
async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.realPath(await Deno.makeTempDir());
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Writes files below a folder. */
async function write(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(join(folder, path, ".."), { recursive: true });
    await Deno.writeTextFile(join(folder, path), text);
  }
}

const MTIME = new Date("2025-01-02T03:04:05Z");
const LONG = `deep/${"a-long-name/".repeat(12)}file.txt`;

Deno.test("An archive is the same bytes for the same files, and unpacks into them", () =>
  inFolder(async (folder) => {
    const [one, two] = [join(folder, "one"), join(folder, "two")];
    const files = { "b.txt": "b", "a/run.sh": "#!/bin/sh\n", [LONG]: "long", "empty": "" };
    await write(one, files);
    // Other order, times and modes.
    await write(two, Object.fromEntries(Object.entries(files).reverse()));
    await Deno.utime(join(two, "b.txt"), 1, 1);
    await Deno.chmod(join(two, "b.txt"), 0o600);
    for (const tree of [one, two]) {
      await Deno.chmod(join(tree, "a/run.sh"), 0o755);
      await Deno.symlink("../b.txt", join(tree, "a/link"));
    }
    const compressions = ["gzip", ...await hasXz() ? ["xz", "xz for x86"] : []];
    for (const kind of compressions) {
      const compression = kind === "gzip" ? "gzip" : "xz";
      const x86 = kind === "xz for x86";
      const archives: Uint8Array[] = [];
      for (const tree of [one, two]) {
        const out = join(folder, `${kind}.tar`);
        await writeArchive(tree, { out, name: "bundle", mtime: MTIME, compression, x86 });
        archives.push(await Deno.readFile(out));
      }
      assertEquals(archives[0], archives[1]);
      const unpacked = join(folder, kind);
      await Deno.mkdir(unpacked);
      await read("tar", { args: ["-xf", `${unpacked}.tar`, "-C", unpacked] });
      const bundle = join(unpacked, "bundle");
      assertEquals(await listFolder(bundle), await listFolder(one));
      for (const [path, text] of Object.entries(files)) {
        assertEquals(await Deno.readTextFile(join(bundle, path)), text);
        assertEquals((await Deno.stat(join(bundle, path))).mtime, MTIME);
      }
      assertEquals(await Deno.readLink(join(bundle, "a/link")), "../b.txt");
      assertEquals((await Deno.stat(join(bundle, "b.txt"))).mode! & 0o777, 0o644);
      assertEquals((await Deno.stat(join(bundle, "a/run.sh"))).mode! & 0o777, 0o755);
    }
  }));

Deno.test("An archive that can't be written is an error, and nothing waits for ever", () =>
  inFolder(async (folder) => {
    await write(folder, { "tree/a": "a".repeat(1 << 20) });
    const tree = join(folder, "tree");
    const out = join(folder, "absent/x.tar.gz");
    const options = { out, name: "bundle", mtime: MTIME, compression: "gzip" as const };
    await assertRejects(() => writeArchive(tree, options), Error, "absent");
  }));

Deno.test("Options are read, with what follows from them", async () => {
  const parse = async (...args: string[]) =>
    await parseOptions(args, { xz: true }) as BundleOptions;
  const options = await parse("--target", "linux-arm64", "--data", "a", "b", "--dawn");
  assertEquals(options.target.denoPackage, "@deno/linux-arm64-glibc");
  assertEquals(options.data, ["a", "b"]);
  assertEquals([options.dawn, options.slim, options.compression], [true, false, "xz"]);
  assertEquals(options.out, join(Deno.cwd(), "ethos-bundle-linux-arm64.tar.xz"));
  assertEquals((await parse("--out", "/x.tar.gz")).compression, "gzip");
  const plain = await parseOptions(["--target", "linux-x64"], { xz: false }) as BundleOptions;
  assertEquals(plain.out, join(Deno.cwd(), "ethos-bundle-linux-x64.tar.gz"));
  assertMatch(await parseOptions(["--help"], { xz: true }) as string, /--include/);
});

Deno.test("Bad options end with exit code 2 and say what was expected", async () => {
  const cases: [string[], string][] = [
    [["--target", "win32-x64"], "WSL"],
    [["--target", "linux-x46"], "Did you mean `linux-x64`?"],
    [["--out", "x.zip"], "expected a name that ends with .tar.xz or .tar.gz"],
    [["--out", "a.tar.gz", "--out", "b.tar.gz"], "--out is given 2 times"],
    [["--outt", "x.tar.gz"], "outt"],
    [["stray"], "stray"],
    [["--out"], "Not enough arguments following: out"],
    [["--data"], "Not enough arguments following: data"],
  ];
  for (const [args, message] of cases) {
    const error = await assertRejects(() => parseOptions(args, { xz: true }), UserError, message);
    assertEquals(error.exitCode, 2);
  }
  await assertRejects(() => parseOptions(["--out", "x.tar.xz"], { xz: false }), UserError, "no xz");
});

Deno.test("Data and included files get their places; what is not read is refused", () =>
  inFolder(async (folder) => {
    await write(folder, {
      "c4/en/one.json.gz": "",
      "c4/two.jsonl": "",
      "loose/three.txt": "",
      "loose/four.parquet": "",
      "other/three.txt": "",
      "bad/readme.md": "",
      "libx.so": "x",
    });
    const at = (path: string) => join(folder, path);
    const data = await findData([at("c4"), at("loose/three.txt"), at("loose/four.parquet")]);
    assertEquals([...data.files], [
      ["data/c4/en/one.json.gz", at("c4/en/one.json.gz")],
      ["data/c4/two.jsonl", at("c4/two.jsonl")],
      ["data/three.txt", at("loose/three.txt")],
      ["data/four.parquet", at("loose/four.parquet")],
    ]);
    assertEquals(data.globs, [
      "data/*.parquet",
      "data/*.txt",
      "data/c4/*.jsonl",
      "data/c4/en/*.json.gz",
    ]);
    await copyFiles(data.files, at("bundle"));
    await copyFiles(await findIncluded([at("libx.so")]), at("bundle"));
    assertEquals(await Deno.readTextFile(at("bundle/include/libx.so")), "x");
    assertEquals((await listFolder(at("bundle"))).length, 5);
    const refused: [() => Promise<unknown>, string][] = [
      [() => findData([at("bad")]), "readme.md"],
      [() => findData([at("absent")]), `No file matches --data "${at("absent")}"`],
      [() => findData([at("loose/three.txt"), at("other/three.txt")]), "both be data/three.txt"],
      [() => findIncluded([at("c4")]), "expected a file"],
      [() => findIncluded([at("absent")]), "does not exist"],
    ];
    for (const [find, message] of refused) await assertRejects(find, UserError, message);
  }));

Deno.test("A pattern of --data finds files as a shell would; a path that exists comes first", () =>
  inFolder(async (folder) => {
    await write(folder, {
      "c4/one.json.gz": "",
      "c4/two.json.gz": "",
      "c4/three.txt": "",
      "[new]/[draft] notes.txt": "",
      "[new]/deep/four.txt": "",
    });
    const at = (path: string) => join(folder, path);
    const said: string[] = [];
    await Deno.symlink("nowhere", at("c4/lost.json.gz"));
    const data = await findData([at("c4/*.json.gz"), at("[new]/[draft] notes.txt")], {
      warn: (line) => void said.push(line),
    });
    assertEquals([...data.files], [
      ["data/one.json.gz", at("c4/one.json.gz")],
      ["data/two.json.gz", at("c4/two.json.gz")],
      ["data/[draft] notes.txt", at("[new]/[draft] notes.txt")],
    ]);
    assertEquals(data.globs, ["data/*.json.gz", "data/*.txt"]);
    assertEquals(said.length, 1);
    assertMatch(said[0]!, /lost\.json\.gz is left out/);
    const below = await findData([at("[new]")]);
    assertEquals([...below.files.keys()], [
      "data/[new]/[draft] notes.txt",
      "data/[new]/deep/four.txt",
    ]);
    // The bundle names patterns that find these files again.
    await copyFiles(below.files, at("bundle"));
    for (const glob of below.globs) assertEquals((await findFiles(at(`bundle/${glob}`))).length, 1);
    await assertRejects(() => findData([at("c4/*.jsonl")]), UserError, "No file matches --data");
  }));

Deno.test("The tree is what git tracks and what is new, with the commit's time", () =>
  inFolder(async (folder) => {
    const root = join(folder, "root");
    await write(root, { ".gitignore": "ignored\n", "a.ts": "a", "gone.ts": "", "b_test.ts": "" });
    const git = (...args: string[]) =>
      read("git", {
        args: ["-c", "user.name=a", "-c", "user.email=a@example.org", ...args],
        cwd: root,
        env: { GIT_COMMITTER_DATE: "2025-01-02T03:04:05Z", GIT_CONFIG_GLOBAL: "/dev/null" },
      });
    await git("init", "-q");
    await assertRejects(() => readRevision(root), UserError, "no git checkout with a commit");
    await git("add", "-A");
    await git("commit", "-qm", "first");
    const clean = await readRevision(root);
    assertEquals([clean.time, clean.modified, clean.commit.length], [MTIME, false, 40]);
    await write(root, { "new.ts": "", "ignored": "", "out.tar.gz": "" });
    await Deno.remove(join(root, "gone.ts"));
    assert((await readRevision(root)).modified);
    const skip = [join(root, "out.tar.gz")];
    const copied = async (to: string, slim: boolean) => {
      await copyTree(root, join(folder, to), { slim, skip });
      return (await listFolder(join(folder, to))).map(({ path }) => path);
    };
    assertEquals(await copied("whole", false), [".gitignore", "a.ts", "b_test.ts", "new.ts"]);
    assertEquals(await copied("slim", true), [".gitignore", "a.ts", "new.ts"]);
    await write(root, { "data/x": "" });
    await assertRejects(() => copied("reserved", false), UserError, "data/x");
  }));

Deno.test("Packages that no module reaches keep only their manifest", () =>
  inFolder(async (bundle) => {
    const store = "node_modules/.deno";
    const at = (name: string) => `${store}/${name}@1.0.0/node_modules/${name}`;
    const manifest = (name: string, more = {}) =>
      JSON.stringify({ name, version: "1.0.0", main: "index.js", ...more });
    const packages = ["imported", "needed", "resolved", "unused", "musl"];
    for (const name of packages) {
      const more = name === "musl" ? { libc: ["musl"] } : {};
      await write(bundle, {
        [`${at(name)}/package.json`]: manifest(name, more),
        [`${at(name)}/index.js`]: "module.exports = 1;",
        [`${at(name)}/index.js.map`]: "{}",
        [`${at(name)}/index.d.ts`]: "",
        [`${store}/${name}@1.0.0/.initialized`]: "",
      });
      const link = join(bundle, "node_modules", name);
      await Deno.symlink(`.deno/${name}@1.0.0/node_modules/${name}`, link);
    }
    for (const name of ["needed", "musl"]) {
      await Deno.symlink(
        `../../${name}@1.0.0/node_modules/${name}`,
        join(bundle, `${store}/imported@1.0.0/node_modules`, name),
      );
    }
    const imports = Object.fromEntries(packages.map((name) => [name, `npm:${name}@1.0.0`]));
    const locked = {
      version: "5",
      specifiers: Object.fromEntries(packages.map((name) => [`npm:${name}@1.0.0`, "1.0.0"])),
      npm: Object.fromEntries(
        packages.map((name) => [`${name}@1.0.0`, {
          integrity: "sha512-none",
          ...name === "imported" ? { dependencies: ["musl", "needed"] } : {},
        }]),
      ),
      workspace: { dependencies: packages.map((name) => `npm:${name}@1.0.0`) },
    };
    await write(bundle, {
      "deno.json": JSON.stringify({ nodeModulesDir: "auto", imports }),
      "deno.lock": JSON.stringify(locked),
      "main.ts": 'import "imported"; import.meta.resolve("resolved");',
      "x_bench.ts": 'import "unused";',
    });
    const modules = ["main.ts", "x_bench.ts"].filter(runsInBundle);
    const options = { deno: Deno.execPath(), target: findTarget("linux-x64"), modules };
    const pruned = await prunePackages(bundle, { ...options, dawn: false, slim: true });
    assertEquals(pruned, {
      kept: ["imported@1.0.0", "needed@1.0.0", "resolved@1.0.0"],
      left_out: ["musl@1.0.0", "unused@1.0.0"],
    });
    for (const name of packages) {
      const files = (await listFolder(join(bundle, at(name)))).map(({ path }) => path);
      const whole = pruned.kept.includes(`${name}@1.0.0`);
      assertEquals(files, whole ? ["index.js", "package.json"] : ["package.json"], name);
    }
  }));

Deno.test("run.sh offers the tasks whose modules are there, with their permissions", () =>
  inFolder(async (folder) => {
    const tasks = {
      show: { description: "Shows", command: "deno run --allow-read=x --no-prompt main.ts show" },
      slow: { command: "A=b deno test --allow-env main.ts" },
      absent: { command: "deno run --allow-all absent.ts" },
      chain: { command: "deno lint && deno run main.ts" },
      bundle: { command: "deno run main.ts" },
    };
    const script = runScript(tasks, new Set(["main.ts"]));
    // A stand-in for Deno shows what it is called with.
    const deno = '#!/bin/sh\nprintf "%s|" "$0" "${A:-}" "$PWD" "$@"\n';
    await write(folder, { "a folder/run.sh": script, "a folder/bin/deno": deno });
    const bundle = join(folder, "a folder");
    await Deno.chmod(join(bundle, "bin/deno"), 0o755);
    const sh = (...args: string[]) =>
      run("sh", { args: [join(bundle, "run.sh"), ...args], cwd: "/", env: { DENO_DIR: "" } });
    const called = (await sh("show", "a b", "--c")).stdout.split("|");
    assertEquals(called.slice(0, -1), [
      join(bundle, "bin/deno"),
      "",
      bundle,
      ..."run --cached-only --no-check --allow-read=x --no-prompt main.ts show".split(" "),
      "a b",
      "--c",
    ]);
    assertEquals((await sh("slow")).stdout.split("|").slice(1, 4), ["b", bundle, "test"]);
    assertEquals((await sh("deno", "--version")).stdout.split("|")[3], "--version");
    for (const name of ["absent", "chain", "bundle", "toString"]) {
      const { code, stderr } = await sh(name);
      assertEquals(code, 2);
      assertMatch(stderr, new RegExp(`unknown task \`${name}\``));
    }
    assertEquals((await sh()).code, 2);
    const help = await sh("--help");
    assertEquals(help.code, 0);
    assertMatch(help.stdout, /^ {2}show {2}Shows$/m);
  }));
