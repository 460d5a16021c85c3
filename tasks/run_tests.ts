// deno-lint-ignore-file no-console -- what a program prints is its output
/**
 * Runs every test, the engine's and the stages' beside the others. Where SwiftShader is installed, runs the GPU tests a second time on Dawn, beside the others: the
 * others wait for devices and programs while these compile kernels. Ends with the line `N passed, N failed` and
 * `deno test`'s verdict as exit code.
 *
 * Arguments go to `deno test`; with any, the second pass runs only if `--dawn` is among them. (Deno would take a file
 * named `test.ts` for a test.)
 */

import { setPriority } from "node:os";
import { findSwiftShader } from "../model/gpu/testing.ts";

/** The only permissions that the tests get. */
const PERMISSIONS = [
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-sys",
  "--allow-ffi",
  "--allow-run",
  "--allow-net=127.0.0.1",
];

/** Folders whose tests are processes of their own, beside that of all others. */
const BESIDE = ["pipeline", "stages"];
/**
 * Milliseconds that one test file may take on Dawn with SwiftShader. The slowest takes four to twelve
 * minutes on two cores beside the tests on Deno, most of it compiling kernels.
 */
const DAWN_LIMIT = 1_200_000;
/** Files that are tested on Dawn at the same time, at most: SwiftShader compiles on one core. */
const DAWN_FILES = 4;
/**
 * Makes glibc keep freed memory, in one pool. SwiftShader's compiler takes and frees megabytes with every kernel.
 * Asking the system for them anew takes a sixth to a fifth of the tests' time.
 */
const GLIBC_TUNABLES = [
  "arena_max=1",
  "hugetlb=1",
  "mmap_threshold=1073741824",
  "top_pad=67108864",
  "trim_threshold=4294967296",
].map((tunable) => `glibc.malloc.${tunable}`).join(":");

/** Counts of one or several runs. */
interface Tally {
  passed: number;
  failed: number;
}

/** Options of one run. */
interface RunOptions {
  readonly env?: Record<string, string>;
  /** Milliseconds after which the process is ended; 30 minutes unless given. */
  readonly limit?: number;
  /** How willingly it lets others go first, up to 19. */
  readonly nice?: number;
  /** Is given what it writes when it has ended, so that several can run at a time. */
  readonly show?: (written: Deno.CommandOutput) => void;
}

/**
 * Runs `deno test`, showing what it writes unless `show` does, and adds to the tally.
 *
 * @returns Whether it ended by itself; otherwise no tally holds it.
 */
async function run(
  tally: Tally,
  args: string[],
  { env = {}, limit = 30 * 60_000, nice = 0, show }: RunOptions = {},
): Promise<boolean> {
  const junit = await Deno.makeTempFile({ suffix: ".xml" });
  try {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["test", ...PERMISSIONS, `--junit-path=${junit}`, ...args],
      env,
      stdin: "null",
      stdout: show ? "piped" : "inherit",
      stderr: show ? "piped" : "inherit",
    }).spawn();
    if (nice > 0) setPriority(child.pid, nice);
    let ended = false;
    const timer = setTimeout(() => {
      ended = true;
      child.kill("SIGKILL");
    }, limit);
    const output = show && await child.output();
    const { code, signal } = output ?? await child.status;
    clearTimeout(timer);
    if (output) show(output);
    if (ended) return false;
    const report = await Deno.readTextFile(junit);
    const head = report.match(/<testsuites [^>]*>/)?.[0] ?? "";
    const suites = report.match(/<testsuite [^>]*>/g) ?? [];
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

/** Writes out what a process wrote. */
function write({ stdout, stderr }: Deno.CommandOutput): void {
  for (const text of [stdout, stderr]) {
    for (let at = 0; at < text.length;) at += Deno.stdout.writeSync(text.subarray(at));
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

/**
 * Runs the files of GPU tests on Dawn, a process each: Dawn's native objects do not survive the isolate of a test file.
 *
 * @returns How many came to an end, and which did not, to be said after their output.
 */
async function runOnDawn(
  tally: Tally,
  icd: string,
  show: (written: Deno.CommandOutput) => void,
): Promise<string> {
  // Measurements need no second runtime.
  const files = (await gpuTests("model")).filter((file) => !file.startsWith("model/bench/"));
  const unfinished: string[] = [];
  const began = performance.now();
  const env = { ETHOS_GPU: "dawn", ETHOS_ICD: icd, GLIBC_TUNABLES };
  // The tests on Deno come one after another and wait a lot: they go first, and these take what is left.
  const options = { env, limit: DAWN_LIMIT, nice: 10, show };
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
  tally.failed += unfinished.length;
  const seconds = Math.round((performance.now() - began) / 1000);
  return [
    `${
      files.length - unfinished.length
    } of ${files.length} files came to an end on Dawn, in ${seconds} s`,
    ...unfinished.map((file) =>
      `${file} was not done on Dawn after ${DAWN_LIMIT / 1000} s, and was ended`
    ),
  ].join("\n");
}

/** Runs tests on Deno to their end, which may fail to come. */
async function runPart(tally: Tally, args: string[], options: RunOptions = {}): Promise<void> {
  if (await run(tally, args, options)) return;
  console.log(`\nThe tests did not come to an end: deno test ${args.join(" ")}`);
  tally.failed++;
}

/**
 * Runs all tests on Deno in a few processes: the engine's and the stages' wait for programs and daemons most of the
 * time, the models' for kernels that compile.
 */
async function runOnDeno(tally: Tally): Promise<void> {
  const beside: Deno.CommandOutput[] = [];
  await Promise.all([
    runPart(tally, [`--ignore=${BESIDE.join(",")}`]),
    ...BESIDE.map((folder) =>
      runPart(tally, [folder], { show: (written) => void beside.push(written) })
    ),
  ]);
  for (const written of beside) write(written);
}

const args = Deno.args.filter((arg) => arg !== "--dawn");
const all = Deno.args.length === 0;
const tally: Tally = { passed: 0, failed: 0 };
const onDeno = all ? runOnDeno(tally) : args.length > 0 ? runPart(tally, args) : Promise.resolve();
if (all || Deno.args.includes("--dawn")) {
  const icd = findSwiftShader();
  if (icd === undefined) {
    await onDeno;
    console.log("\nSwiftShader is not installed: the GPU tests ran on Deno's WebGPU alone.");
    if (!all) tally.failed++;
  } else {
    // Dawn's output is shown after all of Deno's.
    let shown = onDeno.then(() => console.log(`\nThe GPU tests once more, on Dawn with ${icd}:`));
    const told = await runOnDawn(tally, icd, (written) => {
      shown = shown.then(() => write(written));
    });
    await shown;
    console.log(`\n${told}`);
  }
}
await onDeno;
console.log(`\n${tally.passed} passed, ${tally.failed} failed`);
Deno.exit(tally.failed > 0 ? 1 : 0);
