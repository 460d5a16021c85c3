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

/**
 * Milliseconds that one test file may take on Dawn with SwiftShader. The slowest takes two minutes on two cores, most of it compiling
 * kernels.
 */
const DAWN_LIMIT = 360_000;
/** Files that are tested on Dawn at the same time, at most: SwiftShader compiles on one core. */
const DAWN_FILES = 4;

/** Counts of one or several runs. */
interface Tally {
  passed: number;
  failed: number;
}

/** What one run may take. */
interface RunOptions {
  readonly env?: Record<string, string>;
  /** Milliseconds after which the process is ended; 30 minutes unless given. */
  readonly limit?: number;
  /** Shows what it writes when it has ended, so that several can run at a time. */
  readonly late?: boolean;
}

/**
 * Runs `deno test`, showing what it writes, and adds to the tally.
 *
 * @returns Whether it came to an end by itself. What did not is in no tally.
 */
async function run(tally: Tally, args: string[], options: RunOptions = {}): Promise<boolean> {
  const junit = await Deno.makeTempFile({ suffix: ".xml" });
  try {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["test", ...PERMISSIONS, `--junit-path=${junit}`, ...args],
      env: options.env ?? {},
      stdin: "null",
      stdout: options.late ? "piped" : "inherit",
      stderr: options.late ? "piped" : "inherit",
    }).spawn();
    let ended = false;
    const timer = setTimeout(() => {
      ended = true;
      child.kill("SIGKILL");
    }, options.limit ?? 30 * 60_000);
    const { code, signal } = options.late ? await showOutput(child) : await child.status;
    clearTimeout(timer);
    if (ended) return false;
    const head = (await Deno.readTextFile(junit)).match(/<testsuites [^>]*>/)?.[0] ?? "";
    const suites = (await Deno.readTextFile(junit)).match(/<testsuite [^>]*>/g) ?? [];
    const count = (tag: string, name: string) =>
      Number(tag.match(new RegExp(` ${name}="(\\d+)"`))?.[1] ?? 0);
    const failed = count(head, "failures") + count(head, "errors");
    const ignored = suites.reduce((sum, suite) => sum + count(suite, "disabled"), 0);
    tally.passed += count(head, "tests") - failed - ignored;
    // A type error or a crash fails no test, and yet is a failure.
    tally.failed += code !== 0 || signal !== null ? Math.max(1, failed) : failed;
    return true;
  } finally {
    await Deno.remove(junit);
  }
}

/** Waits for a process, and then shows what it wrote. */
async function showOutput(child: Deno.ChildProcess): Promise<Deno.CommandStatus> {
  const output = await child.output();
  for (const text of [output.stdout, output.stderr]) {
    for (let at = 0; at < text.length;) at += Deno.stdout.writeSync(text.subarray(at));
  }
  return output;
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
if ((all || args.length > 0) && !await run(tally, args)) {
  console.log("\nThe tests did not come to an end.");
  tally.failed++;
}

if (all || Deno.args.includes("--dawn")) {
  const icd = findSwiftShader();
  if (icd === undefined) {
    console.log("\nSwiftShader is not installed: the GPU tests ran on Deno's WebGPU alone.");
    if (!all) tally.failed++;
  } else {
    console.log(`\nThe GPU tests once more, on Dawn with ${icd}:`);
    // A process a file: Dawn's native objects do not survive the isolate of a test file.
    const files = await gpuTests("model");
    const unfinished: string[] = [];
    const began = performance.now();
    const options = { env: { ETHOS_GPU: "dawn", ETHOS_ICD: icd }, limit: DAWN_LIMIT, late: true };
    // The longest texts first: their tests take longest, more or less.
    const sizes = new Map(files.map((file) => [file, Deno.statSync(file).size]));
    const left = files.toSorted((a, b) => sizes.get(a)! - sizes.get(b)!);
    const work = async () => {
      for (let file = left.pop(); file !== undefined; file = left.pop()) {
        if (!await run(tally, ["--no-check", file], options)) unfinished.push(file);
      }
    };
    const atOnce = Math.min(DAWN_FILES, navigator.hardwareConcurrency);
    await Promise.all(Array.from({ length: atOnce }, work));
    const seconds = Math.round((performance.now() - began) / 1000);
    console.log(
      `\n${
        files.length - unfinished.length
      } of ${files.length} files came to an end on Dawn, in ${seconds} s`,
    );
    for (const file of unfinished) {
      console.log(`${file} was not done on Dawn after ${DAWN_LIMIT / 1000} s, and was ended`);
    }
    tally.failed += unfinished.length;
  }
}
console.log(`\n${tally.passed} passed, ${tally.failed} failed`);
Deno.exit(tally.failed > 0 ? 1 : 0);
