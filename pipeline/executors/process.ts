/**
 * The executor of processes of this host: each node is a job, the program started again, and each worker has a device
 * of its own.
 *
 * A job talks on its standard output (`events.ts`) and listens on its standard input: `stop` asks it to stop at a safe
 * place, and the end of the pipe says that the coordinator is gone.
 *
 * @module
 */

import { TextLineStream } from "@std/streams";
import { UserError } from "../errors.ts";
import { isPublication, type NodeRecord } from "../store/records/records.ts";
import type { Store } from "../store/store.ts";
import { decodeEvent, EventPlayer, type JobEnd } from "./events.ts";
import type { Executor, Job, JobProgram, RunStart, Worker } from "./executor.ts";
import { JobError } from "./job_error.ts";
import { JobFiles, type RunRequest } from "./job_files.ts";
import { JobLog } from "./job_log.ts";

/** Options of all jobs. */
export interface ProcessOptions {
  /** The open store. */
  readonly store: Store;
  /** How the program is started. */
  readonly program: JobProgram;
  /** A worker for each `gpu` node at a time, at least one. */
  readonly workers: readonly Worker[];
  /** Arguments that the jobs repeat. */
  readonly request: RunRequest;
}

/**
 * Makes the executor.
 *
 * @throws UserError when this process may not start the program.
 */
export async function createProcessExecutor(options: ProcessOptions): Promise<Executor> {
  const { state } = await Deno.permissions.query({ name: "run", command: Deno.execPath() });
  const prefixed = options.workers.some(({ prefix }) => prefix.length > 0);
  const all = (await Deno.permissions.query({ name: "run" })).state;
  if (state !== "granted" || (prefixed && all !== "granted")) {
    throw new UserError("--executor process starts programs; expected Deno's --allow-run.");
  }
  return new ProcessExecutor(options);
}

class ProcessExecutor implements Executor {
  readonly #options: ProcessOptions;
  readonly #free: Worker[];
  readonly #children = new Set<Deno.ChildProcess>();

  constructor(options: ProcessOptions) {
    this.#options = options;
    this.#free = [...options.workers];
  }

  get gpus(): number {
    return this.#options.workers.length;
  }

  async prepare(start: RunStart): Promise<void> {
    const { store, request } = this.#options;
    const files = new JobFiles(store.dir, start.run);
    await files.writeRun({ format: 1, ...start, ...request }, store.temporary);
  }

  async run(job: Job): Promise<NodeRecord> {
    const { store } = this.#options;
    const files = new JobFiles(store.dir, job.run);
    const worker = job.node.stage.resource === "gpu" ? this.#free.shift() : undefined;
    try {
      await files.writeTicket(job, worker?.name ?? "");
      const ended = await this.#runProcess(job, worker, files.logPath(job.key));
      // The manifest is the truth: a job may have been ended right after it.
      const record = await store.takeIn(job.key);
      if (record !== undefined && !isPublication(record, job.replaces)) {
        await files.removeTicket(job.key);
        return record;
      }
      throw failure(job, ended, files.logPath(job.key));
    } finally {
      if (worker !== undefined) this.#free.push(worker);
    }
  }

  end(): void {
    for (const child of this.#children) kill(child, "SIGKILL");
  }

  async #runProcess(job: Job, worker: Worker | undefined, logPath: string): Promise<Ended> {
    const child = this.#spawn(job, worker);
    this.#children.add(child);
    using log = new JobLog(logPath);
    log.head(job.node.name, child.pid, worker?.name ?? "");
    const player = new EventPlayer(job.display);
    let starved = false;
    const input = child.stdin.getWriter();
    const stop = () => void input.write(new TextEncoder().encode("stop\n")).catch(() => {});
    if (job.signal.aborted) stop();
    job.signal.addEventListener("abort", stop, { once: true });
    try {
      const [status] = await Promise.all([
        child.status,
        listen(child.stdout, (line) => {
          const event = decodeEvent(line);
          if (event === undefined) return log.line(line);
          player.play(event);
          if (event.type === "line") log.line(event.text);
        }),
        listen(child.stderr, (line) => {
          log.line(line);
          starved ||= NO_MEMORY.test(line);
        }),
      ]);
      return { status, starved, ...player.end !== undefined && { end: player.end } };
    } finally {
      this.#children.delete(child);
      job.signal.removeEventListener("abort", stop);
      await input.close().catch(() => {});
      player.stop();
    }
  }

  #spawn({ key, run, debug }: Job, worker: Worker | undefined): Deno.ChildProcess {
    const { program, store } = this.#options;
    const [command, ...args] = [
      ...worker?.prefix ?? [],
      Deno.execPath(),
      "run",
      "--quiet",
      ...program.flags,
      program.main,
      "run-node",
      key,
      "--run",
      run,
      "--store",
      store.dir,
      "--attached",
      ...debug ? ["--debug"] : [],
    ];
    return new Deno.Command(command!, {
      args,
      env: { ...worker?.env },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }
}

/** The last words of V8 and of Rust. */
const NO_MEMORY = /\bout of memory\b|memory allocation of \d+ bytes failed/i;

interface Ended {
  /** Whether it said that it had no memory left. */
  readonly starved: boolean;
  readonly status: Deno.CommandStatus;
  readonly end?: JobEnd;
}

async function listen(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  take: (line: string) => void,
): Promise<void> {
  const lines = stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
  for await (const line of lines) take(line);
}

/** Says in one line why a job published nothing, and where its log is. */
function failure(job: Job, { status, end, starved }: Ended, log: string): Error {
  if (job.signal.aborted) return new Error("Interrupted", { cause: job.signal.reason });
  const named = (text: string) => `${text.replace(/\.?$/, ".")} Its log is ${log}`;
  if (end?.state === "failed" || end?.state === "refused") {
    const { message = "It failed", code, trace, state } = end;
    return new JobError(named(message), {
      refused: state === "refused",
      ...code !== undefined && { code },
      ...trace !== undefined && { trace },
    });
  }
  if (end?.state === "interrupted") return new JobError(named("The job was told to stop"));
  if (end?.state === "published") {
    return new JobError(named("The node that the job published is damaged"));
  }
  if (starved) return new JobError(named("The job ran out of memory"));
  if (status.signal === "SIGKILL") {
    return new JobError(named("The job was killed by SIGKILL, by hand or for want of memory"));
  }
  if (status.signal !== null) return new JobError(named(`The job was killed by ${status.signal}`));
  return new JobError(named(`The job ended with exit code ${status.code} and without a word`));
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended.
  }
}
