import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Claim } from "./claim.ts";
import { fileExists } from "../../testing.ts";
import { JobStore } from "../job_store.ts";
import { removeLeftovers, temporaryNames } from "../leftovers.ts";
import type { TryLock } from "../lease/folder.ts";

const KEY = "a".repeat(64);

async function withDir(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "claim_" });
  try {
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function options(more: { signal?: AbortSignal; waits?: (whose: string) => void } = {}) {
  const signal = new AbortController().signal;
  return { node: "train", run: "20260412-101500-123", signal, waits: () => {}, ...more };
}

Deno.test("a second claimant waits, is told for whom, and comes when the first has gone", async () => {
  await withDir(async (dir) => {
    const first = await Claim.take(dir, KEY, options());
    assertEquals(await Claim.isHeld(dir, KEY), true);
    const told = Promise.withResolvers<string>();
    const second = Claim.take(dir, KEY, options({ waits: told.resolve }));
    const whose = await told.promise;
    assertStringIncludes(whose, `process ${Deno.pid} of run 20260412-101500-123 on `);
    await first[Symbol.asyncDispose]();
    await (await second)[Symbol.asyncDispose]();
    assertEquals(await Claim.isHeld(dir, KEY), false);
    assertEquals(await fileExists(join(dir, "claims", KEY)), false);
  });
});

Deno.test("of many that claim at once each is alone", async () => {
  await withDir(async (dir) => {
    let inside = 0;
    await Promise.all(Array.from({ length: 20 }, async () => {
      await using _ = await Claim.take(dir, KEY, options());
      assertEquals(++inside, 1);
      await new Promise((resolve) => setTimeout(resolve, 1));
      inside--;
    }));
  });
});

Deno.test("a claim ends with its process", async () => {
  await withDir(async (dir) => {
    const code = `
      const { Claim } = await import(${JSON.stringify(import.meta.resolve("./claim.ts"))});
      const signal = new AbortController().signal;
      await Claim.take(${
      JSON.stringify(dir)
    }, "${KEY}", { node: "n", run: "r", signal, waits() {} });
      console.log("held");
      setInterval(() => {}, 1000);`;
    const config = join(import.meta.dirname!, "..", "..", "..", "deno.json");
    const child = new Deno.Command(Deno.execPath(), {
      args: ["eval", "--config", config, code],
      stdin: "null",
      stdout: "piped",
    }).spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    assertEquals(await Claim.isHeld(dir, KEY), true);
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    await using _ = await Claim.take(dir, KEY, options());
  });
});

Deno.test("who is interrupted stops waiting", async () => {
  await withDir(async (dir) => {
    await using _ = await Claim.take(dir, KEY, options());
    const stop = new AbortController();
    const waiting = Claim.take(dir, KEY, options({ signal: stop.signal }));
    stop.abort(new Error("Interrupted"));
    await assertRejects(() => waiting, Error, "Interrupted");
  });
});

Deno.test("what a job is writing stays as long as it holds its claim", async () => {
  await withDir(async (dir) => {
    const temporary = join(dir, "tmp");
    const store = new JobStore(dir, KEY);
    const claim = await store.claim(KEY, options());
    await Deno.writeTextFile(join(store.temporary, "part"), "half");
    await Deno.mkdir(join(temporary, `job-${"b".repeat(64)}-1`));
    await Deno.writeTextFile(join(temporary, "w-1"), "");
    await removeLeftovers(dir, await temporaryNames(dir));
    assertEquals(await fileExists(join(store.temporary, "part")), true);
    assertEquals([...Deno.readDirSync(temporary)].length, 1);
    await claim[Symbol.asyncDispose]();
    assertEquals([...Deno.readDirSync(temporary)], []);
  });
});

Deno.test("where a file system has no locks, a claim is a lease", async () => {
  await withDir(async (dir) => {
    const tryLock: TryLock = () => Promise.reject(new Error("No locks available (os error 37)"));
    const lockless = { ...options(), tryLock };
    const first = await Claim.take(dir, KEY, lockless);
    assertEquals(await Claim.isHeld(dir, KEY, tryLock), true);
    const told = Promise.withResolvers<string>();
    const second = Claim.take(dir, KEY, { ...lockless, waits: told.resolve });
    assertStringIncludes(await told.promise, "another process");
    await first[Symbol.asyncDispose]();
    await (await second)[Symbol.asyncDispose]();
    assertEquals(await Claim.isHeld(dir, KEY, tryLock), false);
    assertEquals([...Deno.readDirSync(join(dir, "claims"))], []);
  });
});
