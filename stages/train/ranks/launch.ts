/**
 * Runs a training in several processes that `mpirun` starts, and passes on what the first of them tells.
 *
 * @module
 */

import { join } from "@std/path";
import { TextLineStream } from "@std/streams";
import type { TrainingHooks, TrainingResult } from "../../../model/training/training.ts";
import { ownCardPrefix } from "./own_card.ts";
import { parseMessage, type RankJob, type StageLine } from "./messages.ts";

/** URL of the ranks' program. */
export const RANK_MODULE: string = import.meta.resolve("./rank.ts");

/** Permissions of a rank: those of the stage, and no programs to run. */
const PERMISSIONS = ["--allow-read", "--allow-write", "--allow-env", "--allow-ffi", "--allow-sys"];

/** Lines of standard error that are kept to explain an end. */
const LAST_LINES = 40;

/** Options of {@linkcode trainOnRanks}. */
export interface RanksOptions {
  /** Processes. */
  readonly ranks: number;
  /** Where the job's file goes. */
  readonly stateDir: string;
  readonly hooks: TrainingHooks;
  readonly signal: AbortSignal;
  /** Takes the first rank's adapter and runtime. */
  readonly provenance: (values: { readonly adapter: string; readonly runtime: string }) => void;
}

/**
 * Trains on several ranks to the end, or until the signal asks to stop.
 *
 * @throws {Error} If `mpirun` can't be started, or a rank fails or dies, in one line; all ranks have ended then.
 */
export async function trainOnRanks(job: RankJob, options: RanksOptions): Promise<TrainingResult> {
  const { ranks, stateDir, signal } = options;
  signal.throwIfAborted();
  const path = join(stateDir, "ranks.json");
  await Deno.writeTextFile(path, JSON.stringify(job));
  const child = startMpi(ranks, [
    ...ownCardPrefix(),
    Deno.execPath(),
    "run",
    ...PERMISSIONS,
    "--no-prompt",
    RANK_MODULE,
    path,
  ]);
  const stage = child.stdin.getWriter();
  const say = (line: StageLine) =>
    // A rank that has ended reads nothing; its end is reported below.
    stage.write(new TextEncoder().encode(line + "\n")).catch(() => {});
  const stop = () => void say("stop");
  signal.addEventListener("abort", stop);
  const told: Told = { errors: [], messages: 0, bytes: 0 };
  try {
    const [status] = await Promise.all([
      child.status,
      listen(linesOf(child.stdout), options, { told, say }),
      keepLast(linesOf(child.stderr), told.errors),
    ]);
    if (told.failed !== undefined) throw new Error(told.failed);
    if (told.stopped) signal.throwIfAborted();
    if (!status.success || !told.result) {
      throw new Error(explainEnd(told.errors, { ranks, code: status.code }));
    }
    options.hooks.info(
      `${ranks} ranks added up their gradients by ${told.messages} messages of ${told.bytes} bytes in all`,
    );
    return told.result;
  } finally {
    signal.removeEventListener("abort", stop);
    // Without the stage's lines the ranks end, if they have not.
    await stage.close().catch(() => {});
    await child.status;
  }
}

/** The ranks' words. */
interface Told {
  result?: TrainingResult;
  stopped?: boolean;
  failed?: string;
  /** Messages that the ranks sent to add up gradients, and their bytes. */
  messages: number;
  bytes: number;
  /** Last lines of standard error. */
  readonly errors: string[];
}

function linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): ReadableStream<string> {
  return stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
}

async function listen(
  lines: ReadableStream<string>,
  { hooks, provenance, ranks }: RanksOptions,
  { told, say }: { readonly told: Told; readonly say: (line: StageLine) => void },
): Promise<void> {
  for await (const line of lines) {
    const message = parseMessage(line);
    switch (message?.kind) {
      case undefined:
        if (line.trim() !== "") hooks.info(line);
        break;
      case "provenance":
        provenance({ adapter: message.adapter, runtime: message.runtime });
        break;
      case "rewind":
        hooks.rewind(message.step);
        break;
      case "write":
        hooks.write(message.step, message.values);
        break;
      case "measure":
        hooks.measure(message.step, message.values as Record<string, number>);
        break;
      case "sample":
        hooks.sample(message.step, message.samples);
        break;
      case "flush":
        await hooks.flush();
        say("flushed");
        break;
      case "progress":
        hooks.progress(message.step, message.remark);
        break;
      case "info":
      case "warn":
        hooks[message.kind](message.message);
        break;
      case "done":
        told.result = message.result;
        break;
      case "sent":
        told.messages += message.messages;
        told.bytes += message.bytes;
        break;
      case "stopped":
        told.stopped = true;
        break;
      case "failed":
        told.failed ??= `rank ${message.rank} of ${ranks}: ${message.message}`;
        break;
    }
  }
}

async function keepLast(lines: ReadableStream<string>, kept: string[]): Promise<void> {
  for await (const line of lines) {
    if (line.trim() === "") continue;
    kept.push(line.trim());
    if (kept.length > LAST_LINES) kept.shift();
  }
}

/** Starts `mpirun` in a session of its own: Ctrl-C reaches the stage alone, which asks the ranks to stop after an update. */
function startMpi(ranks: number, command: readonly string[]): Deno.ChildProcess {
  // Open MPI asks root twice whether it means it.
  const root = Deno.uid() === 0
    ? { OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" }
    : {};
  try {
    return new Deno.Command("mpirun", {
      // Bound to a core, a software device would have that one alone.
      args: ["-n", String(ranks), "--bind-to", "none", ...command],
      env: { NO_COLOR: "1", LP_NUM_THREADS: softwareThreads(ranks), ...root },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      detached: true,
    }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Error(
      "there is no mpirun to start ranks with: `apt-get install openmpi-bin libopenmpi-dev` on Debian",
      { cause: error },
    );
  }
}

/** Threads of llvmpipe in each rank, which share the cores; each rank would start one a core. */
function softwareThreads(ranks: number): string {
  const given = Deno.env.get("LP_NUM_THREADS");
  return given || String(Math.max(1, Math.floor(navigator.hardwareConcurrency / ranks)));
}

/** One line for an end that no rank announced, from the lines that `mpirun` said and its exit code. */
export function explainEnd(
  errors: readonly string[],
  { ranks, code }: { readonly ranks: number; readonly code: number },
): string {
  const goesOn =
    "all ranks ended; the training goes on from its last checkpoint when it is run again";
  const text = errors.join(" ");
  const killed = /process rank (\d+) with PID \d+ on node (\S+) exited on signal (\d+) \(([^)]*)\)/
    .exec(text);
  if (killed) {
    const [, rank, host, signal, name] = killed;
    return `rank ${rank} of ${ranks} on ${host} was ended by signal ${signal} (${name}): ${goesOn}`;
  }
  const exited = /Process name: \[\[[^\]]*\],(\d+)\]\s+Exit code:\s+(\d+)/.exec(text);
  if (exited) return `rank ${exited[1]} of ${ranks} ended with exit code ${exited[2]}: ${goesOn}`;
  const said = errors.filter((line) => !/^[-=*]+$/.test(line)).slice(0, 3).join(" ");
  return `mpirun ended with exit code ${code}` + (said ? `: ${said}` : "");
}
