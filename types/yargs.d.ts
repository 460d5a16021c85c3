/** Declarations for the parts of `yargs` that the project uses. */

/** One option or positional. */
export interface OptionSpec {
  /** Another, usually one-letter, name. */
  readonly alias?: string;
  /** May be given several times. */
  readonly array?: boolean;
  /** The values that are allowed. */
  readonly choices?: readonly (string | number)[];
  /** The value when it is not given. */
  readonly default?: unknown;
  /** Must be given. */
  readonly demandOption?: boolean;
  /** One line for `--help`. */
  readonly describe?: string;
  /** How many words follow each. */
  readonly nargs?: number;
  /** Must be followed by a value. */
  readonly requiresArg?: boolean;
  /** The type that the value is read as. */
  readonly type?: "string" | "number" | "boolean" | "count";
}

/** Parsed arguments by name. */
export type Arguments = Record<string, unknown> & { readonly _: readonly (string | number)[] };

/** A parser that is being described. */
export interface Argv {
  command(
    name: string | readonly string[],
    description: string | false,
    builder: (argv: Argv) => Argv,
    handler: (args: Arguments) => void | Promise<void>,
  ): Argv;
  completion(name: string, description: string | false): Argv;
  demandCommand(count: number, message?: string): Argv;
  epilogue(text: string): Argv;
  example(command: string, description: string): Argv;
  exitProcess(enabled: boolean): Argv;
  fail(handler: (message: string | null, error: Error | undefined, argv: Argv) => void): Argv;
  getHelp(): Promise<string>;
  help(name: string | false): Argv;
  locale(name: string): Argv;
  option(name: string, spec: OptionSpec): Argv;
  parserConfiguration(configuration: Record<string, boolean>): Argv;
  parseAsync(args: readonly string[]): Promise<Arguments>;
  positional(name: string, spec: OptionSpec): Argv;
  scriptName(name: string): Argv;
  showCompletionScript(name: string, command: string): Argv;
  showHelpOnFail(enabled: boolean): Argv;
  strict(enabled?: boolean): Argv;
  usage(text: string): Argv;
  version(text: string | false): Argv;
  wrap(columns: number): Argv;
}

/** A new parser. */
declare function yargs(args?: readonly string[]): Argv;
export { yargs as default };
