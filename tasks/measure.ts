// deno-lint-ignore-file no-console -- what a program prints is its output
/**
 * Measures everything that the README's table shows on the GPU that is here, a file each, and prints the table. What is there already is not
 * measured again, so an interrupted run goes on with the same line.
 *
 * ```sh
 * deno task measure --out measured                       # both runtimes, the paper's model
 * deno task measure --table measured --table results/h200/measured
 * ```
 */

import { fromFileUrl, join, resolve } from "@std/path";
import { parseArgs } from "node:util";
import { EXIT, exitCodeOf, explain, messageOf, UserError } from "../pipeline/errors.ts";
import { statOrUndefined } from "../pipeline/store/files.ts";
import { type Interrupt, interruptible } from "../pipeline/run/interrupt.ts";
import { RUNTIMES } from "../stages/commands/gpu_option.ts";
import { type Step, stepsOf } from "./measure/steps.ts";
import { readColumns, renderTable } from "./measure/table.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));

const USAGE = `Measure what the README's table shows on this machine's GPU

Usage: deno task measure --out FOLDER [options]
       deno task measure --table FOLDER [--table FOLDER …]

  --out FOLDER      Keep results here; what is there is not measured again
  --config FILE     Configuration (default: configs/paper.yaml)
  --gpu RUNTIME     deno or dawn; may be repeated (default: both)
  --parity          Also 200 updates in f32 and mixed precision, and the same bits again: needs text in the store,
                    which \`deno task reproduce --only tokenize\` puts there
  --only TEXT       Only steps whose name holds this text; may be repeated
  --list            Say what would be run, and run nothing
  --table FOLDER    Print the table of what was kept, and measure nothing
  --help            Show this`;

/** What the command line asks for. */
interface Options {
  readonly out: string | undefined;
  readonly tables: readonly string[];
  readonly list: boolean;
  readonly steps: readonly Step[];
}

function parse(args: string[]): Options | undefined {
  const text = { type: "string" } as const;
  const texts = { type: "string", multiple: true } as const;
  const flag = { type: "boolean" } as const;
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: {
        ...{ out: text, config: text, gpu: texts, only: texts, table: texts },
        ...{ parity: flag, list: flag, help: flag },
      },
    }));
  } catch (cause) {
    throw new UserError(`${messageOf(cause)}. --help lists the options.`, { cause });
  }
  if (values.help) return undefined;
  const wrong = values.gpu?.find((name) => !RUNTIMES.some((runtime) => runtime === name));
  if (wrong !== undefined) throw new UserError(`--gpu is ${wrong}; expected deno or dawn.`);
  if (!values.list && (values.out === undefined) === (values.table === undefined)) {
    throw new UserError("Expected --out FOLDER to measure, or --table FOLDER to show what was.");
  }
  const { config = "configs/paper.yaml", parity = false, only = [] } = values;
  const steps = RUNTIMES.filter((runtime) => values.gpu?.includes(runtime) ?? true)
    .flatMap((runtime) => stepsOf(runtime, { config, parity }))
    .filter(({ name }) => only.length === 0 || only.some((text) => name.includes(text)));
  if (steps.length === 0) {
    throw new UserError(`--only ${only.join(" --only ")} matches no step; --list shows them.`);
  }
  return { out: values.out, tables: values.table ?? [], list: values.list ?? false, steps };
}

/** How a step ended. */
type Ended = "kept" | "there" | "failed";

/** Runs one command, and keeps its numbers (`.json`) and what it says (`.txt`). Numbers get that name only when they are whole. */
async function run(
  { name, args, continues }: Step,
  { out, interrupt }: { out: string; interrupt: Interrupt },
): Promise<Ended> {
  const file = join(out, `${name}.json`);
  if (await statOrUndefined(file)) return "there";
  const partial = join(out, `${name}.partial.json`);
  const permissions = ["read", "write", "env", "ffi", "sys"].map((what) => `--allow-${what}`);
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--cached-only", "--no-check", ...permissions, "--allow-run=git", "--no-prompt"],
      ...["stages/main.ts", ...args, "--save", partial, ...continues ? ["--continue"] : []],
    ],
    cwd: ROOT,
    stdin: "null",
    stdout: "piped",
  }).spawn();
  // Ctrl-C reaches the command as well, which then keeps what it has; SIGTERM has to be passed on.
  const passOn = () => {
    if (interrupt.exitCode !== EXIT.interrupted) child.kill("SIGTERM");
  };
  interrupt.signal.addEventListener("abort", passOn);
  const { code, stdout } = await child.output();
  interrupt.signal.removeEventListener("abort", passOn);
  await Deno.writeFile(join(out, `${name}.txt`), stdout);
  const whole = code === EXIT.ok || (continues && code === EXIT.failed);
  if (!whole || !await statOrUndefined(partial)) return "failed";
  await Deno.rename(partial, file);
  return "kept";
}

/** Runs what is not there yet, and gives the exit code. */
async function measure(steps: readonly Step[], out: string): Promise<number> {
  await Deno.mkdir(out, { recursive: true });
  // The command says that it stops.
  using interrupt = interruptible(() => {});
  const failed: string[] = [];
  for (const [i, step] of steps.entries()) {
    say(`[${i + 1}/${steps.length}] ${step.name}`);
    const start = performance.now();
    const ended = await run(step, { out, interrupt });
    if (interrupt.signal.aborted) {
      say("interrupted; the same line goes on");
      return interrupt.exitCode;
    }
    if (ended === "failed") failed.push(step.name);
    const seconds = ended === "there"
      ? ""
      : `, ${((performance.now() - start) / 1000).toFixed(0)} s`;
    say(`${step.name}: ${ended}${seconds}`);
  }
  if (failed.length === 0) return EXIT.ok;
  say(`failed: ${failed.join(", ")}; the same line tries them again`);
  return EXIT.failed;
}

function say(line: string): void {
  console.error(`measure: ${line}`);
}

async function printTable(folders: readonly string[]): Promise<void> {
  const columns = [];
  for (const folder of folders) {
    const found = await readColumns(folder);
    if (found.length === 0) {
      throw new UserError(`--table is ${folder}; expected files such as deno-step.json in it.`);
    }
    columns.push(...found);
  }
  console.log(renderTable(columns).trimEnd());
}

async function main(args: string[]): Promise<number> {
  try {
    const options = parse(args);
    if (!options) {
      console.log(USAGE);
      return EXIT.ok;
    }
    const { out, tables, list, steps } = options;
    if (list) {
      for (const { name, args } of steps) console.log(`${name}: ${args.join(" ")}`);
      return EXIT.ok;
    }
    if (out === undefined) {
      await printTable(tables);
      return EXIT.ok;
    }
    const folder = resolve(out);
    const code = await measure(steps, folder);
    // The table is of benchmarks: there may be none when curves were all that was asked for.
    const columns = code > EXIT.failed ? [] : await readColumns(folder);
    if (columns.length > 0) console.log(renderTable(columns).trimEnd());
    return code;
  } catch (error) {
    console.error(`error: ${explain(error)}`);
    return exitCodeOf(error);
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
