import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { revisionOf } from "./revision.ts";

async function git(folder: string, ...args: string[]): Promise<string> {
  const identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
  const { success, stdout, stderr } = await new Deno.Command("git", {
    args: ["-C", folder, ...identity, ...args],
  }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(decoder.decode(stderr));
  return decoder.decode(stdout).trim();
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
