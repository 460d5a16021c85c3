/**
 * The script of a job array: an index of it runs the node whose key is on that line of `keys`, beside the script.
 *
 * Values of directives are checked where they are read (`options.ts`). All other values are quoted for the shell.
 *
 * @module
 */

import type { GraphNode } from "../../graph/graph.ts";
import type { JobProgram } from "../executor.ts";
import type { RunRequest } from "../job_files.ts";
import { resourcesOf, type SlurmOptions, type SlurmResources } from "./options.ts";
import type { Wave } from "./waves.ts";

/** All that a script says. */
export interface ArrayScript {
  /** Name of the jobs. */
  readonly name: string;
  /** How many nodes the array runs. */
  readonly tasks: number;
  /** How many of them run at a time. */
  readonly throttle: number;
  /** Resources of each. */
  readonly resources: SlurmResources;
  /** Seconds before the time limit at which the program is told. */
  readonly checkpoint_seconds: number;
  /** Folder that the program runs in. */
  readonly cwd: string;
  /** The program and its arguments; the index in the array and the node's key follow. */
  readonly command: readonly string[];
}

/** Writes the script. */
export function arrayScript(script: ArrayScript): string {
  const { resources: { gpus = 0, gpu_type, ...resources } } = script;
  const throttle = script.throttle < script.tasks ? `%${script.throttle}` : "";
  const directives: Record<string, string | number | boolean | undefined> = {
    "job-name": script.name,
    array: `0-${script.tasks - 1}${throttle}`,
    partition: resources.partition,
    account: resources.account,
    qos: resources.qos,
    time: resources.time,
    mem: resources.memory,
    "cpus-per-task": resources.cpus,
    gres: gpus === 0
      ? undefined
      : ["gpu", ...gpu_type === undefined ? [] : [gpu_type], gpus].join(":"),
    ...resources.directives,
    // To the shell alone, in whose place the program runs. SIGUSR1 would open Deno's inspector to all on the host.
    signal: `B:USR2@${script.checkpoint_seconds}`,
    requeue: true,
    "open-mode": "append",
    output: "%a.log",
  };
  return [
    "#!/bin/bash",
    ...Object.entries(directives).flatMap(([key, value]) => directive(key, value)),
    "set -e",
    "mapfile -t keys < keys",
    ...resources.setup ?? [],
    `cd ${quoteShell(script.cwd)}`,
    `exec ${
      script.command.map(quoteShell).join(" ")
    } "$SLURM_ARRAY_TASK_ID" "\${keys[SLURM_ARRAY_TASK_ID]}"`,
    "",
  ].join("\n");
}

function directive(key: string, value: string | number | boolean | undefined): string[] {
  if (value === undefined || value === false) return [];
  if (value === true) return [`#SBATCH --${key}`];
  const plain = /^[A-Za-z0-9_.,:=+/@%-]+$/.test(`${value}`);
  return [`#SBATCH --${key}=${plain ? value : `"${value}"`}`];
}

/** One word of a POSIX shell, whatever it holds. */
export function quoteShell(word: string): string {
  return /^[A-Za-z0-9_.,:=+/@%-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The script of a wave. */
export function jobScript(
  { slurm, program, store, request }: {
    readonly slurm: SlurmOptions;
    readonly program: JobProgram;
    readonly store: { readonly dir: string };
    readonly request: Pick<RunRequest, "cwd">;
  },
  wave: Pick<Wave, "name" | "run" | "throttle"> & {
    readonly node: GraphNode;
    readonly tasks: readonly unknown[];
  },
): string {
  return arrayScript({
    name: wave.name,
    tasks: wave.tasks.length,
    throttle: wave.throttle,
    resources: resourcesOf(slurm, wave.node.stage),
    checkpoint_seconds: slurm.checkpoint_seconds,
    cwd: request.cwd,
    command: [
      Deno.execPath(),
      "run",
      "--quiet",
      ...program.flags,
      program.main,
      "run-node",
      "--store",
      store.dir,
      "--run",
      wave.run,
      "--wave",
      wave.name,
      "--index",
    ],
  });
}
