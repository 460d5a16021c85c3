import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { ownCardPrefix } from "./own_card.ts";

/** Names of the files that a rank can read as they are; the others are `/dev/null`. */
const SEEN = 'for file in "$0"/nvidia*; do [ -f "$file" ] && basename "$file"; done; true';

Deno.test("Each rank of a host sees a card of its own", async () => {
  const dev = await Deno.makeTempDir();
  try {
    const seen = async (environment: Record<string, string>) => {
      const [command, ...args] = ownCardPrefix({ dev });
      const { success, stdout, stderr } = await new Deno.Command(command!, {
        args: [...args, "sh", "-c", SEEN, dev],
        env: environment,
      }).output();
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
      if (!success) throw new Error(text(stderr));
      return text(stdout).split("\n").filter((line) => line !== "");
    };
    const rank = (local: number, size = 3) =>
      seen({
        OMPI_COMM_WORLD_LOCAL_RANK: String(local),
        OMPI_COMM_WORLD_LOCAL_SIZE: String(size),
      });
    assertEquals(await rank(1), [], "no cards");
    for (const name of ["nvidia0", "nvidia1", "nvidiactl"]) {
      await Deno.writeTextFile(join(dev, name), "");
    }
    assertEquals(await rank(0), ["nvidia0", "nvidiactl"]);
    assertEquals(await rank(1), ["nvidia1", "nvidiactl"]);
    assertEquals(await rank(2), ["nvidia0", "nvidiactl"], "in turn");
    const all = ["nvidia0", "nvidia1", "nvidiactl"];
    assertEquals(await rank(0, 1), all, "a rank alone on its host");
    assertEquals(await seen({}), all);
    // A card that is hidden already is none.
    await Deno.remove(join(dev, "nvidia1"));
    await Deno.symlink("/dev/null", join(dev, "nvidia1"));
    assertEquals(await rank(1), ["nvidia0", "nvidiactl"]);
  } finally {
    await Deno.remove(dev, { recursive: true });
  }
});
