import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { revisionOf } from "./revision.ts";
import { endedAs, runOnGpuNode } from "../testing.ts";

async function git(folder: string, ...args: string[]): Promise<string> {
  const identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
  const command = new Deno.Command("git", { args: ["-C", folder, ...identity, ...args] });
  const { code, stdout, stderr } = endedAs(await command.output());
  if (code !== 0) throw new Error(stderr);
  return stdout.trim();
}

Deno.test("A revision is the checkout's commit, or the bundle's; a folder inside a checkout has none", async () => {
  const root = await Deno.realPath(await Deno.makeTempDir());
  try {
    assertEquals(await revisionOf(root), undefined);
    await git(root, "init", "--quiet");
    assertEquals(await revisionOf(root), undefined, "no commit yet");
    await Deno.writeTextFile(join(root, "a.txt"), "one");
    await git(root, "add", "a.txt");
    await git(root, "commit", "--quiet", "--no-gpg-sign", "--message", "One");
    const commit = await git(root, "rev-parse", "HEAD");
    assertEquals(await revisionOf(root), { commit, modified: false });
    await Deno.writeTextFile(join(root, "a.txt"), "two");
    assertEquals(await revisionOf(root), { commit, modified: true });

    const inside = join(root, "inside");
    await Deno.mkdir(inside);
    assertEquals(await revisionOf(inside), undefined);
    const bundle = { format: 1, commit: "0123abcd", modified: true };
    await Deno.writeTextFile(join(inside, "bundle.json"), JSON.stringify(bundle));
    assertEquals(await revisionOf(inside), { commit: "0123abcd", modified: true });
    await Deno.writeTextFile(join(inside, "bundle.json"), "{");
    assertEquals(await revisionOf(inside), undefined);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("revisionOf() knows the commit where LD_LIBRARY_PATH is set and only git may be run", async () => {
  const folder = await Deno.realPath(await Deno.makeTempDir());
  try {
    await git(folder, "init", "--quiet");
    await git(folder, "commit", "--quiet", "--no-gpg-sign", "--allow-empty", "--message", "One");
    const main = join(folder, "main.ts");
    await Deno.writeTextFile(
      main,
      `import { revisionOf } from ${JSON.stringify(import.meta.resolve("./revision.ts"))};
       console.log((await revisionOf(import.meta.dirname))?.commit);`,
    );
    const permissions = ["--allow-read", "--allow-env", "--allow-run=git"];
    const { stdout, stderr } = await runOnGpuNode(main, permissions);
    assertEquals(stdout, `${await git(folder, "rev-parse", "HEAD")}\n`, stderr);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
