import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { MpiError, openLibrary } from "./library.ts";
import { ensureOpenMpi, TEST_ENVIRONMENT } from "./open_mpi_testing.ts";

const PROGRAM = fromFileUrl(import.meta.resolve("./rank_testing.ts"));

async function mpirun(ranks: number, ...args: string[]) {
  await ensureOpenMpi();
  const { code, stdout, stderr } = await new Deno.Command("mpirun", {
    args: [
      ...["-n", String(ranks), "--bind-to", "none", Deno.execPath(), "run", "--allow-ffi"],
      ...["--no-check", PROGRAM, ...args],
    ],
    env: TEST_ENVIRONMENT,
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test("Ranks send, receive and broadcast messages of all sizes", async () => {
  const { code, stdout, stderr } = await mpirun(3);
  assertEquals(code, 0, stderr);
  const said = stdout.trim().split("\n").map((line) => JSON.parse(line))
    .sort((a, b) => a.rank - b.rank);
  const expected = [0, 1, 2].map((rank) => ({
    rank,
    size: 3,
    right: [true, true, true, true, true],
    broadcast: true,
    sent: { messages: 5, bytes: 3_005_069 },
  }));
  assertEquals(said, expected);
});

Deno.test("One, two and four ranks add up the same bits, by as many messages as a chain has", async () => {
  let expected: string | undefined;
  const bytes = 4 * (1000 + 1 + 70_000 + 3);
  for (const size of [1, 2, 4]) {
    const { code, stdout, stderr } = await mpirun(size, "sum");
    assertEquals(code, 0, stderr);
    const said = stdout.trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(said.length, size);
    let sent = { messages: 0, bytes: 0 };
    for (const { digest, sent: own } of said) {
      assertEquals(digest, expected ??= digest);
      sent = { messages: sent.messages + own.messages, bytes: sent.bytes + own.bytes };
    }
    // Two rounds of four parts, up and down.
    const links = 2 * (size - 1);
    assertEquals(sent, { messages: 2 * links * 4, bytes: 2 * links * bytes });
  }
});

Deno.test("A rank that aborts ends all with its exit code", async () => {
  const { code, stdout } = await mpirun(3, "abort");
  assertEquals(code, 3);
  assertEquals(stdout.trim(), "");
});

Deno.test("A missing library, and one of something else, are named", () => {
  const missing = assertThrows(() => openLibrary(["libmpi-nowhere.so"]), MpiError);
  assertMatch(missing.message, /^Open MPI is not installed, there is no libmpi-nowhere\.so: `apt/);
  assert(!missing.message.includes("\n"));
  const other = assertThrows(() => openLibrary(["libc.so.6"]), MpiError);
  assertMatch(other.message, /^libc\.so\.6 is not Open MPI's library .*; expected Open MPI 4$/);
});
