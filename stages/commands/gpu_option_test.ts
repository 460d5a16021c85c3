/** `--gpu` on the command line; that it reaches the device is seen in `inference_commands_test.ts`. */

import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { fromFileUrl, join, toFileUrl } from "@std/path";
import denoJson from "../../deno.json" with { type: "json" };
import { UserError } from "../../pipeline/errors.ts";
import { runtimeOf } from "./gpu_option.ts";

const ROOT = fromFileUrl(new URL("../..", import.meta.url));

/** Runs the program, with nothing that it may write. */
async function program(args: string[], options: { deno?: string[]; gpu?: string } = {}) {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--no-prompt", "--allow-read", "--allow-env"]
      .concat("--allow-ffi", "--allow-sys", options.deno ?? [], "stages/main.ts", args),
    cwd: ROOT,
    env: { ETHOS_GPU: options.gpu ?? "" },
    stdout: "null",
  }).output();
  return { code, stderr: new TextDecoder().decode(stderr) };
}

Deno.test("runtimeOf: the flag, then the environment, then Deno's", () => {
  const before = Deno.env.get("ETHOS_GPU");
  try {
    Deno.env.set("ETHOS_GPU", "dawn");
    assertEquals([runtimeOf(undefined), runtimeOf("deno")], ["dawn", "deno"]);
    Deno.env.set("ETHOS_GPU", "");
    assertEquals([runtimeOf(undefined), runtimeOf("dawn")], ["deno", "dawn"]);
    Deno.env.set("ETHOS_GPU", "Dawn");
    assertThrows(() => runtimeOf(undefined), UserError, 'ETHOS_GPU is "Dawn"; expected deno or');
    assertEquals(runtimeOf("deno"), "deno");
  } finally {
    if (before === undefined) Deno.env.delete("ETHOS_GPU");
    else Deno.env.set("ETHOS_GPU", before);
  }
});

Deno.test("every command that opens a GPU refuses other runtimes with exit code 2", async () => {
  const commands = [
    ["reproduce", "--dry-run"],
    ["sweep", "--dry-run", "--config", "configs/ablations/heads.yaml"],
    ["evaluate", "--checkpoint", "x"],
    ["generate", "--checkpoint", "x"],
    ["check-golden"],
  ];
  for (const command of commands) {
    const { code, stderr } = await program([...command, "--gpu", "metal"]);
    assertEquals(code, 2, stderr);
    assertStringIncludes(stderr, 'error: --gpu is "metal"; expected deno or dawn. See');
  }
  const { code, stderr } = await program(["reproduce", "--dry-run"], { gpu: "metal" });
  assertEquals([code, stderr], [2, 'error: ETHOS_GPU is "metal"; expected deno or dawn.\n']);
});

Deno.test("Dawn without its package: exit code 2, and how to get it", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const imports = Object.fromEntries(
      Object.entries(denoJson.imports).map(([name, target]) => [
        name,
        target.startsWith("./") ? toFileUrl(join(ROOT, target)).href : target,
      ]),
    );
    const map = join(folder, "imports.json");
    const webgpu = toFileUrl(join(folder, "not_installed.js")).href;
    await Deno.writeTextFile(map, JSON.stringify({ imports: { ...imports, webgpu } }));
    const deno = ["--no-lock", `--import-map=${map}`];
    for (const [args, gpu] of [[["--gpu", "dawn"], "deno"], [[], "dawn"]] as const) {
      const { code, stderr } = await program(["reproduce", ...args], { deno, gpu });
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, "error: Dawn can't be loaded (");
      assertStringIncludes(stderr, "`deno install` brings its package `webgpu`");
      assertEquals(stderr.trim().split("\n").length, 1, stderr);
    }
    // Dawn's library is native code.
    const denied = await program(["reproduce", "--gpu", "dawn"], { deno: ["--deny-ffi"] });
    assertEquals(denied.code, 2, denied.stderr);
    assertStringIncludes(denied.stderr, "--allow-ffi");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
