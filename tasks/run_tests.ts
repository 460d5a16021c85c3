// deno-lint-ignore-file no-console -- what a program prints is its output
/**
 * Runs every test, then, where SwiftShader is installed, the GPU tests a second time on Dawn. Ends with the line
 * `N passed, N failed` and `deno test`'s verdict as exit code.
 *
 * Arguments go to `deno test`; with any, the second pass is left out unless `--dawn` is among them. (A file named `test.ts` would itself be
 * taken for a test.)
 */

import { findSwiftShader } from "../model/gpu/testing.ts";

/** What the tests may do, and no more. */
const PERMISSIONS = [
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-sys",
  "--allow-ffi",
  "--allow-run",
  "--allow-net=127.0.0.1",
];

/** Counts of one or several runs. */
interface Tally {
  passed: number;
  failed: number;
}

/** Runs `deno test`, showing what it writes, and adds to the tally. */
async function run(tally: Tally, args: string[], env: Record<string, string> = {}): Promise<void> {
  const junit = await Deno.makeTempFile({ suffix: ".xml" });
  try {
    const { code, signal } = await new Deno.Command(Deno.execPath(), {
      args: ["test", ...PERMISSIONS, `--junit-path=${junit}`, ...args],
      env,
      // A native crash may show as a process that never ends.
      signal: AbortSignal.timeout(30 * 60_000),
      stdin: "null",
      stdout: "inherit",
      stderr: "inherit",
    }).spawn().status;
    const head = (await Deno.readTextFile(junit)).match(/<testsuites [^>]*>/)?.[0] ?? "";
    const suites = (await Deno.readTextFile(junit)).match(/<testsuite [^>]*>/g) ?? [];
    const count = (tag: string, name: string) =>
      Number(tag.match(new RegExp(` ${name}="(\\d+)"`))?.[1] ?? 0);
    const failed = count(head, "failures") + count(head, "errors");
    const ignored = suites.reduce((sum, suite) => sum + count(suite, "disabled"), 0);
    tally.passed += count(head, "tests") - failed - ignored;
    // A type error or a crash fails no test, and yet is a failure.
    tally.failed += code !== 0 || signal !== null ? Math.max(1, failed) : failed;
  } finally {
    await Deno.remove(junit);
  }
}

/** Test files that ask `model/gpu/testing.ts` for a device. */
async function gpuTests(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) found.push(...await gpuTests(path));
    else if (
      entry.name.endsWith("_test.ts") && (await Deno.readTextFile(path)).includes("openTestGpu")
    ) found.push(path);
  }
  return found.sort();
}

const args = Deno.args.filter((arg) => arg !== "--dawn");
const all = Deno.args.length === 0;
const tally: Tally = { passed: 0, failed: 0 };
if (all || args.length > 0) await run(tally, args);

if (all || Deno.args.includes("--dawn")) {
  const icd = findSwiftShader();
  if (icd === undefined) {
    console.log("\nSwiftShader is not installed: the GPU tests ran on Deno's WebGPU alone.");
    if (!all) tally.failed++;
  } else {
    console.log(`\nThe GPU tests once more, on Dawn with ${icd}:`);
    // A process a file: Dawn's native objects do not survive the isolate of a test file.
    for (const file of await gpuTests("model")) {
      await run(tally, ["--no-check", file], { ETHOS_GPU: "dawn", ETHOS_ICD: icd });
    }
  }
}
console.log(`\n${tally.passed} passed, ${tally.failed} failed`);
Deno.exit(tally.failed > 0 ? 1 : 0);
