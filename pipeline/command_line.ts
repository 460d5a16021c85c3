/**
 * The command line of a program with stages.
 *
 * @module
 */

import { isAbsolute, resolve } from "@std/path";
import { type Argv, yargs } from "yargs";
import type { Arguments, Command, CommandContext, LoadedExperiment, Program } from "./command.ts";
import { EXPERIMENT_OPTIONS, listArgument, stringArgument } from "./command.ts";
import { COMMANDS } from "./commands/mod.ts";
import { EXIT, exitCodeOf, explain, traceOf, UserError } from "./errors.ts";
import { inspectStore } from "./store/folder.ts";
import { suggestion } from "./terminal/suggest.ts";
import { columnsOf, wrapText } from "./terminal/wrap.ts";

/**
 * Runs one command line to its end and returns the exit code: 0 for done, 1 for failed work, 2 for arguments, a
 * configuration or a store that can't be used (nothing was started), 130 for interrupted.
 *
 * ```ts no-eval
 * import { runCommandLine } from "./command_line.ts";
 * const code = await runCommandLine(Deno.args, {
 *   name: "deno task",
 *   description: "An experiment.",
 *   root: import.meta.dirname!,
 *   defaultConfig: "configs/tiny.yaml",
 *   loadExperiment: async (request) => (await import("./experiment.ts")).loadExperiment(request),
 * });
 * Deno.exit(code);
 * ```
 */
export async function runCommandLine(args: readonly string[], program: Program): Promise<number> {
  let json = args.includes("--json");
  let debug = args.includes("--debug");
  try {
    const commands = [...COMMANDS, ...program.commands ?? []]
      .map((command) => withShorthands(withStageOptions(command, program), program));
    const { shell } = program;
    if (shell !== undefined) commands.push(completion(shell, () => parser));
    let code: number | void = EXIT.ok;
    const parser: Argv = describe(args, program, commands, async (command, parsed) => {
      json = parsed["json"] === true;
      debug = parsed["debug"] === true;
      const context = makeContext(args, parsed, program);
      // Whatever a command does with a store: somebody else's folder is none.
      await inspectStore(context.storeDir);
      code = await command.run(parsed, context);
    });
    await parser.parseAsync(args);
    return code ?? EXIT.ok;
  } catch (error) {
    const message = oneLine(error);
    if (json) write(Deno.stdout, JSON.stringify({ error: message }));
    const columns = columnsOf(Deno.stderr);
    write(Deno.stderr, wrapText(`error: ${message}`, { columns, hang: 2 }));
    if (debug) write(Deno.stderr, traceOf(error));
    return exitCodeOf(error);
  }
}

/** Options of every command. */
const GLOBAL_OPTIONS = ["store", "json", "debug", "help"];

/** A command that runs stages or shows pages, with the program's options for those; any other as it is. */
function withStageOptions(command: Command, { stageOptions, workers, pages }: Program): Command {
  if (command.showsPages === true) {
    return { ...command, options: { ...command.options, ...pages?.options } };
  }
  if (command.runsStages !== true) return command;
  const places = command.startsJobs === true ? workers?.options : {};
  return {
    ...command,
    options: { ...command.options, ...places, ...stageOptions?.options },
    async run(args, context) {
      await stageOptions?.use(args);
      return await command.run(args, context);
    },
  };
}

/** A command that takes `--set`, with options that stand for keys of the configuration; any other as it is. They come after what `--set` says. */
function withShorthands(command: Command, { shorthands = {} }: Program): Command {
  if (command.options?.["set"] !== EXPERIMENT_OPTIONS["set"]) return command;
  const options = Object.entries(shorthands).map(([name, { describe }]) =>
    [name, { type: "string", requiresArg: true, describe }] as const
  );
  return {
    ...command,
    options: { ...command.options, ...Object.fromEntries(options) },
    async run(args, context) {
      const set = Object.entries(shorthands).flatMap(([name, { key }]) => {
        const value = stringArgument(args, name);
        return value === undefined ? [] : [`${key}=${value}`];
      });
      return await command.run({ ...args, set: [...listArgument(args, "set"), ...set] }, context);
    },
  };
}

/** Prints a shell function that runs the program, and a script that completes its commands. */
function completion(shell: NonNullable<Program["shell"]>, parser: () => Argv): Command {
  return {
    name: "completion",
    summary: `Print a script that gives the shell a command \`${shell.name}\` and completes it`,
    examples: [["completion >> ~/.bashrc", "for every new shell (bash or zsh)"]],
    run(_args, context) {
      context.print(`${shell.name}() { ${shell.run} "$@"; }`);
      parser().showCompletionScript(shell.name, "completion");
      return Promise.resolve();
    },
  };
}

/** An error for somebody who did not write the program; its trace is for who did. */
function oneLine(error: unknown): string {
  const message = explain(error);
  if (!(error instanceof Error) || isOurs(error)) return message;
  return `${error.name}: ${message.replace(/\.?$/, ".")} --debug shows where.`;
}

function isOurs(error: Error): boolean {
  return typeof (error as { exitCode?: unknown }).exitCode === "number" ||
    explain(error) !== error.message;
}

function describe(
  args: readonly string[],
  program: Program,
  commands: readonly Command[],
  handle: (command: Command, args: Arguments) => Promise<void>,
): Argv {
  const flags = new Map<string, string[]>();
  const names = commands.map((command) => command.name.split(" ")[0]!);
  let current: string | undefined;
  let parser = yargs()
    .scriptName(program.name)
    .usage(`${program.description}\n\nUsage: $0 <command> [options]`)
    .locale("en")
    .exitProcess(false)
    .showHelpOnFail(false)
    .version(false)
    .help("help")
    .wrap(Math.min(100, columnsOf(Deno.stdout) ?? 100))
    .parserConfiguration({
      "dot-notation": false,
      "duplicate-arguments-array": true,
      "greedy-arrays": false,
      "boolean-negation": false,
      "camel-case-expansion": false,
      "parse-positional-numbers": false,
    })
    .option("store", {
      type: "string",
      requiresArg: true,
      describe: "Where everything is kept (default: $ETHOS_STORE or .ethos)",
    })
    .option("json", { type: "boolean", describe: "Print one JSON value for machines" })
    .option("debug", { type: "boolean", describe: "Show where in the program an error arose" })
    // Hidden: answers the shell's --get-yargs-completions.
    .completion("__complete", false)
    .demandCommand(1, "Expected a command.")
    .strict()
    .epilogue(`Every command explains itself: ${program.name} reproduce --help`)
    .fail((message, error) => {
      // A `YError` is the user's mistake; other errors are not.
      if (error && error.name !== "YError") throw error;
      throw new UserError(
        improve(message ?? error?.message ?? "Bad arguments.", {
          program: program.name,
          commands: names,
          current,
          usage: commands.find(({ name }) => name.split(" ")[0] === current)?.name,
          flags: current === undefined ? GLOBAL_OPTIONS : flags.get(current) ?? [],
        }),
      );
    });
  for (const command of commands) {
    const name = command.name.split(" ")[0]!;
    flags.set(name, [...Object.keys(command.options ?? {}), ...GLOBAL_OPTIONS]);
    parser = parser.command(command.name, command.summary, (argv) => {
      current = name;
      for (const [key, spec] of Object.entries(command.positionals ?? {})) {
        argv = argv.positional(key, spec);
      }
      for (const [key, spec] of Object.entries(command.options ?? {})) {
        argv = argv.option(key, spec);
      }
      for (const [example, description] of command.examples ?? []) {
        argv = argv.example(`$0 ${example}`, description);
      }
      return argv.usage(`${command.summary}\n\nUsage: $0 ${command.name} [options]`).epilogue("");
    }, (parsed) => {
      refuseRepeated(args, command, parsed);
      return handle(command, parsed);
    });
  }
  return parser;
}

/** Only a list may be given again; of anything else it can't be told which one was meant. */
function refuseRepeated(args: readonly string[], command: Command, parsed: Arguments): void {
  for (const [name, value] of Object.entries(parsed)) {
    const spec = { ...command.options, ...command.positionals }[name];
    if (name === "_" || spec?.array === true) continue;
    // The parser adds a second 1 to a number that it has: 2 and 1 are 3.
    const count = spec?.type === "number"
      ? args.filter((word) => word === `--${name}` || word.startsWith(`--${name}=`)).length
      : Array.isArray(value)
      ? value.length
      : 1;
    if (count > 1) throw new UserError(`--${name} is given ${count} times; expected it once.`);
  }
}

/** Turns the parser's message into a sentence with a suggestion. */
function improve(
  message: string,
  known: {
    program: string;
    commands: readonly string[];
    current: string | undefined;
    usage: string | undefined;
    flags: readonly string[];
  },
): string {
  const unknown = /^Unknown (?:argument|command)s?: (.*)$/.exec(message)?.[1]?.split(", ");
  const help = `See \`${known.program} ${known.current ? `${known.current} ` : ""}--help\`.`;
  const empty = /^Not enough arguments following: (.+)$/.exec(message.trim())?.[1];
  if (empty !== undefined) return `--${empty} needs a value. ${help}`;
  const choices = /Argument: ([^,]+), Given: (.+), Choices: (.+)$/s.exec(message);
  if (choices) {
    const [, name, given, allowed] = choices as unknown as [string, string, string, string];
    const expected = allowed.replaceAll('"', "").trim().replace(/, ([^,]+)$/, " or $1");
    return `--${name} is ${given}; expected ${expected}. ${help}`;
  }
  const few = /^Not enough non-option arguments: got (\d+)/.exec(message)?.[1];
  if (few !== undefined) {
    return `Expected \`${known.usage}\`, got ${few} of its arguments. ${help}`;
  }
  if (unknown === undefined) {
    return `${message.replace(/\s+/g, " ").trim().replace(/\.?$/, ".")} ${help}`;
  }
  const sentences = unknown.map((word) => {
    if (known.current === undefined && !known.commands.includes(word)) {
      const flag = suggestion(word, known.flags);
      const command = suggestion(word, known.commands);
      return `Unknown command or option \`${word}\`.${command || flag}`;
    }
    const flag = suggestion(word, known.flags).replace("`", "`--");
    return `Unknown option or argument \`${word}\` for \`${known.current}\`.${flag}`;
  });
  return `${[...new Set(sentences)].join(" ")} ${help}`;
}

function makeContext(
  args: readonly string[],
  parsed: Arguments,
  program: Program,
): CommandContext {
  const command = args.join(" ");
  const given = stringArgument(parsed, "store");
  const storeDir = given !== undefined
    ? resolve(given)
    : resolve(program.root, storeFromEnvironment() ?? program.storeDir ?? ".ethos");
  return {
    program,
    command,
    storeDir,
    json: parsed["json"] === true,
    debug: parsed["debug"] === true,
    print: (line, options) => write(Deno.stdout, options ? fit(line, options.hang) : line),
    warn: (line) => write(Deno.stderr, line),
    experiment: (args) => loadExperiment(args, { program, storeDir }),
    withStore: async (options, work) => {
      const { Store } = await import("./store/store.ts");
      const warn = (line: string) => write(Deno.stderr, line);
      const store = await Store.open(storeDir, { ...options, command, warn });
      let result;
      try {
        result = await work(store);
      } catch (error) {
        // The user has to see the first error, not one from closing.
        await store.close().catch(() => {});
        throw error;
      }
      await store.close();
      return result;
    },
  };
}

function storeFromEnvironment(): string | undefined {
  const permission = Deno.permissions.querySync({ name: "env", variable: "ETHOS_STORE" });
  return permission.state === "granted" ? Deno.env.get("ETHOS_STORE") || undefined : undefined;
}

async function loadExperiment(
  args: Arguments,
  { program, storeDir }: { program: Program; storeDir: string },
): Promise<LoadedExperiment> {
  const given = stringArgument(args, "config");
  const config = given ??
    (isAbsolute(program.defaultConfig)
      ? program.defaultConfig
      : resolve(program.root, program.defaultConfig));
  const seed = args["seed"];
  if (seed !== undefined && !Number.isSafeInteger(seed)) {
    throw new UserError(
      `--seed is ${seed}; expected a whole number up to ${Number.MAX_SAFE_INTEGER}.`,
    );
  }
  const experiment = await program.loadExperiment({
    config,
    set: listArgument(args, "set"),
    ...seed === undefined ? {} : { seed: seed as number },
    storeDir,
    verifyInputs: args["verify-inputs"] === true,
    warn: (line) => write(Deno.stderr, line),
  });
  const { buildGraph } = await import("./graph/graph.ts");
  return { ...experiment, graph: buildGraph(experiment.nodes, experiment.results) };
}

/** A line as it fits the terminal, if standard output is one. */
function fit(line: string, hang: number): string {
  return wrapText(line, { columns: columnsOf(Deno.stdout), hang });
}

function write(to: { writeSync(data: Uint8Array): number }, line: string): void {
  const bytes = new TextEncoder().encode(`${line}\n`);
  try {
    for (let at = 0; at < bytes.length;) at += to.writeSync(bytes.subarray(at));
  } catch (error) {
    // `… | head` is no mistake.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
