/** Declarations for the parts of `yargs` that the project uses. */

/** One option or positional. */
export interface OptionSpec {
  readonly alias?: string;
  readonly array?: boolean;
  readonly choices?: readonly (string | number)[];
  readonly default?: unknown;
  readonly demandOption?: boolean;
  readonly describe?: string;
  readonly nargs?: number;
  readonly requiresArg?: boolean;
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
  showHelpOnFail(enabled: boolean): Argv;
  strict(enabled?: boolean): Argv;
  usage(text: string): Argv;
  version(text: string | false): Argv;
  wrap(columns: number): Argv;
}

/** A new parser. */
declare function yargs(args?: readonly string[]): Argv;
export { yargs as default };
