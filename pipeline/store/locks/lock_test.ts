import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { UserError } from "../../errors.ts";
import { HeldError, StoreLock, type TryLock } from "./lock.ts";
import { Store } from "../store.ts";

async function withDir(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "lock_" });
  try {
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("a second owner is told who the first is, and may come when it has gone", async () => {
  await withDir(async (dir) => {
    const path = join(dir, "lock");
    const first = await StoreLock.acquire(path, "reproduce --seed 2");
    for (const come of [() => StoreLock.acquire(path, "verify"), () => StoreLock.share(path)]) {
      const error = await assertRejects(come, HeldError);
      assertStringIncludes(error.message, `process ${Deno.pid} (\`reproduce --seed 2\`)`);
      assertEquals(error.exitCode, 2);
    }
    await first[Symbol.asyncDispose]();
    await (await StoreLock.acquire(path, "status"))[Symbol.asyncDispose]();
  });
});

Deno.test("readers share a lock, and an owner waits for them", async () => {
  await withDir(async (dir) => {
    const path = join(dir, "lock");
    assertEquals(await StoreLock.share(path), undefined);
    assertEquals([...Deno.readDirSync(dir)], []);
    await (await StoreLock.acquire(path, "reproduce"))[Symbol.asyncDispose]();
    const text = await Deno.readTextFile(path);
    const readers = [await StoreLock.share(path), await StoreLock.share(path)];
    assertEquals(await Deno.readTextFile(path), text);
    // The text names the last owner, which is gone.
    const error = await assertRejects(
      () => StoreLock.acquire(path, "reproduce", { patience: 100 }),
      HeldError,
      "is being read by another command",
    );
    assert(!error.message.includes(String(Deno.pid)));
    const owner = StoreLock.acquire(path, "reproduce");
    for (const reader of readers) await reader![Symbol.asyncDispose]();
    await (await owner)[Symbol.asyncDispose]();
  });
});

/** As the kernel answers where a file system has no locks, in Deno's words. */
const WITHOUT_LOCKS: readonly Error[] = [
  new Error("No locks available (os error 37)"),
  Object.assign(new Error("lock"), { code: "ENOLCK" }),
  new Deno.errors.NotSupported("Operation not supported (os error 95)"),
];

Deno.test("where a file system has no locks, the lease alone keeps a second owner out", async () => {
  for (const cause of WITHOUT_LOCKS) {
    await withDir(async (dir) => {
      const tryLock: TryLock = () => Promise.reject(cause);
      const pace = { beat: 20, stale: 60_000, poll: 5 };
      const options = { command: "reproduce", create: true, tryLock, pace };
      const first = await Store.open(dir, options);
      const error = await assertRejects(() => Store.open(dir, options), HeldError);
      assertStringIncludes(error.message, `is held by process ${Deno.pid} (\`reproduce\`) since`);
      const warnings: string[] = [];
      const warn = (line: string) => warnings.push(line);
      const look = await Store.open(dir, { command: "status", look: true, tryLock, warn });
      assert(look.held);
      assertStringIncludes(warnings.join(), `is held by process ${Deno.pid}`);
      await look.close();
      await first.catalogue.run("CREATE TABLE kept (x INTEGER)");
      await first.close();
      const second = await Store.open(dir, options);
      assertEquals(await second.catalogue.rows("SELECT x FROM kept"), []);
      await second.close();
      const free = await Store.open(dir, { command: "status", look: true, tryLock });
      assert(!free.held);
      await free.close();
    });
  }
});

Deno.test("a failure of the lock that is about something else is passed on", async () => {
  await withDir(async (dir) => {
    const tryLock: TryLock = () => Promise.reject(new Error("The kernel is tired"));
    const path = join(dir, "lock");
    await assertRejects(
      () => StoreLock.acquire(path, "reproduce", { tryLock }),
      Error,
      "The kernel is tired",
    );
    await assertRejects(() => StoreLock.share(path, tryLock), Error, "The kernel is tired");
  });
});

Deno.test("a job belongs to the run that the lock's owner has announced, and to no other", async () => {
  await withDir(async (dir) => {
    const path = join(dir, "lock");
    const run = "20260412-101500-123";
    const check = () => StoreLock.assertOwnedBy(path, run);
    await assertRejects(check, UserError, "Nobody holds the store");
    const owner = await StoreLock.acquire(path, "reproduce --seed 2");
    await assertRejects(check, UserError, `(\`reproduce --seed 2\`), which is not the coordinator`);
    await owner.announce("20260412-101500-124");
    await assertRejects(check, UserError, `which is not the coordinator of run ${run}`);
    await owner.announce(run);
    await check();
    await owner[Symbol.asyncDispose]();
    // The text still names the run, but nobody holds the lock.
    await assertRejects(check, UserError, "Nobody holds the store");
  });
});
