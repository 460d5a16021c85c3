/** Leases between real processes: killed, stopped and woken, started at once, with and without the kernel's locks. */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { dirname, fromFileUrl, join } from "@std/path";
import { endedAs } from "../../testing.ts";
import type { TryLock } from "./folder.ts";
import { Lease } from "./lease.ts";
import { LeaseHeldError, type Pace } from "./protocol.ts";

const PACE: Pace = { beat: 40, stale: 800, poll: 20 };
const NO_LOCKS: TryLock = () => Promise.reject(new Error("No locks available (os error 37)"));

/** Orders for a process of these tests. */
interface Order {
  readonly dir: string;
  readonly locks: boolean;
  readonly wait: boolean;
  /** How long it holds the lease, milliseconds. */
  readonly hold: number;
}

/** Takes the lease, publishes every few milliseconds, lets go. */
async function obey({ dir, locks, wait, hold }: Order): Promise<void> {
  const say = (line: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
  try {
    await using lease = await Lease.take(join(dir, "lease"), {
      command: "test",
      temporary: join(dir, "tmp"),
      wait,
      pace: PACE,
      ...locks ? {} : { tryLock: NO_LOCKS },
    });
    say(`has ${lease.ticket}`);
    const end = performance.now() + hold;
    for (let i = 0; performance.now() < end; i++) {
      try {
        const from = join(lease.temporary, `${i}`);
        await Deno.writeTextFile(from, "");
        await Deno.rename(from, join(dir, "published", `${Date.now()}-${lease.ticket}-${i}`));
      } catch (error) {
        await lease.assertHeld();
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    say("lets go");
  } catch (error) {
    say(`error: ${(error as Error).name}: ${(error as Error).message}`);
  }
}

if (import.meta.main) await obey(JSON.parse(Deno.args[0]!));

function start(order: Order): Deno.ChildProcess {
  const module = fromFileUrl(import.meta.url);
  const config = join(dirname(module), "..", "..", "..", "deno.json");
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "-A", `--config=${config}`, module, JSON.stringify(order)],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function withDir(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "lease_" });
  await Deno.mkdir(join(dir, "published"));
  try {
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Tickets that published, in order of time. */
function publishers(dir: string): number[] {
  const names = [...Deno.readDirSync(join(dir, "published"))].map(({ name }) => name);
  const keys = names.map((name) => name.split("-").map(Number));
  return keys.sort((a, b) => a[0]! - b[0]! || a[1]! - b[1]!).map((key) => key[1]!);
}

async function until(condition: () => boolean): Promise<void> {
  for (const end = performance.now() + 20_000; !condition();) {
    assert(performance.now() < end, "waited 20 s in vain");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const take = (dir: string, locks: boolean, wait = false) =>
  Lease.take(join(dir, "lease"), {
    command: "second",
    temporary: join(dir, "tmp"),
    wait,
    pace: PACE,
    ...locks ? {} : { tryLock: NO_LOCKS },
  });

for (const locks of [true, false]) {
  const where = locks ? "with the kernel's locks" : "by files alone";

  Deno.test(`of 8 processes that start at once one has the lease, ${where}`, async () => {
    await withDir(async (dir) => {
      const order = { dir, locks, wait: false, hold: 4000 };
      const ended = await Promise.all(
        Array.from({ length: 8 }, async () => endedAs(await start(order).output())),
      );
      const texts = ended.map(({ stdout, stderr }) => stdout + stderr);
      const owners = texts.filter((text) => text === "has 1\nlets go\n");
      const refused = texts.filter((text) =>
        /^error: LeaseHeldError: The lease is held by process \d+ on host \S+ \(`test`\)\.\n$/.test(
          text,
        )
      );
      assertEquals([owners.length, refused.length], [1, 7], texts.join(""));
    });
  });

  Deno.test(`5 processes that wait have the lease one after the other, ${where}`, async () => {
    await withDir(async (dir) => {
      const order = { dir, locks, wait: true, hold: 60 };
      const ended = await Promise.all(
        Array.from({ length: 5 }, async () => endedAs(await start(order).output())),
      );
      const tickets = ended.map(({ stdout }) => /^has (\d+)\nlets go\n$/.exec(stdout)?.[1]);
      assertEquals(new Set(tickets).size, 5, JSON.stringify(ended));
      const published = publishers(dir);
      assertEquals(published, published.toSorted((a, b) => a - b));
      assertEquals(new Set(published).size, 5);
    });
  });

  Deno.test(`the lease of a process that was killed is passed on, ${where}`, async () => {
    await withDir(async (dir) => {
      await using child = start({ dir, locks, wait: false, hold: 60_000 });
      await until(() => publishers(dir).length > 0);
      await assertRejects(() => take(dir, locks), LeaseHeldError, `process ${child.pid} on host`);
      child.kill("SIGKILL");
      await child.output();
      const begin = performance.now();
      await using lease = await take(dir, locks);
      const waited = performance.now() - begin;
      // The kernel knows at once; files alone tell by a heart that stands still.
      assert(locks ? waited < PACE.stale : waited >= PACE.stale, `${waited} ms`);
      assertEquals(lease.silent?.pid, locks ? undefined : child.pid);
      assertEquals(lease.ticket, 2);
    });
  });
}

Deno.test("a stopped process whose lease was taken over publishes nothing when it wakes", async () => {
  await withDir(async (dir) => {
    await using child = start({ dir, locks: false, wait: false, hold: 60_000 });
    await until(() => publishers(dir).length > 0);
    child.kill("SIGSTOP");
    await using lease = await take(dir, false);
    assertEquals(lease.silent?.pid, child.pid);
    const before = publishers(dir).length;
    child.kill("SIGCONT");
    const { stdout } = endedAs(await child.output());
    assertEquals(publishers(dir).length, before);
    assertMatch(
      stdout,
      /^has 1\nerror: LeaseLostError: The lease \S+ was taken over by process \d+ on host \S+ \(`second`\), as this process gave no sign of life; it writes no more\.\n$/,
    );
    await lease.assertHeld();
  });
});

Deno.test("a stopped process keeps its lease where the kernel says that it lives", async () => {
  await withDir(async (dir) => {
    await using child = start({ dir, locks: true, wait: false, hold: 60_000 });
    await until(() => publishers(dir).length > 0);
    child.kill("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, 1.5 * PACE.stale));
    await assertRejects(() => take(dir, true), LeaseHeldError, `process ${child.pid} on host`);
    child.kill("SIGKILL");
    await child.output();
  });
});

Deno.test("an owner is told within a few beats that its lease was taken", async () => {
  await withDir(async (dir) => {
    await using lease = await take(dir, false);
    const { promise, resolve } = Promise.withResolvers<void>();
    lease.lost.addEventListener("abort", () => resolve());
    // The documented way out: the owner's file is removed by hand.
    await Deno.remove(join(dir, "lease", lease.token));
    await promise;
    assertStringIncludes(lease.lost.reason.message, "was taken over, as this process");
    await using second = await take(dir, false);
    assertEquals(second.ticket, 2);
    await assertRejects(() => lease.assertHeld(), Error, "was taken over by process");
    // Letting go twice, or late, takes nothing from the next owner.
    await lease[Symbol.asyncDispose]();
    await second.assertHeld();
  });
});

Deno.test("tickets that are torn, empty or foreign hold nobody up for longer than a dead owner", async () => {
  for (const text of ["", "{", "[]", '{"token":"../../x","pid":1}', "null"]) {
    await withDir(async (dir) => {
      await Deno.mkdir(join(dir, "lease"));
      await Deno.writeTextFile(join(dir, "lease", "00000004.json"), text);
      await Deno.writeTextFile(join(dir, "lease", crypto.randomUUID()), "a leftover");
      assertEquals(await Lease.holder(join(dir, "lease")), undefined);
      await using lease = await take(dir, true);
      assertEquals(lease.ticket, 5, text);
    });
  }
});

Deno.test("a folder keeps the last tickets alone", async () => {
  await withDir(async (dir) => {
    for (let i = 0; i < 12; i++) await (await take(dir, true))[Symbol.asyncDispose]();
    const names = [...Deno.readDirSync(join(dir, "lease"))].map(({ name }) => name).sort();
    assertEquals(names.length, 9);
    assertEquals(names.at(-1), "00000012.json");
    assertEquals([...Deno.readDirSync(join(dir, "tmp"))], []);
  });
});

Deno.test("where nothing can be written, taking fails and leaves nothing", async () => {
  await withDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "lease"), "a file");
    await assertRejects(() => take(dir, true), Error);
    assertEquals(await Deno.readTextFile(join(dir, "lease")), "a file");
    await Deno.remove(join(dir, "lease"));
    await Deno.writeTextFile(join(dir, "tmp"), "a file");
    await assertRejects(() => take(dir, true), Error);
    assertEquals([...Deno.readDirSync(join(dir, "lease"))], []);
  });
});

Deno.test("a lease holds without hard links, and where a server answers a repeated request", async () => {
  const { link } = Deno;
  const answers: (typeof Deno.link)[] = [
    () => Promise.reject(new Deno.errors.NotSupported("Operation not supported (os error 95)")),
    () => Promise.reject(new Deno.errors.PermissionDenied("Operation not permitted (os error 1)")),
    async (from, to) => {
      await link(from, to);
      throw new Deno.errors.AlreadyExists("File exists (os error 17)");
    },
  ];
  for (const answer of answers) {
    await withDir(async (dir) => {
      Deno.link = answer;
      try {
        for (const ticket of [1, 2]) {
          await using lease = await take(dir, false);
          assertEquals(lease.ticket, ticket);
          await assertRejects(() => take(dir, false), LeaseHeldError);
        }
      } finally {
        Deno.link = link;
      }
    });
  }
});
