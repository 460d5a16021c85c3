/**
 * Types between the engine and a program: the program, its commands, and the experiment that it loads.
 *
 * @module
 */

import type { Arguments, OptionSpec } from "yargs";
import type { ProgramPages } from "./dashboard/pages.ts";
import type { DashboardHints } from "./dashboard/server.ts";
import { UserError } from "./errors.ts";
import type { JobProgram, Worker } from "./executors/executor.ts";
import type { Graph } from "./graph/graph.ts";
import type { JsonValue, NodeSpec, ResultSpec } from "./stage.ts";
import type { Store } from "./store/store.ts";

export type { JobProgram, Worker } from "./executors/executor.ts";
export type { Arguments, OptionSpec } from "yargs";

/** A program with stages; `runCommandLine` runs it. */
export interface Program {
  /** Users type it before a command: `deno task`. */
  readonly name: string;
  /** One sentence for `--help`. */
  readonly description: string;
  /** Heads the dashboard; `name` unless given. */
  readonly title?: string;
  /** The stages' metrics, as the dashboard knows them. */
  readonly dashboard?: DashboardHints;
  /** Further pages of the dashboard. */
  readonly pages?: ProgramPages;
  /** Folder of `deno.json` and `deno.lock`; relative paths of results and the store are seen from here. */
  readonly root: string;
  /** The configuration without `--config`. */
  readonly defaultConfig: string;
  /** Where everything is kept when neither `--store` nor `ETHOS_STORE` says so; `.ethos` unless given. */
  readonly storeDir?: string;
  /** Reads a configuration and wires its nodes. Only commands that need nodes call it, so it may import lazily. */
  loadExperiment(request: ExperimentRequest): Promise<Experiment>;
  /** Commands beside the engine's own. */
  readonly commands?: readonly Command[];
  /** Options of the engine's commands that run stages, beside their own. */
  readonly stageOptions?: StageOptions;
  /** Options that stand for keys of the configuration, in every command that takes `--set`: `--extend 300` is `--set train.extend=300`. */
  readonly shorthands?: Readonly<Record<string, Shorthand>>;
  /** How the program is started again for a job; without it every node runs in the command's own process. */
  readonly job?: JobProgram;
  /** How many `gpu` nodes the command's own process runs at a time, asked when the first is due; one unless given. */
  readonly gpuNodes?: () => Promise<number>;
  /** Gives each worker a device. Without it workers share whatever there is. */
  readonly workers?: WorkerOptions;
  /** Gives the program a name in a shell, so that the shell can complete its commands. */
  readonly shell?: {
    /** A name: `ethos`. */
    readonly name: string;
    /** The command that the name stands for: `deno run -A /home/me/ethos/stages/main.ts`. */
    readonly run: string;
  };
}

/**
 * Options that tell stages how to work, such as the device to compute on. No key includes them; a stage names in its
 * provenance what it used.
 */
export interface StageOptions {
  /** Options, without `--`. */
  readonly options: Readonly<Record<string, OptionSpec>>;
  /** Takes the options before anything is read or started; a `UserError` refuses the command. */
  use(args: Arguments): Promise<void>;
}

/** An option that stands for a key of the configuration. */
export interface Shorthand {
  /** The key that it sets: `train.extend`. */
  readonly key: string;
  readonly describe: string;
}

/** How the workers of one host share its devices. */
export interface WorkerOptions {
  /** Options of the commands that start workers, without `--`. */
  readonly options: Readonly<Record<string, OptionSpec>>;
  /**
   * Makes `count` workers, by default one for each device. A `UserError` refuses the command before anything is started.
   */
  plan(args: Arguments, count: number | undefined): Promise<readonly Worker[]>;
}

/** The configuration and options that the user gave. */
export interface ExperimentRequest {
  /** Path of the configuration, as typed or the program's default. */
  readonly config: string;
  /** `--set` in order: `model.ffn.d_latent=64`. */
  readonly set: readonly string[];
  /** `--seed`. */
  readonly seed?: number;
  /** Absolute path of the store, which may not be there; to read from, never to write to. */
  readonly storeDir?: string;
  /** `--verify-inputs`: reads every input file anew instead of trusting what is known of it. */
  readonly verifyInputs?: boolean;
  /** Writes a line to standard error. */
  readonly warn?: (line: string) => void;
}

/** The nodes that a configuration asks for. */
export interface Experiment {
  /** Target nodes; the engine finds the nodes that they read. */
  readonly nodes: readonly NodeSpec[];
  /** Outputs to copy for people to look at. */
  readonly results?: readonly ResultSpec[];
  /** The validated configuration, kept with the run. */
  readonly configuration: JsonValue;
  /** Where it came from, kept with the run. */
  readonly configPath: string;
  /** Whether the metrics of running nodes go to event files for TensorBoard too, in the folder `tensorboard` of the store. */
  readonly tensorboard?: boolean;
  /** Called once the store is open for a run: keeps there what the loading found out, to save work the next time. */
  remember?(storeDir: string): Promise<void>;
}

/** A command of the command line. */
export interface Command {
  /** Name and positionals as yargs writes them: `check-golden <dir>`. */
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  /** Arguments after the program's name, and what they do. */
  readonly examples?: readonly (readonly [args: string, description: string])[];
  /** Positionals of `name`. */
  readonly positionals?: Readonly<Record<string, OptionSpec>>;
  /** Options, without `--`. */
  readonly options?: Readonly<Record<string, OptionSpec>>;
  /** Whether it runs stages, and so takes the program's `stageOptions`. */
  readonly runsStages?: boolean;
  /** Whether it takes the options of the program's `pages`. */
  readonly showsPages?: boolean;
  /** Whether it can run them as jobs, and so takes the options of the program's `workers`. */
  readonly startsJobs?: boolean;
  /**
   * Runs the command and returns an exit code, or nothing for 0. A `UserError` is printed in one line. Heavy modules
   * are imported here.
   */
  run(args: Arguments, context: CommandContext): Promise<number | void>;
}

/** The program, the store and the options that a command works with. */
export interface CommandContext {
  /** The program that `runCommandLine` runs. */
  readonly program: Program;
  /** The command line that the user typed, for logs and locks. */
  readonly command: string;
  /** Absolute path of the store. */
  readonly storeDir: string;
  /** True with `--json`: print only one JSON value. */
  readonly json: boolean;
  /** True with `--debug`: errors come with their traces. */
  readonly debug: boolean;
  /** Writes a line to standard output. With `hang`, the part that doesn't fit a terminal goes below, indented. */
  print(line: string, options?: { hang: number }): void;
  /** Writes a line to standard error. */
  warn(line: string): void;
  /** Loads the experiment that `--config`, `--set` and `--seed` name (see `EXPERIMENT_OPTIONS`), checked. */
  experiment(args: Arguments): Promise<LoadedExperiment>;
  /**
   * Opens the store while `work` runs. Without `create`, an absent store is an empty one in memory. With `look`, `work`
   * only reads, nothing is written, and it sees what another process has published if that holds the store. With `wait`,
   * it waits for such a process instead of refusing.
   */
  withStore<T>(
    options: { create: boolean; look?: boolean; wait?: boolean },
    work: (store: Store) => Promise<T>,
  ): Promise<T>;
}

/** An experiment with its checked graph. */
export interface LoadedExperiment extends Experiment {
  /** The nodes, checked and in order. */
  readonly graph: Graph;
}

/**
 * Refuses to go on without a store.
 *
 * @throws UserError when there is none, or its folder is empty.
 */
export async function assertStore({ storeDir }: Pick<CommandContext, "storeDir">): Promise<void> {
  const { inspectStore } = await import("./store/folder.ts");
  const folder = await inspectStore(storeDir);
  if (folder === "marked" || folder === "unmarked") return;
  throw new UserError(`There is no store at ${storeDir}; run \`reproduce\` first.`);
}

/** Options that name an experiment, for commands that need its nodes. */
export const EXPERIMENT_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  config: { type: "string", requiresArg: true, describe: "Configuration file" },
  set: {
    type: "string",
    array: true,
    nargs: 1,
    requiresArg: true,
    describe: "Override one value of the configuration, a.b=value; may be repeated",
  },
  seed: { type: "number", requiresArg: true, describe: "Seed of the experiment" },
};

/** The option of commands whose answer depends on the contents of input files. */
export const INPUT_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  "verify-inputs": {
    type: "boolean",
    describe: "Read every input file anew instead of trusting its size and times",
  },
};

/** The value of a string option, if given. */
export function stringArgument(args: Arguments, name: string): string | undefined {
  const value = args[name];
  return value === undefined || value === null ? undefined : String(value);
}

/** All values of a repeatable option. */
export function listArgument(args: Arguments, name: string): string[] {
  const value = args[name];
  if (value === undefined || value === null) return [];
  return (Array.isArray(value) ? value : [value]).map(String);
}
