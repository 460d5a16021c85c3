import { assert, assertEquals } from "@std/assert";
import { runLoad } from "./load_testing.ts";
import { startServer, writeByteModel } from "./serve_testing.ts";

Deno.test("64 clients at once lose nothing, and leave nothing behind", async () => {
  const folder = await Deno.makeTempDir();
  await writeByteModel(folder);
  const server = await startServer(folder, { queue: 256, sequences: 8 });
  const result = await runLoad(server, { clients: 64, seconds: 2 });
  assertEquals([result.wrong, server.warnings], [[], []]);
  assert(result.answered >= 64, `${result.answered} requests were answered`);
  assert(result.given_up > 0);
  assertEquals(Object.keys(result.latencies).sort(), ["generate", "score", "stream"]);
  // A client that left is forgotten within a step or two.
  const health = async () => await (await fetch(new URL("/health", server.url))).json();
  for (let i = 0; i < 300 && (await health()).completions > 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assertEquals(await health(), { status: "ok", completions: 0, waiting: 0, generating: 0 });
  await server.stop();
  const growth = result.memory.at(-1)! - result.memory[0]!;
  assert(growth < 150 * 2 ** 20, `memory grew by ${growth} bytes`);
  await Deno.remove(folder, { recursive: true });
});
